"""Values in the form that JSON gives back, numbers of other packages as Python's own, and text of
others as one plain line."""

from __future__ import annotations

import json
import math
import numbers
import operator
import os
import re
from typing import Any


def whole(value: Any) -> int | None:
    """The whole number that a value means: 3, ``np.int64(3)`` and 3.0 are 3; None: it is none.

    A bool is a number in Python, but ``n_jobs=True`` is a mistake.
    """
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        pass
    real = isinstance(value, numbers.Real) and math.isfinite(value)
    return int(value) if real and value == int(value) else None


def number(value: Any) -> float | None:
    """The real number that a value means, also NumPy's and pandas'; None: it is none."""
    meant = value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        meant = whole(value)
    try:
        return None if meant is None else float(meant)
    except OverflowError:
        return math.inf if meant > 0 else -math.inf


_ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\\\)?|.)?")
"""What a terminal would obey: colours, titles, movements of the cursor."""


def one_line(text: str, longest: int) -> str:
    """``text`` from an untrusted source as one line of printable characters.

    Args:
        text: any text.
        longest: characters; of a longer text the end is left out.
    """
    spaced = (" " if letter.isspace() else letter for letter in _ESCAPE.sub("", text))
    words = " ".join("".join(filter(str.isprintable, spaced)).split())
    return words if len(words) <= longest else f"{words[: longest - 3]}..."


def as_written(value: Any) -> Any:
    """The value as it comes back from a journal: keys are strings, paths too, tuples are lists."""
    return json.loads(json.dumps(value, default=default))


def default(value: Any) -> Any:
    """A value that JSON does not know (a NumPy number, a path, a set), or its text.

    The result is checked where it is used again; a journal must not end a run.
    """
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)  # the same in each session
    return value.item() if getattr(value, "shape", None) == () else repr(value)
