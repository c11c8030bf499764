"""Checks of the hooks' return values, including all fields: a wrong value is found when it arrives,
and not deep inside the engine.

Each function returns None, or two texts: what was expected, and what came.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from axsched_core.jobs import (
    CancelOutcome,
    Cause,
    JobHandle,
    JobResult,
    JobState,
    JobStatus,
    NotReady,
    NotSubmitted,
    SubmitError,
)

Wrong = tuple[str, str]
"""What was expected, and what was returned."""
Rule = tuple[str, Callable[[Any], bool]]
"""What is expected, as text, and a test of a value."""


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_time(value: Any) -> bool:
    return (isinstance(value, float) and math.isfinite(value)) or _is_int(value)


def _survives_json(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    try:
        return bool(json.loads(json.dumps(dict(value), allow_nan=False)) == dict(value))
    except (TypeError, ValueError, RecursionError):
        return False


def _or_none(rule: Rule) -> Rule:
    words, test = rule
    return f"{words} or None", lambda value: value is None or test(value)


TEXT: Rule = ("a str", lambda value: isinstance(value, str))
BYTES: Rule = ("bytes", lambda value: isinstance(value, bytes))
_INT: Rule = ("an int", _is_int)
_BOOL: Rule = ("a bool", lambda value: isinstance(value, bool))
_TIME: Rule = ("a finite number of seconds", _is_time)
_STATE: Rule = ("a JobState", lambda value: isinstance(value, JobState))
_CAUSE: Rule = ("a Cause", lambda value: isinstance(value, Cause))
_DATA: Rule = ("a mapping that comes back from JSON unchanged", _survives_json)

_FIELDS: Mapping[type, Mapping[str, Rule]] = {
    JobHandle: {"key": TEXT, "backend_id": TEXT, "data": _DATA},
    SubmitError: {"message": TEXT, "transient": _BOOL, "every_job": _BOOL},
    JobStatus: {
        "state": _STATE,
        "cause": _or_none(_CAUSE),
        "message": TEXT,
        "remedy": TEXT,
        "suspended": _BOOL,
        "backend_state": TEXT,
        "exit_code": _or_none(_INT),
        "signal": _or_none(_INT),
        "started_at": _or_none(_TIME),
        "ended_at": _or_none(_TIME),
        "host": TEXT,
    },
    JobResult: {"raw": _or_none(BYTES)},
    NotReady: {"reason": TEXT},
    NotSubmitted: {},
    CancelOutcome: {},
}
CAPACITY = _or_none(_INT)


def wrong(value: Any, kinds: tuple[type, ...], key: str | None = None) -> Wrong | None:
    """What is wrong with an answer for one job.

    Args:
        value: the answer.
        kinds: the allowed types.
        key: the job's, if the answer has to repeat it.
    """
    names = " or ".join(kind.__name__ for kind in kinds)
    if not isinstance(value, kinds):
        hint = f"; write {value.__name__}(...)" if value in kinds else ""
        return names, f"{shown(value)}{hint}"
    name = f"a {type(value).__name__}"
    for field, (words, test) in _fields_of(value).items():
        if not test(given := getattr(value, field)):
            return f"{name} whose {field} is {words}", f"one whose {field} is {shown(given)}"
    if isinstance(value, JobHandle) and key is not None and value.key != key:
        return f"{name} whose key is the request's", f"one whose key is {value.key!r}"
    if isinstance(value, JobResult) and (value.raw is None) == (value.metrics is None):
        both = "neither raw nor metrics" if value.raw is None else "both raw and metrics"
        return f"{name} with raw or metrics", f"one with {both}"
    return None


def broken(value: Any, rule: Rule) -> Wrong | None:
    """What is wrong with a plain value."""
    words, test = rule
    return None if test(value) else (words, shown(value))


def shown(value: Any) -> str:
    """A value in the form for error messages."""
    try:
        text = f"{value!r:.200}"
    except Exception as error:  # noqa: BLE001 - a foreign value may raise anything
        text = f"(its repr raises {type(error).__name__})"
    return text if value is None or isinstance(value, type) else f"{text} ({type(value).__name__})"


def _fields_of(value: Any) -> Mapping[str, Rule]:
    return next(fields for kind, fields in _FIELDS.items() if isinstance(value, kind))
