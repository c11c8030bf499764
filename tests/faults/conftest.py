"""Real drivers, in processes of their own: what a test says is the body of their program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from support import IMPORT_ROOT

HEAD = """
    import sys, time, os, signal
    sys.path.insert(0, {root!r})
    from support.toy import ToyOptimizer
    from axsched_core import AxScheduler
    from axsched_core.run import timing
    from axsched_core.errors import OptimizationInterrupted, OptimizationTerminated

    MARK = {mark!r}

    def objective(x, y):
        with open(MARK, "a") as file:
            file.write("start\\n")
        time.sleep(LONG)
        return x

    def waits(x, y):
        with open(MARK, "a") as file:
            file.write("start\\n")
        while not os.path.exists(MARK + ".go"):
            time.sleep(0.02)
        return x

    LONG = 0.0
    optimizer = ToyOptimizer()
    scheduler = AxScheduler(
        optimizer,
        "joblib",
        {{"job_output_dir": {out!r}, "progress": False, **{config!r}}},
        {{"n_jobs": 2}},
    )
"""


class Driver:
    """A driver's program, and its process.

    Args:
        body: what comes after `HEAD`.
        folder: where everything lies.
        config: settings.
        before: a command that runs the program.
        options: of `subprocess.Popen`.
    """

    def __init__(
        self,
        body: str,
        folder: Path,
        config: dict[str, Any] | None = None,
        before: Sequence[str] = (),
        **options: Any,
    ) -> None:
        self.mark, self.out = folder / "mark", folder / "out"
        head = textwrap.dedent(HEAD).format(
            root=IMPORT_ROOT, mark=str(self.mark), out=str(self.out), config=config or {}
        )
        script = folder / "driver.py"
        script.write_text(head + textwrap.dedent(body))
        self.process = subprocess.Popen(
            [*before, sys.executable, str(script)],
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "text": True,
                "start_new_session": True,
                **options,
            },
        )

    def wait_for_starts(self, n: int) -> None:
        self.wait_for(lambda: self.starts() >= n)

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def go(self) -> None:
        """Let the objective `waits` end."""
        self.mark.with_name("mark.go").touch()

    def run_dir(self) -> Path:
        (found,) = self.out.iterdir()
        return found

    def starts(self) -> int:
        return len(self.mark.read_text().splitlines()) if self.mark.exists() else 0

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal sends it: to the whole foreground process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self, timeout: float = 60) -> tuple[str, str]:
        return self.process.communicate(timeout=timeout)

    def left_over(self) -> list[psutil.Process]:
        """Processes that work in the run's folders or belong to the driver's group."""
        found = []
        for process in psutil.process_iter():
            try:
                words = " ".join([*process.cmdline(), process.cwd()])
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
            if str(self.out) in words:
                found.append(process)
        return found


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    made: list[Driver] = []

    def start(body: str, config: dict[str, Any] | None = None, **more: Any) -> Driver:
        made.append(Driver(body, tmp_path, config, **more))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            os.killpg(one.process.pid, signal.SIGKILL)
            one.process.communicate()
        _, alive = psutil.wait_procs(one.left_over(), timeout=5)
        for process in alive:
            process.kill()
        assert not alive, f"left over: {alive}"
