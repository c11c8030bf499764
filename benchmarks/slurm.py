"""A Slurm cluster's work, and what a user waits for: axsched against submitit, on one cluster.

    python benchmarks/slurm.py [--rounds 20] [--trials 200] [--at-once 32] [--queue 5000]

Starts a private cluster of three nodes with accounting (Debian's packages: see
tests/backends/install.sh) and runs, each in a process of its own:

* ``bare``: `sbatch` of a script that makes a file, and a look for it every 5 ms;
* ``axsched``: AxScheduler with the slurm runner, all settings as they come;
* ``submitit``: submitit (and AxClient), which `pip install submitit` brings.

First one no-op after the other, from submission to result, at random moments; then an
optimization of trials of 1 to 3 s; then many jobs of axsched in a partition that starts none.
Commands are counted by wrappers on PATH, messages by the controller (`sdiag`) and by the
accounting's server. Ends with status 1 where an aim is missed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from common import tell

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from support.missing_backends import install_line  # noqa: E402
from support.slurm_cluster import MAIN, SlurmCluster, missing  # noqa: E402

COMMANDS = ("sbatch", "squeue", "sacct", "scontrol", "scancel", "sinfo", "srun", "sacctmgr")
CLOSED = "PartitionName=closed Nodes=ALL MaxTime=INFINITE State=DOWN"
BLOCKS = 4
LATENCY, RPCS = 0.5, 0.1
"""What is aimed at, of submitit's overhead and of its messages."""

OF_SERVERS = {
    "MESSAGE_NODE_REGISTRATION_STATUS",
    "MESSAGE_EPILOG_COMPLETE",
    "REQUEST_COMPLETE_BATCH_SCRIPT",
    "REQUEST_COMPLETE_JOB_ALLOCATION",
    "REQUEST_STEP_COMPLETE",
    "REQUEST_PING",
    "ACCOUNTING_UPDATE_MSG",
    "ACCOUNTING_REGISTER_CTLD",
}
"""Messages that a job's end or time itself brings about, whoever has submitted the job."""


