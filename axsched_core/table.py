"""The trials of a run as a table: from its run directory, without the optimizer and without Ax."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from axsched_core.errors import InvalidInput
from axsched_core.journal import view
from axsched_core.journal.seen import Trial

COLUMNS = (
    *("trial_index", "state", "cause", "message", "method", "attempts"),
    *("made", "queued", "started", "ended", "duration", "host", "runner"),
)
"""The columns of every table, in order; after them come the parameters, and then each metric and
its standard error."""
SEM = "_sem"
"""The end of the name of a standard error's column."""


def rows(run_dir: str | Path) -> list[dict[str, Any]]:
    """One row a trial, by index.

    The run may still go on; a copy of its folder is enough.

    Args:
        run_dir: the run directory.

    Returns:
        Column -> value. ``made``, ``queued``, ``started`` and ``ended`` are times in UTC,
        ``duration`` seconds from ``started`` to ``ended``; those of the last job. None: not known,
        or there is none. ``method`` is what has made the trial ("manual": the user). Then the
        parameters, by name, and each metric with ``<metric>_sem``, None if it is unknown. A metric
        with the name of a parameter, or of a column, is called ``metric_<name>``; likewise
        ``parameter_<name>``.

    Raises:
        InvalidInput: it is not a run directory.
        JournalDamaged: the message says which line is damaged.
    """
    run = view.Run(Path(run_dir))
    run.look()
    return table(row(run.trials[index]) for index in sorted(run.trials))


def frame(found: Iterable[Mapping[str, Any]]) -> Any:
    """The rows as a pandas ``DataFrame``.

    Raises:
        InvalidInput: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise InvalidInput(
            "A DataFrame needs pandas, which is not installed: axsched_core.table.rows(run_dir) "
            "returns the same as plain rows."
        ) from error
    return pd.DataFrame(list(found))


Parts = tuple[dict[str, Any], Mapping[str, Any], Mapping[str, Any]]
"""Of one row: the fixed columns, the parameters, the metrics with their standard errors."""


def table(found: Iterable[Parts]) -> list[dict[str, Any]]:
    """Rows with the same columns, in the same order."""
    parts = list(found)
    parameters = dict.fromkeys(name for _, given, _ in parts for name in given)
    metrics = dict.fromkeys(name for _, _, results in parts for name in results)
    named = {name: f"parameter_{name}" if name in COLUMNS else name for name in parameters}
    taken = {*COLUMNS, *named.values()}
    called = {name: f"metric_{name}" if name in taken else name for name in metrics}
    made: list[dict[str, Any]] = []
    for fixed, given, results in parts:
        one = dict(fixed)
        one |= {column: given.get(name) for name, column in named.items()}
        for name, column in called.items():
            one[column], one[column + SEM] = results.get(name, (None, None))
        made.append(one)
    return made


def row(trial: Trial) -> Parts:
    """The parts of a trial's row; ``trial``: as `axsched trials` reads it from a journal."""
    last = trial.attempts[-1] if trial.attempts else None
    started, ended = (last.started_at, last.ended_at) if last else (None, trial.ended_at)
    fixed = {
        "trial_index": trial.index,
        "state": trial.state,
        "cause": trial.cause,
        "message": trial.message,
        "method": trial.method or "manual",
        "attempts": len(trial.attempts),
        "made": _time(trial.made_at),
        "queued": _time(last.submitted_at if last else None),
        "started": _time(started),
        "ended": _time(ended),
        "duration": ended - started if started is not None and ended is not None else None,
        "host": last.host if last else "",
        "runner": last.runner if last else "",
    }
    return fixed, trial.parameters, trial.results or {}


def _time(seconds: float | None) -> datetime.datetime | None:
    return None if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC)
