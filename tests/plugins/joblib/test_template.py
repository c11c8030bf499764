"""The process that holds what the objective imports, and from which its jobs are forked."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
import pytest
from axsched_joblib.template import LOOK_INTERVAL, NAME

from axsched_core import jobfolder
from axsched_core.errors import InvalidInput
from axsched_core.jobs import JobState
from support.waiting import wait_until

cloudpickle.register_pickle_by_value(sys.modules[__name__])
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="others never fork")

MakeSession = Callable[..., Any]


@pytest.fixture(autouse=True)
def one_module_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("axsched_joblib.modules.FEW", 1)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for installed packages that the driver has on its path."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def uses(name: str) -> Callable[[dict[str, Any]], dict[str, float]]:
    """An objective that imports a module: was it there before, and what is its VALUE?"""

    def objective(_: dict[str, Any]) -> dict[str, float]:
        import importlib
        import sys

        there = name in sys.modules
        return {"there": there, "value": getattr(importlib.import_module(name), "VALUE", 0)}

    return objective


def run(session: Any, objective: Callable[..., Any]) -> dict[str, Any]:
    job = session.submit(objective)
    assert session.wait(job)[0].state is JobState.SUCCEEDED
    found: dict[str, Any] = session.result(job)
    return found


def there(session: Any, name: str) -> bool:
    return bool(run(session, uses(name))["there"])


def named(name: str) -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            if Path(f"/proc/{process.pid}/comm").read_text().strip() == name:
                found.append(process)
    return found


def templates(count: int) -> list[psutil.Process]:
    """All templates of this process, when there are so many: one may be just ending."""
    found: list[psutil.Process] = []

    def there_are() -> bool:
        found[:] = named(NAME)
        return len(found) == count

    wait_until(there_are, 10, f"there are {count} templates")
    return found


def test_what_the_first_job_imports_the_next_ones_find(session: MakeSession) -> None:
    s = session(n_jobs=1)
    assert [there(s, "colorsys") for _ in range(3)] == [False, True, True]
    assert there(s, "stringprep") is False
    s.close()
    s.open()
    assert there(s, "colorsys") is True  # the run directory says it


def test_modules_that_the_user_names(session: MakeSession) -> None:
    s = session(n_jobs=1, preload=["colorsys", "no_such_module"])
    assert there(s, "colorsys") is True
    assert there(s, "stringprep") is False


def test_for_few_modules_there_is_none(
    session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("axsched_joblib.modules.FEW", 3)
    s = session(n_jobs=1)
    assert [there(s, "colorsys") for _ in range(2)] == [False, False]
    templates(0)


def test_it_can_be_switched_off(session: MakeSession) -> None:
    s = session(n_jobs=1, preload=[])
    assert [there(s, "colorsys") for _ in range(2)] == [False, False]
    templates(0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preload": "numpy"}, "preload must be a list of modules' names, not 'numpy'"),
        ({"preload": ["a b"]}, "preload: 'a b' is no module's name"),
        ({"preload": ["numpy"], "isolation": "spawn"}, "here it is 'spawn'"),
    ],
)
def test_a_wrong_list(session: MakeSession, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        session(n_jobs=1, **options)


def test_the_user_s_own_modules_are_imported_anew(
    session: MakeSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_helper.py").write_text("import colorsys\nVALUE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    s = session(n_jobs=1)
    run(s, uses("my_helper"))
    assert there(s, "colorsys") is True
    assert there(s, "my_helper") is False


def test_a_package_that_has_changed_is_imported_anew(session: MakeSession, packages: Path) -> None:
    module = packages / "changing.py"
    module.write_text("VALUE = 1\n")
    s = session(n_jobs=1)
    assert run(s, uses("changing")) == {"there": False, "value": 1}
    assert run(s, uses("changing")) == {"there": True, "value": 1}
    module.write_text("VALUE = 22\n")
    os.utime(module, ns=(1, 1))
    time.sleep(LOOK_INTERVAL)
    assert run(s, uses("changing"))["value"] == 22


def test_a_process_with_threads_is_not_forked_from(session: MakeSession, packages: Path) -> None:
    words = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()"
    (packages / "threaded.py").write_text(f"{words}\nVALUE = 3\n")
    s = session(n_jobs=1)
    for _ in range(3):
        assert run(s, uses("threaded")) == {"there": False, "value": 3}
    templates(0)


def test_a_package_that_ends_the_process_spoils_no_job(
    session: MakeSession, packages: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    words = f"import os\nif os.path.exists({str(mark)!r}): os._exit(3)\nVALUE = 4\n"
    (packages / "fatal.py").write_text(words)
    s = session(n_jobs=1)
    run(s, uses("fatal"))
    mark.touch()
    assert run(s, uses("colorsys"))["value"] == 0
    mark.unlink()
    assert run(s, uses("fatal")) == {"there": False, "value": 4}


def test_one_that_is_killed_is_made_again(session: MakeSession) -> None:
    s = session(n_jobs=1, preload=["colorsys"])
    assert there(s, "colorsys") is True
    (first,) = templates(1)
    first.kill()
    wait_until(lambda: there(s, "colorsys"), 30, "there is another")
    (second,) = templates(1)
    assert second.pid != first.pid


def test_jobs_go_on_when_it_is_killed_and_it_ends_with_the_runner(
    session: MakeSession, pipe: Callable[[str], Any]
) -> None:
    started, gate = pipe("started"), pipe("gate")
    places = str(started.path), str(gate.path)

    def waits(_: dict[str, Any]) -> float:
        with open(places[0], "w") as file:
            file.write("1")
        with open(places[1]) as file:
            return float(file.readline())

    s = session(n_jobs=2, preload=["colorsys"])
    job = s.submit(waits)
    started.read()
    for process in templates(1):
        process.kill()
    wait_until(lambda: there(s, "colorsys"), 30, "there is another")
    gate.write("3\n")
    assert s.wait(job)[0].state is JobState.SUCCEEDED
    templates(1)
    s.close()
    templates(0)


def test_it_ends_with_its_driver(tmp_path: Path) -> None:
    driver = tmp_path / "driver.py"
    driver.write_text(
        "import time\n"
        "from axsched_core import AxScheduler\n"
        "from axsched_core.testing import RandomSearch\n"
        f"config = {{'job_output_dir': {str(tmp_path)!r}}}\n"
        "options = {'n_jobs': 1, 'preload': ['colorsys']}\n"
        "s = AxScheduler(RandomSearch({'x': (0.0, 1.0)}), 'joblib', config, options)\n"
        "s.set_objective_function(lambda x: time.sleep(2) or x)\n"
        "s.run_optimization(max_trials=100)\n"
    )
    process = subprocess.Popen([sys.executable, str(driver)], stdout=subprocess.DEVNULL)
    try:
        (template,) = templates(1)
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not template.is_running(), 10, "it has ended")


def test_what_a_job_lists_may_be_nonsense(session: MakeSession) -> None:
    s = session(n_jobs=1)
    job = s.submit(uses("colorsys"))
    s.wait(job)
    (s.folder(job) / jobfolder.MODULES).write_text('{"a": 1}')
    s.result(job)
    assert [there(s, "colorsys") for _ in range(2)] == [False, True]
    record = s.root / "joblib-modules.json"
    record.write_text(json.dumps({"a": 1}))
    for process in templates(1):
        process.kill()
    assert there(s, "colorsys") is False  # nothing is known any more, and nothing is lost


def test_random_numbers_are_not_the_same(session: MakeSession) -> None:
    pytest.importorskip("numpy")

    def draw(_: dict[str, Any]) -> dict[str, float]:
        import random

        import numpy as np

        return {"numpy": np.random.rand(), "python": random.random()}

    s = session(n_jobs=1, preload=["numpy", "random"])
    drawn = [run(s, draw) for _ in range(4)]
    for library in ("numpy", "python"):
        assert len({one[library] for one in drawn}) == 4
