"""Drivers in places where processes are hard to start, and pools that cannot start at all."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
from joblib._parallel_backends import ThreadingBackend

from axsched_core import AxScheduler, TrialState
from axsched_core.errors import RunnerError
from axsched_core.testing import RandomSearch

DRIVER = """
    import json, multiprocessing, os, sys

    def main(out):
        from axsched_core import AxScheduler
        from axsched_core.testing import RandomSearch

        config = {"job_output_dir": out, "progress": False}
        scheduler = AxScheduler(RandomSearch({"x": (0, 1)}), "joblib", config, {"n_jobs": 2})
        scheduler.set_objective_function(lambda x: x + ("PYTHONSAFEPATH" in os.environ))
        scheduler.run_optimization(max_trials=3)
        with open(out + ".json", "w") as said:
            json.dump([[t.attempts, t.results["loss"][0]] for t in scheduler.trials.values()], said)
        scheduler.close()

    if __name__ == "__main__":
        how, out = sys.argv[1:]
        if how.startswith("None"):
            for name in how.split()[1:]:
                setattr(sys, name, None)
        elif how == "closed stderr":
            sys.stderr.close()
        elif how == "closed descriptors":
            os.closerange(0, 3)
        elif how == "without streams":  # as after a start with 2>&-
            os.closerange(0, 3)
            sys.stdin = sys.stdout = sys.stderr = None
        if how == "daemonic":
            process = multiprocessing.Process(target=main, args=(out,), daemon=True)
            process.start()
            process.join()
        else:
            main(out)
"""


def run_driver(tmp_path: Path, how: str, cwd: Path | None = None) -> None:
    """Run one whose three trials succeed in their first attempt."""
    driver = tmp_path / "driver.py"
    driver.write_text(textwrap.dedent(DRIVER))
    out = str(tmp_path / "out")
    command = [sys.executable, str(driver), how, out]
    ran = subprocess.run(command, capture_output=True, check=False, timeout=120, cwd=cwd)
    assert Path(out + ".json").exists(), ran.stderr.decode()
    ends = json.loads(Path(out + ".json").read_text())
    assert [attempts for attempts, _ in ends] == [1, 1, 1]
    assert all(loss < 1 for _, loss in ends), "a job has not got the driver's environment"


@pytest.mark.parametrize(
    "how",
    [
        "None stderr",
        "None stdin stdout stderr",
        "closed stderr",
        "closed descriptors",
        "without streams",
        "daemonic",
    ],
)
def test_a_driver_that_lacks_what_others_have(tmp_path: Path, how: str) -> None:
    run_driver(tmp_path, how)


@pytest.mark.parametrize("name", ["signal", "random", "select", "json", "numpy", "joblib"])
def test_a_file_in_the_current_directory_is_not_a_workers_module(tmp_path: Path, name: str) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / f"{name}.py").write_text("raise SystemExit('not this one')")
    run_driver(tmp_path, "", cwd=tmp_path / "here")


@pytest.fixture
def backend() -> Iterator[type[Any]]:
    """A joblib backend that is registered, and cannot start anything while it is broken."""

    class Broken(ThreadingBackend):  # type: ignore[misc]
        broken = True

        def submit(self, func: Any, callback: Any = None) -> Any:
            if self.broken:
                raise ConnectionError("no machine is left")
            return super().submit(func, callback)

    joblib.register_parallel_backend("broken", Broken)
    yield Broken
    joblib.parallel.BACKENDS.pop("broken")


def run(tmp_path: Path, **options: Any) -> tuple[AxScheduler, str]:
    """A scheduler whose first call has found that nothing can start, and the words."""
    config = {"job_output_dir": tmp_path / "out", "progress": False}
    scheduler = AxScheduler(RandomSearch({"x": (0, 1)}), "joblib", config, options)
    scheduler.set_objective_function(lambda x: x)
    with pytest.raises(RunnerError) as caught:
        scheduler.run_optimization(max_trials=3)
    # The optimizer was asked while the pool started.
    assert {trial.attempts for trial in scheduler.trials.values()} <= {0}
    assert {trial.state for trial in scheduler.trials.values()} <= {TrialState.CANDIDATE}
    return scheduler, str(caught.value)


def succeeds(scheduler: AxScheduler) -> None:
    scheduler.finish()
    assert [t.state for t in scheduler.trials.values()] == [TrialState.SUCCEEDED] * 3
    assert [t.attempts for t in scheduler.trials.values()] == [1] * 3
    scheduler.close()


def test_workers_that_cannot_start_burn_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "random.py").write_text("raise SystemExit('the random module is broken')")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    scheduler, words = run(tmp_path, n_jobs=2)
    assert "the random module is broken" in words
    assert "'loky'" in words
    assert "all trials are open" in words
    monkeypatch.delenv("PYTHONPATH")
    succeeds(scheduler)


def test_a_backend_that_cannot_start_burns_no_trial(tmp_path: Path, backend: type[Any]) -> None:
    scheduler, words = run(tmp_path, n_jobs=2, backend="broken", isolation="spawn")
    assert "ConnectionError: no machine is left" in words
    backend.broken = False
    succeeds(scheduler)


@pytest.mark.parametrize("options", [{"backend": "threading"}, {"backend": "sequential"}])
def test_a_python_that_cannot_start_burns_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    monkeypatch.setattr(sys, "executable", "")  # an application that has Python in it
    scheduler, words = run(tmp_path, n_jobs=2, isolation="spawn", **options)
    assert "the Python that is to run jobs ('') cannot be started" in words
    monkeypatch.undo()
    succeeds(scheduler)
