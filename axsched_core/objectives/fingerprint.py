"""A digest that identifies an objective's code, also in another session."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import textwrap
import tokenize
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any


def of_function(function: Callable[..., Any]) -> str:
    """A digest of a function: its source and its plain values.

    These are the arguments of a `functools.partial`, defaults, and values that it closes over, if
    they are numbers, strings, None, or tuples of them. The state of objects and the functions that
    it calls do not count. For a lambda, and for a function without readable source, the bytecode
    counts, which differs between minor versions of Python.
    """
    return _digest(repr(_described(function)).encode())


def of_file(path: str | None) -> str:
    """A digest of a script; "" if it cannot be read."""
    try:
        return _digest(Path(path or "").read_bytes())
    except OSError:
        return ""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _described(function: Callable[..., Any]) -> list[Any]:
    if isinstance(function, functools.partial):
        keywords = tuple(sorted(function.keywords.items()))
        return [_described(function.func), _plain(function.args), _plain(keywords)]
    decorated = getattr(function, "__dict__", {}).get("__wrapped__")
    if decorated is not None:
        return [_described(decorated), _values(function)]
    return [_code(function), _values(function)]


def _code(function: Callable[..., Any]) -> Any:
    code = getattr(function, "__code__", None)
    # The source of a lambda is the whole statement around it.
    if code is None or code.co_name != "<lambda>":
        named = function if code or inspect.isclass(function) else type(function)
        with contextlib.suppress(OSError, TypeError, SyntaxError, tokenize.TokenError):
            return textwrap.dedent(inspect.getsource(named))
    code = code or getattr(type(function).__call__, "__code__", None)
    # A function written in C has only a name.
    return _plain(code) if code else getattr(function, "__qualname__", type(function).__qualname__)


def _values(function: Callable[..., Any]) -> list[Any]:
    closure = []
    for cell in getattr(function, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # the cell is filled later
            closure.append(cell.cell_contents)
    keywords = tuple(sorted((getattr(function, "__kwdefaults__", None) or {}).items()))
    defaults = getattr(function, "__defaults__", None) or ()
    return [_plain(tuple(closure)), _plain(defaults), _plain(keywords)]


def _plain(value: Any) -> Any:
    """The value in a form with the same repr in each session; of other values only the type."""
    if isinstance(value, CodeType):
        names = [value.co_varnames, value.co_names, value.co_freevars]
        return [value.co_code, names, _plain(value.co_consts)]
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, frozenset):
        return sorted(repr(_plain(one)) for one in value)
    if value is None or isinstance(value, str | bytes | int | float | complex | slice):
        return repr(value)
    return type(value).__qualname__
