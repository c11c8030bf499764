"""Where the driver's Python finds modules, so that a job finds the same ones."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

_STDLIB = os.path.dirname(os.__file__)
_OF_PYTHON = {
    _STDLIB,
    os.path.join(_STDLIB, "lib-dynload"),
    os.path.join(
        os.path.dirname(_STDLIB), f"python{sys.version_info.major}{sys.version_info.minor}.zip"
    ),
}


def places(base: str | None) -> dict[str, Any]:
    """The part of a job's ``job.json`` about the driver's current `sys.path`.

    Args:
        base: the folder for relative entries; None: it was removed.

    Returns:
        ``sys_path``: the entries, in order; ``sys_prefix``: the Python of this path;
        ``sys_path_front``: how many of them come before that Python's own; ``sys_modules``:
        modules of the driver that hide one of Python's own (name -> file), if there are any.
    """
    path = _absolute(sys.path, base)
    front = next((i for i, entry in enumerate(path) if entry in _OF_PYTHON), len(path))
    found = {"sys_path": path, "sys_path_front": front, "sys_prefix": sys.prefix}
    hiding = {
        name: file
        for name in sys.stdlib_module_names.intersection(sys.modules)
        if isinstance(file := getattr(sys.modules[name], "__file__", None), str)
        and not file.startswith(_STDLIB + os.sep)
    }
    return {**found, "sys_modules": hiding} if hiding else found


def _absolute(entries: Sequence[Any], base: str | None) -> list[str]:
    # Python itself skips entries that are not strings.
    paths = [entry for entry in entries if isinstance(entry, str)]
    if base is None:
        return [path for path in paths if os.path.isabs(path)]
    return [os.path.normpath(os.path.join(base, path)) for path in paths]


def current_directory() -> str | None:
    """The current directory; None if it was removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None
