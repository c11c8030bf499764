"""Tables, Ax's own summary and its plots, for each of the three kinds of Ax's objects."""

from __future__ import annotations

from pathlib import Path

import pytest

from axsched_core import AxScheduler, table
from support import sql_driver
from support.toy import ToyRunner

pytestmark = [pytest.mark.ax, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("kind", sql_driver.KINDS)
def test_a_run_is_a_table_a_summary_and_plots(kind: str, tmp_path: Path) -> None:
    import pandas as pd

    optimizer, strategy = sql_driver.make(kind, init=3)
    config = {"job_output_dir": tmp_path, "monitoring_interval": 0.05, "progress": False}
    runner = ToyRunner(lambda request: {"loss": request.parameters["x"] ** 2})
    with AxScheduler(optimizer, runner, config, generation_strategy=strategy) as scheduler:
        scheduler.run_optimization(6)
        found = scheduler.to_df()
        pd.testing.assert_frame_equal(found, table.frame(table.rows(scheduler.run_directory)))
        nodes = [
            trial.generator_run._generation_node_name
            for trial in scheduler.experiment.trials.values()
        ]
        assert list(found["method"]) == nodes
        assert len(set(nodes)) > 1, "the initial phase, and the model"
        assert list(scheduler.summarize()["trial_index"]) == list(range(6))
        best = scheduler.best_trial()
        assert best is not None
        assert best.index == int(found["loss"].idxmin())
        cards = scheduler.plots()
        assert cards
        names = [card.name for card in cards[0].flatten()] if hasattr(cards[0], "flatten") else []
        assert "ErrorAnalysis" not in " ".join(names)


@pytest.mark.parametrize("kind", sql_driver.KINDS)
def test_the_model_s_best_is_the_same_after_a_resume(kind: str, tmp_path: Path) -> None:
    optimizer, strategy = sql_driver.make(kind, init=3)
    config = {"job_output_dir": tmp_path, "monitoring_interval": 0.05, "progress": False}

    def smooth(request):  # eight results are just enough for a model of it
        return {"loss": (request.parameters["x"] - 0.3) ** 2 + request.parameters["y"]}

    with AxScheduler(
        optimizer, ToyRunner(smooth), config, generation_strategy=strategy
    ) as scheduler:
        best = scheduler.run_optimization(8)
    with AxScheduler.resume(scheduler.run_directory, runner=ToyRunner(smooth)) as again:
        after = again.finish()
    assert after.observed == best.observed
    assert bool(after.modelled) == bool(best.modelled), (best, after)
    assert best.modelled is not None, best.why_not_modelled
    assert after.modelled.trial_index == best.modelled.trial_index
