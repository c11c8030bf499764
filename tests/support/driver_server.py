"""Drivers that can be killed: a process with all imports forks them.

``python driver_server.py [MODULE ...]`` imports the modules, reads orders (one JSON object per
line, see `Order` in ``killed_runs.py``), forks a driver for each, prints its pid, and at its end
its status (like `os.waitpid`). So a driver takes milliseconds, even with Ax, and many can be
killed.
"""

from __future__ import annotations

import errno
import faulthandler
import importlib
import itertools
import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any


def serve() -> None:
    """Fork drivers until stdin ends."""
    for name in ("support.kill_points", "axsched_joblib.runner", *sys.argv[1:]):
        importlib.import_module(name)
    print("ready", flush=True)
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
                os.dup2(source, target)
            return drive(order)
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)


def drive(order: dict[str, Any]) -> None:
    """Act like a user's program: begin a run, or continue the one of an earlier driver."""
    from axsched_core.errors import OptimizationInterrupted
    from support import kill_points

    warnings.simplefilter("ignore")
    disk = Disk(order["out"])
    faulthandler.dump_traceback_later(order["limit"])  # it hangs: where?
    if order["clock"]:
        set_back(*order["clock"])
    if order["point"]:
        kill_points.die_at(order["point"], after=order["after"])
    if order["interrupt"]:
        press_ctrl_c(order)
    if order["full_at"] is not None:
        disk.fill(order["full_at"])
    try:
        scheduler = go_on(order, disk) or begin(order, disk)
    except OptimizationInterrupted as stop:
        print("INTERRUPTED", stop, flush=True)
        return
    Path(order["report"]).write_text(json.dumps(report(scheduler)))
    scheduler.close()


def begin(order: dict[str, Any], disk: Disk) -> Any:
    """Start a new run."""
    from axsched_core import AxScheduler

    config = {"job_output_dir": order["out"], "progress": False, "monitoring_interval": 0.1}
    scheduler = AxScheduler(optimizer(order), "joblib", config, order["runner_options"])
    scheduler.set_objective_function(objective(order["count"], order["seconds"]))
    run(order, disk, scheduler, order["trials"])
    return scheduler


def go_on(order: dict[str, Any], disk: Disk) -> Any:
    """Continue the existing run; None if none was begun."""
    from axsched_core import AxScheduler
    from axsched_core.errors import InvalidInput

    for run_dir in sorted(Path(order["out"]).glob("*")):
        try:
            given = None if order["ax"] else optimizer(order)
            scheduler = AxScheduler.resume(run_dir, optimizer=given)
        except InvalidInput as error:
            words = ("is not a run directory", "before anything was begun")
            if not any(word in str(error) for word in words):
                raise
            assert not (run_dir / "jobs").exists(), "jobs were begun"
            continue
        # A call that is not in the journal has done nothing.
        called = b'\n{"k":"call"' in (run_dir / "journal.jsonl").read_bytes()
        run(order, disk, scheduler, None if called else order["trials"])
        return scheduler
    return None


def run(order: dict[str, Any], disk: Disk, scheduler: Any, trials: int | None) -> None:
    """Run this number of trials, or finish; if the disk is full, make space and call again."""
    from axsched_core.errors import InvalidInput

    try:
        if trials is None:
            scheduler.finish()
        else:
            scheduler.run_optimization(max_trials=trials)
    except InvalidInput as error:
        if "No space left" not in str(error):
            raise
        print("FULL", error, flush=True)
        if order["dies_when_full"]:
            os.kill(os.getpid(), signal.SIGKILL)
        disk.make_room()
        run(order, disk, scheduler, order["trials"] - len(rows(scheduler)) or None)


def optimizer(order: dict[str, Any]) -> Any:
    """A new optimizer of loss over x and y in [0, 1]."""
    if not order["ax"]:
        from support.toy import ToyOptimizer

        return ToyOptimizer()
    from ax import Client, RangeParameterConfig

    made = Client(random_seed=5)
    made.configure_experiment(
        name="killed",
        parameters=[
            RangeParameterConfig(name=name, bounds=(0, 1), parameter_type="float")
            for name in ("x", "y")
        ],
    )
    made.configure_optimization("-loss")
    budget = order["trials"] - 1  # one trial comes from a model
    made.configure_generation_strategy(
        initialization_budget=budget, initialization_random_seed=5, method="fast"
    )
    return made


