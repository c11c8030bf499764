from __future__ import annotations

import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from axsched_core import AxScheduler
from support.journal_agreement import journalled, known
from support.plugin_source import A_RUNNER
from support.toy import ToyOptimizer, ToyRunner


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch):
    """Install a distribution that offers a runner, on a path of its own."""

    def install(
        name: str, source: str = A_RUNNER, *, dist: str | None = None, version="(1, 0)"
    ) -> None:
        dist = dist or f"axsched-{name}"
        site = tmp_path / dist
        module = dist.replace("-", "_") + "_plugin"
        meta = site / f"{dist.replace('-', '_')}-3.1.dist-info"
        meta.mkdir(parents=True)
        (meta / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 3.1\n")
        (meta / "entry_points.txt").write_text(f"[axsched.runners]\n{name} = {module}\n")
        text = textwrap.dedent(source).replace("NAME", name).replace("VERSION", version)
        (site / f"{module}.py").write_text(text)
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., AxScheduler]]:
    """Make schedulers that are closed when the test ends."""
    made: list[AxScheduler] = []

    def make(optimizer: Any = None, runner: Any = None, **config: Any) -> AxScheduler:
        plugins = config.pop("plugins", ())
        settings = {
            "job_output_dir": tmp_path / "out",
            "monitoring_interval": 0.05,
            "progress": False,
            "retry": {"pause": 1e-6},
            **config,
        }
        optimizer = ToyOptimizer() if optimizer is None else optimizer
        runner = ToyRunner() if runner is None else runner
        made.append(AxScheduler(optimizer, runner, settings, plugins=plugins))
        return made[-1]

    yield make
    for scheduler in made:
        alone = scheduler._run.guard.open  # else another driver may have gone on
        scheduler.close()
        if alone and scheduler._run.writer.durable and scheduler.run_directory.exists():
            assert journalled(scheduler.run_directory) == known(scheduler.trials)


@pytest.fixture
def in_thread() -> Iterator[Callable[[Callable[[], Any]], Outcome]]:
    """Call something in a thread of its own; ``.result()`` waits for what came of it."""
    started: list[Outcome] = []

    def start(work: Callable[[], Any]) -> Outcome:
        started.append(Outcome(work))
        return started[-1]

    yield start
    for outcome in started:
        outcome.thread.join(30)
        assert not outcome.thread.is_alive()


class Outcome:
    def __init__(self, work: Callable[[], Any]) -> None:
        self.value: Any = None
        self.error: BaseException | None = None

        def run() -> None:
            try:
                self.value = work()
            except BaseException as error:  # noqa: BLE001 - raised by result()
                self.error = error

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def result(self, timeout: float = 30) -> Any:
        self.thread.join(timeout)
        assert not self.thread.is_alive(), "it has not come to an end"
        if self.error is not None:
            raise self.error
        return self.value
