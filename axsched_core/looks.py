"""What can be asked of a run while it goes on and afterwards: a part of `AxScheduler`."""

from __future__ import annotations

from typing import Any

from axsched_core import table
from axsched_core.best import Point
from axsched_core.run.run import Run
from axsched_core.trials import Trial


class Looks:
    """Answers about the trials of a run, as tables, points and plots."""

    _run: Run

    def to_df(self) -> Any:
        """The trials as a pandas ``DataFrame``, one row a trial.

        The columns are those of `axsched_core.table.rows`, which makes the same table from the run
        directory alone, without Ax. With the setting ``durable=False`` the times and hosts are not
        known.

        Raises:
            InvalidInput: pandas is not installed.
        """
        run = self._run
        with run.call("to_df", must_be_written=False):
            if run.writer.opened:
                run.engine.loop.call(run.writer.flush)
                return table.frame(table.rows(run.rundir.path))
            return table.frame(table.table(map(_row, run.trials().values())))

    def best_trial(self) -> Trial | None:
        """The trial with the best observed value that satisfies all constraints; None if there is
        none, or if there are several objectives (`pareto_frontier`)."""
        run = self._run
        with run.call("best_trial", must_be_written=False):
            index = run.with_optimizer(lambda optimizer: optimizer.best()).trial_index
            return None if index is None else run.trials().get(index)

    def pareto_frontier(self, *, model: bool = False) -> list[Point]:
        """The trials that no other is better than.

        Args:
            model: False: by the observed values. True: by Ax's model, with the values that it
                predicts.

        Returns:
            For one objective the best trial alone; empty if there is none.
        """
        run = self._run
        with run.call("pareto_frontier", must_be_written=False):
            best = run.with_optimizer(lambda optimizer: optimizer.best())
        several, one = (
            (best.modelled_pareto, best.modelled) if model else (best.pareto, best.observed)
        )
        return list(several) or [one for one in [one] if one is not None]

    def summarize(self) -> Any:
        """Ax's own summary of the experiment, as a ``DataFrame`` with one row an arm.

        Raises:
            InvalidInput: the optimizer is none of Ax's.
        """
        with self._run.call("summarize", must_be_written=False):
            return self._run.with_optimizer(lambda optimizer: optimizer.summarize())

    def plots(self) -> list[Any]:
        """Ax's own analyses of the experiment: a list of its cards (``AnalysisCardBase``).

        In a notebook show one by writing its name; ``card.get_figure()`` is a plotly figure. Takes
        seconds, because Ax fits a model.

        Raises:
            InvalidInput: the optimizer is none of Ax's.
        """
        with self._run.call("plots", must_be_written=False):
            return self._run.with_optimizer(lambda optimizer: optimizer.plots())


def _row(trial: Trial) -> table.Parts:
    fixed: dict[str, Any] = dict.fromkeys(table.COLUMNS)
    fixed |= {
        "trial_index": trial.index,
        "state": trial.state.value,
        "cause": trial.cause.value if trial.cause else "",
        "message": trial.message,
        "method": trial.method or "manual",
        "attempts": trial.attempts,
    }
    return fixed, trial.parameters, trial.results or {}
