"""What the tests do if a backend (a cluster, an engine, a database) is not on this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence

REQUIRE = "AXSCHED_REQUIRE_BACKENDS"
"""With this environment variable set to 1 a missing backend is a failure and not a skip."""

SBIN = "/usr/sbin:/sbin"
"""Debian's folders for servers; they are not on every user's PATH."""


def path() -> str:
    """PATH with the servers' folders."""
    return f"{os.environ.get('PATH', os.defpath)}:{SBIN}"


def missing_packages(programs: Mapping[str, str]) -> list[str]:
    """The Debian packages to install, from a table of programs and their packages."""
    absent = {package for name, package in programs.items() if not shutil.which(name, path=path())}
    return sorted(absent)


def install_line(packages: Sequence[str]) -> str:
    return f"apt-get install --no-install-recommends {' '.join(packages)}"


def required() -> bool:
    return os.environ.get(REQUIRE) == "1"


def need(backend: str, packages: Sequence[str], why: str = "") -> None:
    """Skip the test if something is missing; fail if backends are required.

    Args:
        backend: its name, for the message.
        packages: the Debian packages that are missing, from `missing_packages`.
        why: what else is missing, if no package would help.
    """
    if not packages and not why:
        return
    import pytest  # examples and benchmarks ask for packages without it

    words = f"{backend} is not here: {why or install_line(packages)}"
    if required():
        pytest.fail(words, pytrace=False)
    pytest.skip(words)
