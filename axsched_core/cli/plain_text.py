"""Text for a terminal: nothing that a job or a journal says may control it."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

import click

_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, moves
    r"|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # titles, links, the clipboard
    r"|\x1b[ -/]*[0-~]"
    r"|\x9b[0-?]*[ -/]*[@-~]"
)


def escaped(text: str, keep: str = "") -> str:
    """The text with every character that is not printable as an escape, such as ``\\x1b``.

    Args:
        text: any text, also with lone surrogates and characters that change its direction.
        keep: characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def without_control(text: str) -> str:
    """What a program printed, without its colours and moves; lines and tabs stay.

    A carriage return, which progress bars use, begins a new line.
    """
    text = _SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c if c.isprintable() or c in "\n\t" else "" for c in text)


def styled(text: str, **style: Any) -> str:
    """`click.style`, if standard output shows colours."""
    return click.style(text, **style) if colours() else text


def colours() -> bool:
    """False if standard output is no terminal, or ``NO_COLOR`` is set."""
    unwanted = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not unwanted and sys.stdout.isatty()


def number(value: Any) -> str:
    """A value of a parameter or metric, short."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return escaped(value if isinstance(value, str) else str(value))


def pairs(values: Mapping[str, Any]) -> str:
    """Such as ``x=0.5 kind=linear``."""
    return "  ".join(f"{escaped(name)}={number(value)}" for name, value in values.items())


def duration(seconds: float | None) -> str:
    """Such as ``3.1 s``, ``4 min 10 s``, ``2 h 5 min`` or ``3 d 4 h``; "" for None."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for small, name, large, larger in ((1, "s", 60, "min"), (60, "min", 3600, "h")):
        if whole < large * (60 if large == 60 else 24):
            return f"{whole // large} {larger} {whole % large // small} {name}"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def moment(seconds: float | None) -> str:
    """A time in this machine's time zone; "" for None."""
    import time

    if seconds is None:
        return ""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def memory(size: int | None) -> str:
    """Such as ``1.5 GiB``; "" for None."""
    if size is None:
        return ""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}" if unit != "B" else f"{size} B"
