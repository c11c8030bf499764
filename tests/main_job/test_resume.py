"""A driver with a real Ax is killed; the next one ends with the table of an undisturbed run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from axsched_core import AxScheduler

pytestmark = [pytest.mark.ax, pytest.mark.filterwarnings("ignore")]

DRIVER = """
    import json, os, signal, sys, warnings
    warnings.filterwarnings("ignore")
    from axsched_core import AxScheduler, hookimpl
    from axsched_core.events import TrialEnded

    kind, out, kill_after = sys.argv[1], sys.argv[2], int(sys.argv[3])

    def make():
        from ax import Client, RangeParameterConfig
        if kind == "ax_client":
            from ax.service.ax_client import AxClient, ObjectiveProperties
            made = AxClient(random_seed=5, verbose_logging=False)
            made.create_experiment(
                name="killed",
                parameters=[
                    {"name": n, "type": "range", "bounds": [0.0, 1.0]} for n in ("x", "y")
                ],
                objectives={"loss": ObjectiveProperties(minimize=True)},
            )
            return made
        made = Client(random_seed=5)
        made.configure_experiment(
            name="killed",
            parameters=[
                RangeParameterConfig(name=n, bounds=(0, 1), parameter_type="float")
                for n in ("x", "y")
            ],
        )
        made.configure_optimization("-loss")
        made.configure_generation_strategy(
            initialization_budget=5, initialization_random_seed=5
        )
        if kind == "experiment":
            experiment, strategy = made._experiment, made._generation_strategy
            return experiment, strategy
        return made

    class Killer:
        ended = 0

        @hookimpl
        def axsched_on_event(self, event):
            self.ended += isinstance(event, TrialEnded)
            if kill_after and self.ended == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)

    made = make()
    optimizer, strategy = made if isinstance(made, tuple) else (made, None)
    scheduler = AxScheduler(
        optimizer, "joblib", {"job_output_dir": out, "progress": False, "synchronous": True},
        {"n_jobs": 1}, generation_strategy=strategy, plugins=[Killer()],
    )
    scheduler.set_objective_function(lambda x, y: {"loss": (x - 0.3) ** 2 + y, "time": 2.0})
    scheduler.run_optimization(max_trials=7)
    scheduler.close()
"""


def run(folder: Path, kind: str, kill_after: int) -> tuple[int, Path]:
    script = folder / "driver.py"
    script.write_text(textwrap.dedent(DRIVER))
    out = folder / f"out-{kill_after}"
    ran = subprocess.run(
        [sys.executable, str(script), kind, str(out), str(kill_after)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode in (0, -signal.SIGKILL), ran.stderr
    (run_dir,) = out.iterdir()
    return ran.returncode, run_dir


def table(scheduler: AxScheduler) -> list[dict[str, object]]:
    rows = []
    for trial in scheduler.experiment.trials.values():
        data = scheduler.experiment.lookup_data(trial_indices=[trial.index]).df
        rows.append(
            {
                "index": trial.index,
                "status": trial.status.name,
                "node": trial.generator_runs[0]._generation_node_name,
                "parameters": {k: round(v, 6) for k, v in trial.arm.parameters.items()},
                "metrics": {row.metric_name: row["mean"] for _, row in data.iterrows()},
            }
        )
    return rows


@pytest.mark.parametrize("kind", ["client", "ax_client", "experiment"])
def test_a_killed_run_ends_as_an_undisturbed_one(tmp_path: Path, kind: str):
    code, killed = run(tmp_path, kind, kill_after=3)
    assert code == -signal.SIGKILL
    with AxScheduler.resume(killed) as scheduler:
        best = scheduler.finish()
        resumed = table(scheduler)
    assert set(best.parameters) == {"x", "y"}

    code, whole = run(tmp_path, kind, kill_after=0)
    assert code == 0
    with AxScheduler.resume(whole) as scheduler:  # nothing is left to be done: only replayed
        undisturbed = table(scheduler)
        assert scheduler._run.budget.open == 0

    assert [row["status"] for row in resumed] == ["COMPLETED"] * 7
    assert [row["node"] for row in resumed] == [row["node"] for row in undisturbed]
    assert resumed[:5] == undisturbed[:5]  # the model's own points are not deterministic
    points = [json.dumps(row["parameters"]) for row in resumed]
    assert len(set(points)) == 7
    lines = (killed / "journal.jsonl").read_text().splitlines()
    sizes = [len(line) for line in lines if '"k":"trial"' not in line]
    assert sum(sizes) < 2000 * 7
