"""From what a job left to metrics that may be told to an optimizer, or the reason why not."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from axsched_core.jobs import JobResult, Metrics


class InvalidResult(ValueError):
    """The result cannot be told to the optimizer; the message says what is wrong with it."""


def metrics_of(
    result: JobResult, *, objectives: Sequence[str], required: Iterable[str], limit: int
) -> Metrics:
    """Validate what a job returned.

    Args:
        result: the raw bytes of the result file, or plain values.
        objectives: the names of the objectives. With exactly one, a bare number or a bare
            ``(mean, sem)`` is its value.
        required: metrics that must be there.
        limit: bytes; a longer result file is refused.

    Returns:
        Metric name -> (mean, sem), finite; sem None where it is unknown.

    Raises:
        InvalidResult: anything else.
    """
    value = result.metrics if result.raw is None else _parse(result.raw, limit)
    if not isinstance(value, Mapping):
        if len(objectives) != 1:
            raise InvalidResult(
                f"the result is {_short(value)}, but there are {len(objectives)} objectives "
                f"({', '.join(objectives)}): return a mapping from metric to value"
            )
        value = {objectives[0]: value}
    elif set(value) == {"mean", "sem"} and len(objectives) == 1 and objectives[0] not in value:
        value = {objectives[0]: value}
    metrics = {_name(name): _metric(name, item) for name, item in value.items()}
    missing = [name for name in sorted(required) if name not in metrics]
    if missing:
        raise InvalidResult(
            f"the result lacks {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, metrics)) or 'no metrics at all'}"
        )
    return metrics


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


def _metric(name: Any, value: Any) -> tuple[float, float | None]:
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
    mean = _finite(name, mean)
    if sem is None:
        return mean, None
    sem = _finite(f"{name} (sem)", sem)
    if sem < 0:
        raise InvalidResult(f"the sem of metric {name!r} is negative ({sem})")
    return mean, sem


def _finite(name: Any, value: Any) -> float:
    # NumPy scalars register as numbers.Number; their bool_ does not.
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidResult(f"metric {name!r} is {_short(value)}, not a number")
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
