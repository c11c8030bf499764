"""Run all benchmarks, and write what they print into docs/performance.md.

    python benchmarks/run_all.py [--quick] [--only NAME ...]

Between the lines ``<!-- NAME -->`` and ``<!-- end -->`` the document holds what the benchmark of
that name has printed, with the machine, the versions and the day; the words around are written by
hand, and hold no figures. With ``--quick`` each runs in a small form, to show that it works:
nothing is written, and a missed aim is no error.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path

from attrs import frozen

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "docs" / "performance.md"
SHOWN = ("ax-platform", "botorch", "torch", "joblib", "optuna", "docker", "distributed")
MISSED = 1
"""The exit status of a benchmark that has missed an aim."""


@frozen
class Benchmark:
    """One run of a benchmark."""

    name: str
    """In the document."""
    command: str
    quick: str
    """The arguments of the small form; "": it has none that is quick."""


FAST = "axsched isolated no-prefetch async batch optuna"
"""The contenders of benchmarks/peers.py but Ax's Orchestrator, which starts a trial a second."""

ALL = (
    Benchmark(
        "sobol-50ms",
        f"peers.py --only {FAST}",
        "peers.py --trials 6 --workers 2 --repeats 1 --only axsched async",
    ),
    Benchmark("orchestrator", "peers.py --repeats 1 --only axsched orchestrator", ""),
    Benchmark("sobol-mixed", f"peers.py --objective mixed --only {FAST}", ""),
    Benchmark(
        "sobol-1000", f"peers.py --objective no-op --trials 1000 --repeats 3 --only {FAST}", ""
    ),
    Benchmark(
        "sobol-3000",
        "peers.py --objective no-op --trials 3000 --repeats 3 --only axsched",
        "",
    ),
    Benchmark(
        "model",
        "peers.py --objective branin --strategy model --trials 30 --workers 4 --repeats 5 "
        "--only axsched no-prefetch async batch",
        "",
    ),
    Benchmark("first-trial", "first_trial.py", "first_trial.py --rounds 1"),
    Benchmark("isolation", "isolation.py", "isolation.py --jobs 1 --rounds 1"),
    Benchmark("scale", "scale.py", "scale.py --quick"),
    Benchmark("rest", "rest.py", "rest.py --seconds 1"),
    Benchmark("generation", "generation.py", "generation.py --candidates 1 --data 5"),
    Benchmark("regret", "regret.py", "regret.py --seeds 2 --trials 9 --workers 2 --problem branin"),
    Benchmark("early-stopping", "stopping.py", "stopping.py --seeds 1 --trials 4 --epochs 3"),
    Benchmark("view", "view.py", "view.py --trials 300 --rounds 1"),
    Benchmark("start-up", "start_up.py", "start_up.py --rounds 1"),
    Benchmark("content", "content.py", "content.py --trials 20"),
    Benchmark("durable", "durable.py", "durable.py --trials 20 --workers 2 --rounds 1"),
    Benchmark("docker", "docker.py", ""),
    Benchmark("slurm", "slurm.py", ""),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", choices=[one.name for one in ALL])
    arguments = parser.parse_args()
    broken = []
    for one in ALL:
        command = one.quick if arguments.quick else one.command
        if not command or (arguments.only and one.name not in arguments.only):
            continue
        print(f"{one.name}: python benchmarks/{command}", flush=True)
        script, *words = shlex.split(command)
        ran = subprocess.run(
            [sys.executable, str(HERE / script), *words],
            capture_output=True,
            text=True,
            check=False,
        )
        print(ran.stdout, flush=True)
        if ran.returncode not in (0, MISSED) or "Traceback" in ran.stderr:
            print(ran.stderr, file=sys.stderr)
            broken.append(one.name)
        elif not arguments.quick:
            write(one, ran.stdout)
    if broken:
        print(f"broken: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


def write(benchmark: Benchmark, printed: str) -> None:
    """Put what a benchmark has printed into the document."""
    progress = ("Outputs:", "[")
    lines = [line.rstrip() for line in printed.splitlines() if not line.startswith(progress)]
    text = "\n".join(lines).strip("\n")
    block = (
        f"<!-- {benchmark.name} -->\n\n`python benchmarks/{benchmark.command}`, {machine()}:\n\n"
        f"```text\n{text}\n```\n\n<!-- end -->"
    )
    pattern = rf"<!-- {re.escape(benchmark.name)} -->.*?<!-- end -->"
    document, found = re.subn(pattern, lambda _: block, DOCUMENT.read_text(), flags=re.DOTALL)
    if found != 1:
        raise SystemExit(f"{DOCUMENT} has {found} places for {benchmark.name!r}, not one")
    DOCUMENT.write_text(document)


def machine() -> str:
    """The day, the machine and the versions, in words."""
    versions = [f"Python {platform.python_version()}"]
    for name in SHOWN:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    today = datetime.datetime.now(datetime.UTC).date()
    return f"{today}, {os.cpu_count()} cores, {platform.system()}, {', '.join(versions)}"


if __name__ == "__main__":
    raise SystemExit(main())
