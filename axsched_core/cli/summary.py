"""What can be said of a whole run: sentences and figures from a `view.Run`, and its JSON form."""

from __future__ import annotations

import math
import shlex
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from axsched_core.journal import lock
from axsched_core.journal.seen import Attempt, Trial
from axsched_core.journal.view import Run

SCHEMA = 1
"""Of every JSON document that a command prints: greater after a change that breaks readers."""
CAUSES = 8
"""The most causes that are listed."""

_REST = (
    ("FAILED", "failed"),
    ("CANCELLED", "cancelled"),
    ("EARLY_STOPPED", "stopped early"),
    ("CLOSED", "closed by you"),
    ("RUNNING", "running"),
    ("QUEUED", "queued"),
    ("CANDIDATE", "waiting for a place"),
)


def total(run: Run) -> int:
    """The run's trials, and those that its last call has not made yet."""
    return len(run.trials) + run.to_make


def counts(run: Run) -> str:
    """Such as ``1 of 12 trials has a result, 11 failed``."""
    have, number = run.counts.get("SUCCEEDED", 0), total(run)
    words = f"{have} of {number} trial{'' if number == 1 else 's'} "
    words += "has a result" if have == 1 else "have a result"
    known = {"SUCCEEDED", *(state for state, _ in _REST)}
    rest = [(state, state.lower().replace("_", " ")) for state in run.counts if state not in known]
    for state, text in (*_REST, *rest):
        if state in run.counts:
            words += f", {run.counts[state]} {text}"
    return words + (f", {run.to_make} not made yet" if run.to_make else "")


def driver_died(run: Run) -> bool:
    """True if the last driver left the run without giving its lock back."""
    return run.driver is None and (run.path / lock.NAME).exists()


def state(run: Run) -> str:
    """The run's state in a sentence."""
    if run.driver is not None:
        who = f"on {run.driver.host}" if run.driver.host else "somewhere"
        return f"running, {who}" + (f", pid {run.driver.pid}" if run.driver.pid else "")
    if run.state == "finished":
        return "finished"
    if not driver_died(run):
        return "interrupted"
    host = (run.calls[-1].host if run.calls else "") or run.host
    return "its driver has died" + (f" (on {host})" if host else "")


def next_command(run: Run) -> str | None:
    """The command that goes on with the run; None: it works, or has nothing left to do."""
    return f"axsched resume {shlex.quote(str(run.path))}" if run.state == "interrupted" else None


def failures(run: Run) -> dict[str, int]:
    """Cause -> number of failed trials, the most frequent first."""
    found = Counter(one.cause or "?" for one in run.trials.values() if one.state == "FAILED")
    return dict(found.most_common())


def last_failures(run: Run, most: int) -> list[Trial]:
    """The trials that failed last, the last one first."""
    failed = [one for one in run.trials.values() if one.state == "FAILED"]
    return sorted(failed, key=lambda one: (one.ended_at or 0, one.index), reverse=True)[:most]


def trials_per_second(run: Run, now: float) -> float | None:
    """How fast trials with jobs ended since the last call began; None: not known."""
    if not run.calls or run.calls[-1].began_at is None:
        return None
    began, call = run.calls[-1].began_at, run.calls[-1]
    ended = sum(
        one.ended and bool(one.attempts) and (one.ended_at or 0) >= began
        for one in run.trials.values()
    )
    until = call.ended_at or (now if run.driver is not None else run.last_at)
    if not ended or until is None or until <= began:
        return None
    return ended / (until - began)


def seconds_left(run: Run, now: float) -> float | None:
    """When the running call will have ended, if it goes on as before; None: not known."""
    if run.driver is None or not run.calls or run.calls[-1].ended_at is not None:
        return None
    rate = trials_per_second(run, now)
    left = run.to_make + sum(not one.ended for one in run.trials.values())
    return left / rate if rate and left else None


def objective(run: Run, trial: Trial) -> float | None:
    """The value of the one objective; None if there are several, or it has none."""
    if len(run.optimized.objectives) != 1 or not trial.results:
        return None
    means = {name: mean for name, (mean, _) in trial.results.items()}
    return run.optimized.objectives[0].value(means)


def seconds(attempt: Attempt | None, now: float | None = None) -> float | None:
    """How long a job has run; for one that still runs, until ``now``."""
    if attempt is None or attempt.started_at is None:
        return None
    until = attempt.ended_at if attempt.ended_at is not None else now
    return None if until is None else max(0.0, until - attempt.started_at)


# ---- JSON ----------------------------------------------------------------------------------


def run_document(run: Run, problem: str = "") -> dict[str, Any]:
    """A run in the form that docs/command_line.md describes."""
    now = time.time()
    rate, driver, best = trials_per_second(run, now), run.driver, run.best
    return {
        "schema": SCHEMA,
        "path": str(run.path),
        "id": run.id,
        "name": run.name,
        "runner": run.runner,
        "state": "unreadable" if problem else run.state,
        "problem": problem or None,
        "driver": None if driver is None else {"host": driver.host, "pid": driver.pid},
        "driver_died": driver_died(run),
        "began_at": run.began_at,
        "last_at": run.last_at,
        "trials": len(run.trials),
        "to_make": run.to_make,
        "counts": dict(run.counts),
        "failures": failures(run),
        "objectives": [
            {"name": one.name, "minimize": one.minimize} for one in run.optimized.objectives
        ],
        "best": None if best is None else {"trial": best.index, **_values(run, best)},
        "why_no_best": run.why_no_best or None,
        "trials_per_hour": rate and rate * 3600,
        "seconds_left": seconds_left(run, now),
        "next_command": None if problem else next_command(run),
    }


def trial_document(run: Run, trial: Trial) -> dict[str, Any]:
    """A trial in the form that docs/command_line.md describes."""
    last, folder = trial.attempts[-1] if trial.attempts else None, run.folder(trial)
    return {
        "trial": trial.index,
        "state": trial.state,
        "cause": trial.cause or None,
        "message": trial.message,
        **_values(run, trial),
        "notes": trial.notes,
        "made_at": trial.made_at,
        "ended_at": trial.ended_at,
        "seconds": seconds(last),
        "host": last.host if last else "",
        "waits_for": trial.waits_for,
        "remedy": trial.remedy,
        "past": trial.past,
        "folder": None if folder is None else str(folder),
        "attempts": [_attempt_document(run, trial, one) for one in trial.attempts],
    }


def _values(run: Run, trial: Trial) -> dict[str, Any]:
    return {
        "objective": objective(run, trial),
        "parameters": dict(trial.parameters),
        "results": None
        if trial.results is None
        else {name: {"mean": mean, "sem": sem} for name, (mean, sem) in trial.results.items()},
    }


def _attempt_document(run: Run, trial: Trial, one: Attempt) -> dict[str, Any]:
    names = (
        *("number", "key", "runner", "state", "message", "waits_for", "remedy", "backend_id"),
        *("backend_word", "exit_code", "signal", "host", "max_rss_bytes"),
        *("submitted_at", "started_at", "ended_at", "again"),
    )
    return {
        **{name: getattr(one, name) for name in names},
        "cause": one.cause or None,
        "seconds": seconds(one),
        "folder": str(run.folder(trial, one)),
    }


def as_json(document: Any) -> str:
    """JSON that every reader takes: numbers that are not finite become null, all else is ASCII."""
    import json

    return json.dumps(_finite(document), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
