"""What it costs to start the command line, in starts of a bare interpreter.

    python benchmarks/start_up.py [--rounds 20]

The contenders run by turns, each in a process of its own; CPU time, the median of all rounds.
Beside the commands stands what they cannot go below: ``import click``, and with attrs.

Ends with status 1 where an aim is missed.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import tell

TIMES = 4.0
"""The aim, in starts of a bare interpreter."""
COMMANDS = (["--help"], ["runners"], ["status"], ["trials"], ["watch", "--once"])
AIMED = ("--help", "runners", "status")
JOURNAL = (
    '{"k":"run","format":1,"t":1.0,"run_id":"0123456789","runner":"joblib"}\n'
    '{"k":"trial","t":2.0,"i":0,"p":{"x":0.5}}\n'
    '{"k":"outcome","t":3.0,"i":0,"state":"SUCCEEDED","cause":null,"message":"",'
    '"results":{"loss":[0.5,null]}}\n'
)


def seconds(command: list[str], folder: Path) -> float:
    """The CPU time of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    python, axsched = sys.executable, str(Path(sys.executable).with_name("axsched"))
    contenders = {
        "python -c pass": [python, "-c", "pass"],
        "import click": [python, "-c", "import click"],
        "import click, attrs": [python, "-c", "import click, attrs"],
        **{f"axsched {' '.join(words)}": [axsched, *words] for words in COMMANDS},
    }
    spent: dict[str, list[float]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory(prefix="axsched-start-up-") as place:
        run = Path(place) / "outputs" / "run"
        run.mkdir(parents=True)
        (run / "journal.jsonl").write_text(JOURNAL)
        for command in contenders.values():
            seconds(command, Path(place))  # compiles, and fills the caches
        for _ in range(rounds):
            for name, command in contenders.items():
                spent[name].append(seconds(command, Path(place)))
    bare = statistics.median(spent["python -c pass"])
    print(f"{'':<22}{'CPU, ms':>9}{'times bare':>12}")
    for name, found in spent.items():
        median = statistics.median(found)
        print(f"{name:<22}{median * 1e3:>9.0f}{median / bare:>12.1f}")
    aims = {}
    for name in AIMED:
        times = statistics.median(spent[f"axsched {name}"]) / bare
        words = f"axsched {name} takes {times:.1f} starts of a bare interpreter (at most {TIMES:g})"
        aims[words] = times <= TIMES
    return tell(aims)


if __name__ == "__main__":
    raise SystemExit(main())
