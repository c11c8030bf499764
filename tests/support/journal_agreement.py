"""Checks that the journal says the same as the scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from axsched_core.journal import view
from axsched_core.plain import as_written
from axsched_core.trials import Trial


def journalled(run_dir: Path) -> dict[int, dict[str, Any]]:
    """Each trial, from the journal."""
    run = view.Run(run_dir)
    assert run.look() >= run.trials.keys()
    counts: dict[str, int] = {}
    for trial in run.trials.values():
        counts[trial.state] = counts.get(trial.state, 0) + 1
        if trial.state not in ("QUEUED", "RUNNING") and run.began_at:  # each job has an end
            assert all(one.ended_at is not None for one in trial.attempts), trial
    assert run.counts == counts
    return {
        index: {
            "parameters": trial.parameters,
            "state": trial.state,
            "cause": trial.cause or None,
            "message": trial.message,
            "results": trial.results,
            "notes": trial.notes,
            "attempts": len(trial.attempts),
        }
        for index, trial in run.trials.items()
    }


def known(trials: Mapping[int, Trial]) -> dict[int, dict[str, Any]]:
    """The same, from the scheduler."""
    return {
        index: {
            "parameters": as_written(dict(trial.parameters)),
            "state": trial.state.value,
            "cause": trial.cause.value if trial.cause else None,
            "message": trial.message,
            "results": trial.results and {n: tuple(v) for n, v in trial.results.items()},
            "notes": trial.notes,
            "attempts": trial.attempts,
        }
        for index, trial in trials.items()
    }
