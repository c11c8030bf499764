"""Waiting for what nothing announces."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], timeout: float = 60.0, what: str = "") -> None:
    """Look again and again until something is so.

    Args:
        condition: true once it is.
        timeout: seconds.
        what: is not so, for the error.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {timeout:g} s still not: {what or condition}")
        time.sleep(0.02)