def objective(count: str, seconds: float) -> Callable[[dict[str, float]], float]:
    """The function that is optimized: each job of it writes its actions to ``count``.

    It takes ``seconds``, or until there is a file ``<count>.quick``.
    """

    def evaluate(parameters: dict[str, float]) -> float:
        import fcntl
        import json
        import os
        import time

        trial = int(os.environ["AXSCHED_TRIAL_INDEX"])

        def say(what: str, **more: float) -> None:
            line = json.dumps({"what": what, "trial": trial, **more}) + "\n"
            descriptor = os.open(count, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.write(descriptor, line.encode())
            os.close(descriptor)

        alone = os.open(f"{count}.{trial}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("beside another")
        say("begin", **parameters)
        until = time.monotonic() + seconds
        while time.monotonic() < until and not os.path.exists(f"{count}.quick"):
            time.sleep(0.01)
        loss = parameters["x"] + parameters["y"] ** 2
        say("end", loss=loss)
        return loss

    return evaluate


def rows(scheduler: Any) -> list[dict[str, Any]]:
    """The optimizer's trials: status, parameters, and all values of their loss."""
    if hasattr(scheduler.client, "rows"):
        return [
            {
                "trial": index,
                "status": row["status"],
                "parameters": row["parameters"],
                "loss": [row["metrics"]["loss"][0]] if row["metrics"] else [],
            }
            for index, row in scheduler.client.rows.items()
        ]
    data = scheduler.experiment.lookup_data().df
    return [
        {
            "trial": trial.index,
            "status": trial.status.name,
            "parameters": trial.arm.parameters,
            "loss": list(data[data["trial_index"] == trial.index]["mean"]) if len(data) else [],
        }
        for trial in scheduler.experiment.trials.values()
    ]


def report(scheduler: Any) -> dict[str, Any]:
    """What the optimizer and the scheduler hold at the end."""
    trials = [
        {"trial": i, "state": t.state.value, "loss": t.results["loss"][0] if t.results else None}
        for i, t in scheduler.trials.items()
    ]
    return {"rows": rows(scheduler), "trials": trials}


class Disk:
    """The run's disk for this process: full from its n-th request for space on.

    A request is a file that is made or opened for writing, a folder, a link, another name; and a
    write to the journal, of which one half still fits.
    """

    def __init__(self, folder: str) -> None:
        self._folder, self._left = folder, sys.maxsize
        self._torn = False

    def fill(self, requests: int) -> None:
        """Leave space for this number of requests only."""
        self._left, real = requests, os.write

        def write(descriptor: int, data: Any) -> int:
            if self._refuses(os.readlink(f"/proc/self/fd/{descriptor}")):
                self._torn = not self._torn
                if not self._torn:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                data = data[: len(data) // 2]
            return real(descriptor, data)

        os.write = write
        sys.addaudithook(self._see)

    def make_room(self) -> None:
        self._left = sys.maxsize

    def _see(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            wants = args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            wants = event in ("os.mkdir", "os.link", "os.rename")
        if wants and self._refuses(str(args[1] if event == "os.link" else args[0])):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), args[0])

    def _refuses(self, path: str) -> bool:
        if not path.startswith(self._folder):
            return False
        self._left -= 1
        return self._left < 0


def set_back(offset: float, jump: float, calls: int) -> None:
    """Make this process's clock wrong by ``offset`` s, and after some reads by ``jump`` more."""
    real, looks = time.time, itertools.count(1)

    def wrong() -> float:
        look = next(looks)
        if look == calls:
            print("CLOCK", flush=True)
        return real() + offset + (jump if look >= calls else 0.0)

    time.time = wrong


def press_ctrl_c(order: dict[str, Any]) -> None:
    """Press Ctrl-C as soon as this number of jobs has begun."""
    count = Path(order["count"])

    def press() -> None:
        while not count.exists() or count.read_text().count("begin") < order["interrupt"]:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()


if __name__ == "__main__":
    serve()
