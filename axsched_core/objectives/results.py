"""Turn a job's result into metrics for the optimizer, or say why it is not valid."""

from __future__ import annotations

import json
import logging
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from axsched_core.jobs import JobResult, Metrics

log = logging.getLogger("axsched")

NOTES = "notes"
"""The name in a result that may hold any JSON, unless the optimizer needs a metric of this name."""
NOTES_LIMIT = 10_000
"""Bytes of a trial's notes as JSON; longer notes are dropped."""
FORMS = 'a value is a number, (mean, sem) or {"mean": ..., "sem": ...}'


class InvalidResult(ValueError):
    """The result cannot be told to the optimizer; the message says what is wrong with it."""


@frozen
class Result:
    """The valid part of what a job returned."""

    metrics: Metrics
    """Metric name -> (mean, sem), finite; sem None if it is unknown."""
    notes: Any = None
    """The value of `NOTES`, as in JSON (numbers that JSON lacks, like NaN, as strings)."""
    dropped: Mapping[str, str] = field(factory=dict)
    """Name -> why it was left out."""


def metrics_of(
    result: JobResult, *, objectives: Sequence[str], required: Iterable[str], limit: int
) -> Metrics:
    """Only the metrics that `read_result` finds."""
    return read_result(result, objectives=objectives, required=required, limit=limit).metrics


def read_result(
    result: JobResult, *, objectives: Sequence[str], required: Iterable[str], limit: int
) -> Result:
    """Validate what a job returned.

    Required metrics are checked strictly. Any other that is not a valid number is dropped.

    Args:
        result: the raw bytes of the result file, or plain values.
        objectives: the names of the objectives. With exactly one, a bare number or a bare
            ``(mean, sem)`` is its value.
        required: metrics that must be there.
        limit: bytes; a longer result file is refused.

    Raises:
        InvalidResult: a required metric is missing or not valid, or the file is not a result.
    """
    required = frozenset(required).union(objectives)
    value = result.metrics if result.raw is None else _parse(result.raw, limit)
    notes: Any = None
    dropped: dict[str, str] = {}
    if isinstance(value, Mapping) and NOTES in value and NOTES not in required:
        notes, value = value[NOTES], {name: value[name] for name in value if name != NOTES}
        try:
            notes = _notes(notes)
        except InvalidResult as error:
            notes, dropped[NOTES] = None, str(error)
    if not isinstance(value, Mapping):
        if len(objectives) != 1:
            raise InvalidResult(
                f"the result is {_short(value)}, but there are {len(objectives)} objectives "
                f"({', '.join(objectives)}): return a mapping from metric to value"
            )
        value = {objectives[0]: value}
    elif set(value) == {"mean", "sem"} and len(objectives) == 1 and objectives[0] not in value:
        value = {objectives[0]: value}
    metrics: dict[str, tuple[float, float | None]] = {}
    for name, item in value.items():
        try:
            metrics[_name(name)] = metric(name, item)
        except InvalidResult as error:
            if name in required:
                raise
            dropped[str(name)] = str(error)
    missing = [name for name in sorted(required) if name not in metrics]
    if missing:
        raise InvalidResult(
            f"the result lacks {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, metrics)) or 'no metrics at all'}"
        )
    return Result(metrics, notes, dropped)


def warn_of_dropped(result: Result, trial_index: int, known: set[str]) -> None:
    """Log what was dropped, each name once: names in ``known``, which grows, are skipped."""
    for name, why in result.dropped.items():
        if name not in known:
            known.add(name)
            log.warning(
                "Trial %d: %s; %s left out, here and in later trials%s.",
                trial_index,
                why,
                "they are" if name == NOTES else "it is",
                "" if name == NOTES else f" (texts, lists and mappings go under {NOTES!r})",
            )


def _notes(value: Any) -> Any:
    try:
        text = json.dumps(value, default=str)
        plain = json.loads(text, parse_constant=_NOT_IN_JSON.get)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidResult(f"the notes cannot be written as JSON ({error})") from error
    if len(text) > NOTES_LIMIT:
        raise InvalidResult(f"the notes are {len(text):,} bytes as JSON, more than {NOTES_LIMIT:,}")
    return plain


_NOT_IN_JSON = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}


def _parse(raw: bytes, limit: int) -> Any:
    if len(raw) > limit:
        raise InvalidResult(f"the result file is larger than max_result_bytes ({limit:,} bytes)")
    if not raw.strip():
        raise InvalidResult("the result file is empty")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidResult(f"the result file is not whole, valid JSON: {error}") from error


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidResult(f"a metric's name must be a string, not {_short(name)}")
    return name


def metric(name: Any, value: Any) -> tuple[float, float | None]:
    """A metric's value, in any of the `FORMS`, as (mean, sem).

    Raises:
        InvalidResult: it is none.
    """
    if isinstance(value, Mapping):
        extra = set(value) - {"mean", "sem"}
        if "mean" not in value or extra:
            raise InvalidResult(
                f"metric {name!r} is {_short(value)}; a mapping must be "
                '{"mean": number} or {"mean": number, "sem": number}'
            )
        mean, sem = value["mean"], value.get("sem")
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        if len(value) != 2:
            raise InvalidResult(f"metric {name!r} is {_short(value)}, not (mean, sem)")
        mean, sem = value
    else:
        mean, sem = value, None
    mean = finite(name, mean)
    if sem is None:
        return mean, None
    sem = finite(f"{name} (sem)", sem)
    if sem < 0:
        raise InvalidResult(f"the sem of metric {name!r} is negative ({sem})")
    return mean, sem


def finite(name: Any, value: Any) -> float:
    """A finite number.

    Raises:
        InvalidResult: it is none.
    """
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()  # NumPy, torch and JAX scalars
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidResult(f"metric {name!r} is {_short(value)}, not a number ({FORMS})")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidResult(f"metric {name!r} is {number}, not a finite number")
    return number


def _short(value: Any) -> str:
    text = repr(value)
    return f"{text[:60]}..." if len(text) > 63 else text
