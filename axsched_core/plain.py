"""Values in the form that JSON gives back."""

from __future__ import annotations

import json
import os
from typing import Any


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
