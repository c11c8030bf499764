"""Processes that an objective starts: a driver of its own each, whose helpers are in __main__."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

DRIVER = """
    import concurrent.futures, json, multiprocessing, os, sys
    import joblib
    from axsched_core import AxScheduler
    from axsched_core.errors import AllTrialsFailed
    from axsched_core.testing import RandomSearch

    class Square:
        def __init__(self, x): self.value = deeper(x)
    def deeper(x): return x * x
    def helper(x): return deeper(x)
    def put(queue, x): queue.put([helper(x), os.getcwd()])

    def each_way(x):
        me = multiprocessing.current_process()
        found = {"": [multiprocessing.get_start_method(), me.name, me.daemon]}
        for method in [None, *multiprocessing.get_all_start_methods()]:
            context = multiprocessing.get_context(method)
            with context.Pool(2) as pool:
                mapped = pool.map(helper, [1, 2]), pool.map(Square, [3])[0].value
            queue = context.Queue()
            process = context.Process(target=put, args=(queue, 3))
            process.start()
            put_there, where = queue.get()
            process.join()
            with context.Manager() as manager, concurrent.futures.ProcessPoolExecutor(
                2, mp_context=context
            ) as executor:
                pools = manager.dict(a=1)["a"], *executor.map(helper, [4])
            here = where == os.getcwd() == os.environ["AXSCHED_JOB_DIR"]
            found[method or "default"] = [mapped, put_there, here, pools]
        found["joblib"] = joblib.Parallel(n_jobs=2)(joblib.delayed(helper)(i) for i in range(3))
        print(json.dumps(found))
        return 1.0

    def loads_data(x):
        import torch

        class Numbers(torch.utils.data.Dataset):
            def __len__(self): return 4
            def __getitem__(self, i): return torch.tensor(float(i))

        batches = torch.utils.data.DataLoader(Numbers(), num_workers=2)
        print(json.dumps(sum(float(batch.sum()) for batch in batches)))
        return 1.0

    def says_method(x):
        sys.exit(multiprocessing.get_start_method())

    def pool_of_main(x):
        with multiprocessing.Pool(1) as pool:
            return pool.map(helper, [1])[0]

    if __name__ == "__main__":
        out, name, isolation = sys.argv[1:]
        scheduler = AxScheduler(
            RandomSearch({"x": (0, 1)}),
            "joblib",
            {"job_output_dir": out, "progress": False},
            {"n_jobs": 1, "isolation": isolation},
        )
        scheduler.set_objective_function(globals()[name])
        try:
            scheduler.run_optimization(max_trials=1)
        except AllTrialsFailed:
            pass
        (trial,) = scheduler.trials.values()
        said = trial.folder / "stdout.log"
        print(json.dumps([trial.message, said.read_text() if said.exists() else ""]))
        scheduler.close()
"""


def run(tmp_path: Path, objective: str, isolation: str) -> tuple[str, Any]:
    """The trial's message, and what its objective has printed."""
    driver = tmp_path / "driver.py"
    driver.write_text(textwrap.dedent(DRIVER))
    ran = subprocess.run(
        [sys.executable, str(driver), str(tmp_path / "out"), objective, isolation],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    message, said = json.loads(ran.stdout)
    return message, json.loads(said or "null")


@pytest.mark.parametrize("isolation", ["fork", "spawn"])
def test_an_objective_starts_processes_as_any_program_does(tmp_path: Path, isolation: str) -> None:
    message, found = run(tmp_path, "each_way", isolation)
    assert message == ""
    own_default = multiprocessing.get_context(None).get_start_method()
    assert found.pop("") == [own_default, "MainProcess", False]
    assert found.pop("joblib") == [0, 1, 4]
    assert set(found) == {"default", *multiprocessing.get_all_start_methods()}
    assert list(found.values()) == [[[[1, 4], 9], 9, True, [1, 16]]] * len(found)


@pytest.mark.parametrize("isolation", ["fork", "spawn"])
def test_torch_loads_data_in_processes_of_its_own(tmp_path: Path, isolation: str) -> None:
    pytest.importorskip("torch")
    assert run(tmp_path, "loads_data", isolation) == ("", 6.0)


def test_without_isolation_the_start_method_is_python_s_own_too(tmp_path: Path) -> None:
    message, found = run(tmp_path, "says_method", "none")
    own_default = multiprocessing.get_context(None).get_start_method()
    assert message == f"the function called sys.exit: {own_default}"
    assert found is None


def test_a_helper_that_is_not_found_in_main_is_told_what_to_do(tmp_path: Path) -> None:
    message, _ = run(tmp_path, "pool_of_main", "none")
    assert "helper" in message
    assert "put it in a module that the objective imports" in message
