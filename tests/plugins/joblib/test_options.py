"""What the user may say, and what it comes to."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import joblib
import pytest
from axsched_joblib import JobLibOptions, JobLibRunner, plugin

from axsched_core.errors import InvalidInput, RunnerError
from axsched_core.jobs import Capability
from axsched_core.objectives import build


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_jobs": 0}, "n_jobs=0 has no meaning"),
        ({"n_jobs": 2.5}, "n_jobs must be an int, not float"),
        ({"n_jobs": True}, "n_jobs must be an int, not bool"),
        ({"isolation": "forked"}, "Did you mean 'fork'?"),
        ({"threads_per_job": 0}, "at least 1 thread"),
        ({"threads_per_job": -1}, "at least 1 thread"),
        ({"backend": 3}, "must be the name of a joblib backend"),
        ({"stop_grace": 9}, "from 0 to 8.0 s"),
        ({"stop_grace": "1"}, "must be a number of seconds, not str"),
        ({"backend_options": [1]}, "must be a mapping"),
        ({"backend_options": {"a": 1}}, "loky takes none"),
        ({"backend": "threading", "isolation": "fork"}, "such children hang. Use 'spawn'"),
        ({"backend": "dask", "isolation": "fork"}, "such children hang. Use 'spawn'"),
    ],
)
def test_options_without_meaning(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        JobLibRunner(**options)
    assert words in str(raised.value)


def test_an_unknown_backend() -> None:
    with pytest.raises(RunnerError, match=r"no backend 'lokyy'\. Did you mean 'loky'\?"):
        JobLibRunner(backend="lokyy")


def settings(**options: Any) -> Any:
    return JobLibRunner(**options)._settings


def test_defaults() -> None:
    cores = joblib.cpu_count()
    isolation = "fork" if sys.platform.startswith("linux") else "spawn"
    found = settings()
    assert (found.n_jobs, found.backend, found.isolation) == (cores, "loky", isolation)
    assert found.threads == 1
    assert settings(n_jobs=-1).n_jobs == cores
    assert settings(n_jobs=-2).n_jobs == max(1, cores - 1)
    assert settings(n_jobs=-1000).n_jobs == 1
    assert settings(n_jobs=1).threads == cores
    assert settings(n_jobs=1000).threads == 1
    assert settings(threads_per_job=3).threads == 3
    assert settings(backend="multiprocessing").isolation == isolation
    assert settings(backend="threading").isolation == "none"
    assert settings(backend="sequential").n_jobs == 1
    assert settings(backend="dask").isolation == "spawn"


def test_parallel_config_of_the_calling_thread_is_honoured() -> None:
    with joblib.parallel_config(backend="threading", n_jobs=3):
        found = settings()
        explicit = settings(n_jobs=2, backend="loky")
        elsewhere: list[Any] = []
        thread = threading.Thread(target=lambda: elsewhere.append(settings()))
        thread.start()
        thread.join()
    assert (found.n_jobs, found.backend, found.isolation) == (3, "threading", "none")
    assert (explicit.n_jobs, explicit.backend) == (2, "loky")
    assert elsewhere[0].backend == "loky"
    assert settings().backend == "loky"
    with joblib.parallel_config(backend="loky", inner_max_num_threads=5):
        assert settings().threads == 5


def test_parallel_config_is_captured_by_the_plugin_too() -> None:
    with joblib.parallel_config(n_jobs=3):
        runner = plugin.axsched_make_runner(JobLibOptions())
    assert isinstance(runner, JobLibRunner)
    assert runner._settings.n_jobs == 3


def test_what_the_plugin_says_of_itself() -> None:
    info = plugin.axsched_runner_info()
    assert info == JobLibRunner(1).axsched_runner_info()
    assert info.name == "joblib"
    assert info.options_class is JobLibOptions
    assert info.capabilities == {
        Capability.FUNCTION,
        Capability.SCRIPT,
        Capability.LOGS,
        Capability.PUSH,
        Capability.REATTACH,
    }


def test_diagnose() -> None:
    assert all(check.ok for check in plugin.axsched_diagnose(None))
    bad = JobLibOptions(backend="threading", isolation="fork")
    assert [check.name for check in plugin.axsched_diagnose(bad) if not check.ok] == ["options"]


def test_listing_the_plugin_loads_neither_joblib_nor_numpy() -> None:
    code = (
        "import axsched_joblib.plugin as p, sys; p.axsched_runner_info(); "
        "print([m for m in ('joblib', 'numpy', 'ax', 'torch') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_pool_s_worker_loads_nothing_of_ours_but_what_it_runs() -> None:
    code = (
        "import axsched_joblib.warm, sys; "
        "print([m for m in sys.modules if m.startswith('axsched') or m == 'attrs'])"
    )
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).strip()
    assert loaded == "['axsched_joblib', 'axsched_joblib.template', 'axsched_joblib.warm']"


def test_a_runner_is_compared_by_identity() -> None:
    assert JobLibRunner(2) != JobLibRunner(2)
    assert len({JobLibRunner(2), JobLibRunner(2)}) == 2
    assert repr(JobLibRunner(2, backend="threading")).startswith(
        "JobLibRunner(n_jobs=2, backend='threading', isolation='none'"
    )


@pytest.mark.parametrize("interpreter", ["no-such-program", "/no/such/program", "/etc"])
def test_an_interpreter_that_does_not_exist(tmp_path: Path, interpreter: str) -> None:
    (tmp_path / "run.sh").write_text("echo\n")
    objective = build.script_objective(tmp_path / "run.sh", {"interpreter": interpreter})
    with pytest.raises(InvalidInput, match=f"'{interpreter}', which is to run the script .*run.sh"):
        JobLibRunner(n_jobs=1).axsched_check_objective(objective)


def test_an_interpreter_that_a_job_would_find(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("echo\n")
    (tmp_path / "mine").write_text("#!/bin/sh\n")
    (tmp_path / "mine").chmod(0o755)
    for options in ({"interpreter": "sh"}, {"interpreter": "mine", "env": {"PATH": str(tmp_path)}}):
        objective = build.script_objective(tmp_path / "run.sh", options)
        JobLibRunner(n_jobs=1).axsched_check_objective(objective)
