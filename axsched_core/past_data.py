"""Results from before a run: `AxScheduler.attach_data` and `AxScheduler.warm_start`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from axsched_core.run import past_data
from axsched_core.run.run import Run


class PastData:
    """The methods of `AxScheduler` that give past results to the optimizer.

    Call them before the first trial is proposed: an optimizer with a model then begins with it, as
    past results count for its initial phase (if its generation strategy says so; Ax's own do).
    They may be called later too, and several times.

    Past results become completed trials. They count for no ``max_trials``, but the setting
    ``total_trials`` counts all trials. `run_optimization` takes them into account for the best
    trial, but not for the question whether the objective works.
    Observers get one `Message` for all. The journal has them, so a resumed run has them too: do not
    attach them again after `resume`.
    """

    _run: Run

    def attach_data(self, data: Any, *, ignore: Iterable[str] = ()) -> list[int]:
        """Give past measurements to the optimizer, as completed trials.

        All rows are checked first. If one is bad, nothing is attached.

        Args:
            data: a pandas ``DataFrame``; the path of a CSV file (comma, UTF-8, names in the first
                line; pandas is not needed); a mapping from column to values; or a list of rows,
                each a mapping from column to value. The columns are the search space's parameters
                (fixed and derived ones may be missing), the metrics (all that are optimized or
                constrained; tracking metrics may be missing), ``<metric>_sem`` for a metric's
                standard error (missing: unknown), and ``arm_name`` for a label: it becomes the
                trial's ``notes``, because Ax names its arms itself. An empty cell, None and NaN
                mean that there is no value. Scalars of NumPy and pandas are accepted.
            ignore: names of columns to leave out.

        Returns:
            The indices of the trials, in the order of the rows.

        Raises:
            InvalidInput: a column is unknown, a value is missing, is not a finite number, has a
                wrong type or is outside the search space, or a parameter constraint is broken. The
                message lists up to ten bad rows, each with the reason and its place: the line of a
                CSV file, otherwise the row, counted from 0.

        Example:
            >>> scheduler.attach_data("measured.csv")
            >>> scheduler.attach_data({"x": [0.1, 0.9], "loss": [3.2, 1.4], "loss_sem": [0.1, 0.1]})
        """
        left_out = (ignore,) if isinstance(ignore, str) else tuple(ignore)
        return past_data.attach_data(self._run, data, left_out)

    def warm_start(self, other_run: str | Path) -> list[int]:
        """Give the results of another run to the optimizer, as completed trials.

        The other run must have the same parameters and metrics, and its results must be inside this
        search space. It is only read, and may still be running; a copy of its folder is enough.

        Args:
            other_run: the run directory. All of its succeeded trials are taken, with their notes;
                results that its Ax object got in another way are not in it.

        Returns:
            The indices of the new trials, in the order of the other run's.

        Raises:
            InvalidInput: it is not a run directory, or has no succeeded trial; or trials do not
                fit: the message lists up to ten of them, each with the reason.
            JournalDamaged: the message says which line is damaged, and what can be saved.
        """
        return past_data.warm_start(self._run, other_run)
