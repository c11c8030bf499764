"""Kill drivers, let others continue, and check the end against the jobs' own counts."""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import asdict, evolve, field, frozen

from axsched_core import jobfolder
from support import environment

SERVER = Path(__file__).with_name("driver_server.py")
LIMIT = 60.0
"""Seconds that a driver may take."""
NEXT_ROOM = {"n_jobs": 2, "backend": "threading", "isolation": "spawn"}
"""Jobs that outlive their driver, and no pool that must be warmed up for each driver."""


@frozen
class Order:
    """The task of one driver."""

    trials: int = 4
    seconds: float = 0.05
    """How long each job takes."""
    ax: bool = False
    runner_options: Mapping[str, Any] = field(factory=lambda: NEXT_ROOM)
    point: str | None = None
    """The label of the point where it kills itself."""
    after: bool = False
    """Right after the point, not right before."""
    interrupt: int | None = None
    """Ctrl-C is pressed when this number of jobs has begun."""
    clock: tuple[float, float, int] | None = None
    """How its clock goes wrong, see `driver_server.set_back`."""
    full_at: int | None = None
    """From this request for space on the driver's disk is full, see `driver_server.Disk`."""
    dies_when_full: bool = False
    """It is killed when its call has ended with this; otherwise it makes space and calls again."""


class Drivers:
    """The process that forks drivers.

    Args:
        modules: what it imports first.
    """

    def __init__(self, *modules: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER), *modules],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        assert self._lines.get(timeout=LIMIT) == "ready\n"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def drive(self, order: Mapping[str, Any], kill_after: float | None) -> int:
        """Run one driver; return its exit code, negative for a signal.

        Args:
            order: see `Order`, and the files.
            kill_after: seconds.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        pid = int(self._lines.get(timeout=LIMIT))
        try:
            return os.waitstatus_to_exitcode(
                int(self._lines.get(timeout=LIMIT + 5 if kill_after is None else kill_after))
            )
        except queue.Empty:
            # No other process can have its pid: its parent waits for it.
            os.kill(pid, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(int(self._lines.get(timeout=LIMIT)))
            assert kill_after is not None, f"the driver hung: {Path(order['log']).read_text()}"
            return code

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(LIMIT)


class Run:
    """One run and all its drivers.

    Args:
        folder: where all files of the run are.
        drivers: the process that forks them.
        order: the common part of their orders.
    """

    def __init__(self, folder: Path, drivers: Drivers, order: Order) -> None:
        folder.mkdir(parents=True)
        self.out, self.count, self.log = folder / "out", folder / "count", folder / "log"
        self._report = folder / "report.json"
        self._drivers, self._order = drivers, order

    def drive(self, kill_after: float | None = None, **changes: Any) -> bool:
        """Begin or continue. False: the driver was killed before its end."""
        files = {name: str(getattr(self, name)) for name in ("out", "count", "log")}
        order = {**asdict(evolve(self._order, **changes)), **files}
        order |= {"report": str(self._report), "limit": LIMIT}
        code = self._drivers.drive(order, kill_after)
        assert code in (0, -signal.SIGKILL), self.log.read_text()
        return code == 0

    def drive_killed(self, dice: random.Random, kills: int, life: float, **changes: Any) -> int:
        """Kill up to ``kills`` drivers, each within the first ``life`` seconds of its life, then
        let one run to its end; return how many were killed."""
        killed = 0
        while not self.drive(dice.uniform(0.0, life) if killed < kills else None, **changes):
            killed += 1
        return killed

    def hurry(self) -> None:
        """End all jobs at once; those that are being cancelled are cancelled first."""
        deadline = time.monotonic() + LIMIT
        for cancel in self.out.glob(f"*/jobs/*/{jobfolder.CANCEL}"):
            while not cancel.with_name(jobfolder.EXIT).exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
        Path(f"{self.count}.quick").touch()

    def said(self, word: str) -> bool:
        """True if a driver has printed this word."""
        return word in self.log.read_text()

    # ---- what must be true in the end ------------------------------------------------------

    def check(self, *, interrupted: bool = False) -> None:
        """Compare the content of optimizer, scheduler and journal with the jobs' own counts.

        ``interrupted``: jobs were cancelled and made again; each trial still ends once.
        """
        n = self._order.trials
        report = json.loads(self._report.read_text())
        counted = [json.loads(line) for line in self.count.read_text().splitlines()]
        begun = [line for line in counted if line["what"] == "begin"]
        ended = {line["trial"]: line["loss"] for line in counted if line["what"] == "end"}
        every = dict.fromkeys(range(n), 1)

        assert [line for line in counted if line["what"] == "beside another"] == []
        assert Counter(line["trial"] for line in counted if line["what"] == "end") == every
        if not interrupted:
            assert Counter(line["trial"] for line in begun) == every
        rows = report["rows"]
        assert [row["trial"] for row in rows] == list(range(n))
        assert [row["status"] for row in rows] == ["COMPLETED"] * n
        assert {row["trial"]: row["loss"] for row in rows} == {i: [ended[i]] for i in ended}
        for line in begun:
            assert rows[line["trial"]]["parameters"] == {"x": line["x"], "y": line["y"]}
        points = [(row["parameters"]["x"], row["parameters"]["y"]) for row in rows]
        assert len(set(points)) == n, "a point was proposed again"
        if not self._order.ax:
            fresh = random.Random(0)  # what an undisturbed run would have made
            assert points == [(fresh.random(), fresh.random()) for _ in range(n)]
        assert {t["trial"]: (t["state"], t["loss"]) for t in report["trials"]} == {
            i: ("SUCCEEDED", ended[i]) for i in range(n)
        }
        self._check_journal(every)

    def _check_journal(self, every: Mapping[int, int]) -> None:
        begun = [path for path in self.out.iterdir() if (path / "jobs").exists()]
        assert len(begun) == 1, "the run was begun twice"
        raw = (begun[0] / "journal.jsonl").read_text()
        assert raw.endswith("\n")
        lines = [json.loads(line) for line in raw.splitlines()]
        assert Counter(line["i"] for line in lines if line["k"] == "trial") == every
        assert Counter(line["i"] for line in lines if line["k"] == "outcome") == every
        last, given = dict[int, str](), set[str]()
        for line in lines:
            if line["k"] == "key":  # one that was prepared and never sent may come twice
                assert line["key"] not in given, "a key was used again"
                last[line["i"]] = line["key"]
            elif line["k"] == "handle":
                given.add(last[line["i"]])
        folders = {path.name for path in (begun[0] / "jobs").iterdir()}
        ran = {name for name in folders if (begun[0] / "jobs" / name / jobfolder.PID).exists()}
        assert ran <= {f"{line['i']:05d}-{line['n']}" for line in lines if line["k"] == "key"}
        # (A driver that is killed while it takes the lock leaves the file that it wrote beside.)
        assert not (begun[0] / "lock.json").exists()
