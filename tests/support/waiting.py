"""Waiting for conditions without a notification."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], timeout: float = 60.0, what: str = "") -> None:
    """Check a condition again and again until it is true.

    Args:
        condition: returns a true value at the end.
        timeout: seconds.
        what: the condition as text, for the error.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {timeout:g} s still not: {what or condition}")
        time.sleep(0.02)
