"""A driver whose experiment is stored in a database; run as a script, and killed by tests.

Usage: sql_driver.py begin KIND OUT KILL_AFTER [EXTRA] | go-on OUT. The database's url is in
``$AXSCHED_TEST_URL``. Every evaluation leaves its parameters in ``OUT.count``, by its own hand.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

from support import environment

NAME = "stored"
KINDS = ("client", "ax_client", "experiment")
URL = "AXSCHED_TEST_URL"


def settings(url: str) -> Any:
    from ax.storage.sqa_store.structs import DBSettings

    return DBSettings(url=url)


def disconnect() -> None:
    """Forget Ax's connection, so that the next one may go elsewhere."""
    from ax.storage.sqa_store import db

    if db.SESSION_FACTORY is not None:
        db.get_engine().dispose()
        db.SESSION_FACTORY = None


def make(kind: str, name: str = NAME, init: int = 5) -> tuple[Any, Any]:
    """An optimizer of this kind without a database, and its strategy where that is apart."""
    if kind == "ax_client":
        from ax.service.ax_client import AxClient, ObjectiveProperties

        ax_client = AxClient(random_seed=5, verbose_logging=False)
        ax_client.create_experiment(
            name=name,
            parameters=[{"name": n, "type": "range", "bounds": [0.0, 1.0]} for n in ("x", "y")],
            objectives={"loss": ObjectiveProperties(minimize=True)},
            choose_generation_strategy_kwargs={"num_initialization_trials": init},
        )
        return ax_client, None
    from ax import Client, RangeParameterConfig

    client = Client(random_seed=5)
    client.configure_experiment(
        name=name,
        parameters=[
            RangeParameterConfig(name=n, bounds=(0, 1), parameter_type="float") for n in ("x", "y")
        ],
    )
    client.configure_optimization("-loss")
    client.configure_generation_strategy(initialization_budget=init, initialization_random_seed=5)
    if kind == "experiment":
        return client._experiment, client._generation_strategy
    return client, None


def counting(folder: str, pause: float = 0.0) -> Any:
    """An objective that leaves a file for each time that it is evaluated."""

    def objective(x: float, y: float) -> dict[str, float]:
        import json
        import os
        import time
        import uuid

        time.sleep(pause)
        with open(os.path.join(folder, uuid.uuid4().hex), "w") as file:
            json.dump([x, y], file)
        return {"loss": (x - 0.3) ** 2 + y, "time": 2.0}

    return objective


def evaluated(out: Path) -> list[tuple[float, float]]:
    """The points that were evaluated, once for each time."""
    return sorted(tuple(json.loads(p.read_text())) for p in Path(f"{out}.count").iterdir())


def run(*arguments: object, url: str) -> subprocess.CompletedProcess[str]:
    """Run this file in a process of its own."""
    return subprocess.run(
        [sys.executable, __file__, *map(str, arguments)],
        env=environment(**{URL: url}),
        capture_output=True,
        text=True,
        check=False,
    )


def begin(kind: str, out: str, kill_after: int, max_trials: int = 7) -> None:
    from axsched_core import AxScheduler, hookimpl
    from axsched_core.events import TrialEnded

    class Killer:
        ended = 0

        @hookimpl
        def axsched_on_event(self, event: Any) -> None:
            self.ended += isinstance(event, TrialEnded)
            if kill_after and self.ended == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)

    os.makedirs(f"{out}.count", exist_ok=True)
    optimizer, strategy = make(kind)
    with AxScheduler(
        optimizer,
        "joblib",
        {"job_output_dir": out, "progress": False, "max_parallelism": 2},
        {"n_jobs": 2},
        generation_strategy=strategy,
        plugins=[Killer()],
        db_settings=settings(os.environ[URL]),
    ) as scheduler:
        scheduler.set_objective_function(counting(f"{out}.count"))
        scheduler.run_optimization(max_trials=max_trials)


def go_on() -> None:
    """From the database alone, in one line."""
    from axsched_core import AxScheduler

    with AxScheduler.from_stored_experiment(
        NAME, db_settings=settings(os.environ[URL]), runner="joblib"
    ) as scheduler:
        scheduler.finish()
        print(json.dumps({"client": type(scheduler.client).__name__}))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    if sys.argv[1] == "begin":
        begin(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        go_on()