class Lab:
    """The cluster, and wrappers of Slurm's commands that count."""

    def __init__(self, cluster: SlurmCluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.counts = folder / "commands"
        wrappers = folder / "wrappers"
        wrappers.mkdir()
        for name in COMMANDS:
            wrapper = wrappers / name
            wrapper.write_text(
                f'#!/bin/sh\necho {name} >>{self.counts}\nexec /usr/bin/{name} "$@"\n'
            )
            wrapper.chmod(0o755)
        path = f"{wrappers}:{cluster.env['PATH']}"
        # submitit's jobs find the objective by its module.
        here = str(Path(__file__).parent)
        self.env = {**os.environ, **cluster.env, "PATH": path, "PYTHONPATH": here}

    def run(self, contender: str, work: str, number: int, at_once: int = 1) -> dict[str, Any]:
        """Have a contender do its work; add the commands and messages that this took."""
        self.counts.write_text("")
        before = self._messages()
        folder = Path(tempfile.mkdtemp(prefix=f"{contender}-{work}-", dir=self.folder))
        words = [contender, work, str(folder), str(number), str(at_once), str(self.counts)]
        script = str(HERE / "slurm_contenders.py")
        command = [sys.executable, script, *words]
        done = subprocess.run(command, env=self.env, stdout=subprocess.PIPE, text=True, check=True)
        measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        messages = self._messages() - before
        measured["messages"] = {k: v for k, v in messages.items() if k not in OF_SERVERS}
        measured["run"] = Counter(self.counts.read_text().splitlines())
        return measured

    def _messages(self) -> Counter[str]:
        asked = {k: v for k, v in self.cluster.accounting_rpcs().items() if "_GET_" in k}
        return Counter(self.cluster.sdiag_rpcs()) + Counter(asked)


def latency(lab: Lab, rounds: int) -> float:
    """Overheads of single no-ops over what Slurm itself takes; axsched's relative to submitit's."""
    print(f"{rounds} no-ops, one after another: s from submission to result")
    print(f"{'':<12}{'mean':>8}{'median':>8}{'max':>8}{'overhead':>10}{'CPU s':>8}")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ("bare", "submitit", "axsched")}
    for _ in range(BLOCKS):  # by turns, since the machine may have something else to do
        for contender, blocks in found.items():
            blocks.append(lab.run(contender, "latency", -(-rounds // BLOCKS)))
    means: dict[str, float] = {}
    for contender, blocks in found.items():
        seconds = [one for block in blocks for one in block["seconds"]]
        means[contender] = statistics.mean(seconds)
        print(
            f"{contender:<12}{means[contender]:>8.2f}{statistics.median(seconds):>8.2f}"
            f"{max(seconds):>8.2f}{means[contender] - means['bare']:>10.2f}"
            f"{sum(block['driver'] + block['commands'] for block in blocks):>8.2f}",
            flush=True,
        )
    return (means["axsched"] - means["bare"]) / (means["submitit"] - means["bare"])


def trials(lab: Lab, number: int, at_once: int) -> float:
    """An optimization; the messages of axsched relative to those of submitit."""
    print(f"\n{number} trials of 1 to 3 s, {at_once} at once")
    print(f"{'':<12}{'wall s':>8}{'driver CPU s':>14}{'commands CPU s':>16}  commands; messages")
    sent: dict[str, int] = {}
    for contender in ("submitit", "axsched"):
        found = lab.run(contender, "trials", number, at_once)
        if found["done"] != number:
            raise SystemExit(f"{contender}: only {found['done']} of {number} trials have a result")
        sent[contender] = sum(found["messages"].values())
        print(
            f"{contender:<12}{found['wall']:>8.1f}{found['driver']:>14.1f}"
            f"{found['commands']:>16.1f}  {_listed(found['run'])}; {_listed(found['messages'])}",
            flush=True,
        )
    return sent["axsched"] / sent["submitit"]


def queue(lab: Lab, number: int) -> float:
    """Many jobs that wait; the commands that a look at them takes."""
    found = lab.run("axsched", "queue", number, number)
    looks = found["looks"]
    each = len(looks["asked"]) / looks["number"]
    print(
        f"\n{number} queued jobs: submitted in {found['submitted']['wall']:.1f} s, "
        f"{looks['number']} looks by {_listed(Counter(looks['asked']))} with "
        f"{1000 * (looks['driver'] + looks['commands']) / looks['number']:.0f} ms CPU each, "
        f"cancelled in {found['cancelled']['wall']:.1f} s; in all {_listed(found['run'])}; "
        f"{_listed(found['messages'])}"
    )
    return each


def _listed(counts: Any) -> str:
    return f"{sum(counts.values())} ({', '.join(f'{n} {k}' for k, n in sorted(counts.items()))})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--queue", type=int, default=5000)
    arguments = parser.parse_args()
    if packages := missing():
        raise SystemExit(f"Slurm is not here: {install_line(packages)}")
    if importlib.util.find_spec("submitit") is None:
        raise SystemExit("submitit is not here: pip install submitit")
    with (
        tempfile.TemporaryDirectory(prefix="axsched-slurm-") as temporary,
        SlurmCluster(
            Path(temporary) / "cluster", cpus=12, memory=12000, partitions=(MAIN, CLOSED)
        ) as cluster,
    ):
        lab = Lab(cluster, Path(temporary))
        aims = {}
        if arguments.rounds:
            ratio = latency(lab, arguments.rounds)
            words = f"axsched's overhead is {ratio:.2f} of submitit's (at most {LATENCY})"
            aims[words] = ratio <= LATENCY
        if arguments.trials:
            ratio = trials(lab, arguments.trials, arguments.at_once)
            words = f"axsched makes {ratio:.2f} of submitit's messages (at most {RPCS})"
            aims[words] = ratio <= RPCS
        if arguments.queue:
            each = queue(lab, arguments.queue)
            words = f"a look at {arguments.queue} queued jobs is {each:g} commands (1)"
            aims[words] = each == 1
    print()
    return tell(aims)


if __name__ == "__main__":
    raise SystemExit(main())
