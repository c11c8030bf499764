"""Compare what an optimizer holds with what it held before: what has the user changed?"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from attrs import field, frozen

TRIAL_FIELDS = ("status", "parameters", "data", "annotations")
SHOWN = 120
"""Characters of a value that are shown."""
NAMED = 5
"""Trials, or values of one part, that are named."""


@frozen
class Part:
    """One thing that an optimizer holds, except its trials."""

    text: str
    """Everything that is saved of it. A different text means that it has changed."""
    shown: Any = field(default=None, eq=False)
    """Plain data that says the same to a reader; None: the text is JSON, and is shown."""


@frozen
class Content:
    """Everything that an optimizer's file holds, in a form that is cheap to compare.

    Good within one process only.
    """

    trials: Mapping[int, tuple[Hashable, ...]]
    """For each trial, by index, one value for each of `TRIAL_FIELDS`."""
    parts: Mapping[str, Part] = field(factory=dict)
    """Everything else, by a readable name (``search space``)."""

    def since(self, before: Content) -> Changes:
        """The differences from ``before``."""
        now, then = self.parts, before.parts
        parts = tuple(name for name in {**then, **now} if now.get(name) != then.get(name))
        trials = tuple(
            index
            for index in {**before.trials, **self.trials}
            if self.trials.get(index) != before.trials.get(index)
        )
        words = [_part(name, then.get(name), now.get(name)) for name in parts]
        words += _trials(before.trials, self.trials, trials)
        return Changes(frozenset(parts), frozenset(trials), "; ".join(words))


@frozen
class Changes:
    """What has changed; false if nothing has."""

    parts: frozenset[str] = frozenset()
    trials: frozenset[int] = frozenset()
    words: str = ""

    def __bool__(self) -> bool:
        return bool(self.parts or self.trials)


def _part(name: str, before: Part | None, now: Part | None) -> str:
    if before is None or now is None:
        return f"the {name} is {'new' if before is None else 'gone'}"
    found = list(_differences("", _shown(before), _shown(now)))
    more = f", and {len(found) - NAMED} more" if len(found) > NAMED else ""
    details = f": {', '.join(found[:NAMED])}{more}" if found else ""
    return f"the {name} has changed{details}"


def _shown(part: Part) -> Any:
    return json.loads(part.text) if part.shown is None else part.shown


def _differences(path: str, before: Any, now: Any) -> Iterator[str]:
    """Say where two pieces of plain data differ, as close to the leaves as possible."""
    one, other = _by_name(before), _by_name(now)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in {**one, **other}:
            inner = f"{path}.{name}" if path else str(name)
            yield from _differences(inner, one.get(name), other.get(name))
    elif json.dumps(before) != json.dumps(now):  # in which NaN is like NaN
        yield f"{path or 'it'} is {_short(now)}, was {_short(before)}"


def _by_name(data: Any) -> Any:
    """A list of named things (parameters, nodes) as a mapping."""
    if not isinstance(data, Sequence) or isinstance(data, str) or not data:
        return data
    if all(isinstance(one, Mapping) and isinstance(one.get("name"), str) for one in data):
        return {one["name"]: one for one in data}
    return data


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _trials(
    before: Mapping[int, tuple[Hashable, ...]],
    now: Mapping[int, tuple[Hashable, ...]],
    changed: Sequence[int],
) -> Iterator[str]:
    if new := [index for index in changed if index not in before]:
        yield f"new: {_indices(new)}"
    if gone := [index for index in changed if index not in now]:
        yield f"gone: {_indices(gone)}"
    both = [index for index in changed if index in before and index in now]
    for number, name in enumerate(TRIAL_FIELDS):
        if found := [index for index in both if before[index][number] != now[index][number]]:
            yield f"changed: the {name} of {_indices(found)}"


def _indices(indices: Sequence[int]) -> str:
    named = ", ".join(map(str, indices[:NAMED]))
    more = f" and {len(indices) - NAMED} more" if len(indices) > NAMED else ""
    return f"trial{'s' if len(indices) > 1 else ''} {named}{more}"
