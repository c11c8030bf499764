"""What the tests do where a backend (a cluster, an engine, a database) is not on this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence

REQUIRE = "AXSCHED_REQUIRE_BACKENDS"
"""With this environment variable set to 1 a missing backend is a failure and not a skip."""

SBIN = "/usr/sbin:/sbin"
"""Where Debian has servers, which is not on everybody's PATH."""


def path() -> str:
    """PATH with the servers' folders."""
    return f"{os.environ.get('PATH', os.defpath)}:{SBIN}"


def missing_packages(programs: Mapping[str, str]) -> list[str]:
    """The Debian packages to install, of a table of programs and the packages that have them."""
    absent = {package for name, package in programs.items() if not shutil.which(name, path=path())}
    return sorted(absent)


def install_line(packages: Sequence[str]) -> str:
    return f"apt-get install --no-install-recommends {' '.join(packages)}"


def required() -> bool:
    return os.environ.get(REQUIRE) == "1"


def need(backend: str, packages: Sequence[str], why: str = "") -> None:
    """Skip the test, or fail where backends are required, unless nothing is missing.

    Args:
        backend: its name, for the message.
        packages: the Debian packages that are missing, as `missing_packages` tells.
        why: what else is missing, where no package would help.
    """
    if not packages and not why:
        return
    import pytest  # examples and benchmarks ask for packages without it

    words = f"{backend} is not here: {why or install_line(packages)}"
    if required():
        pytest.fail(words, pytrace=False)
    pytest.skip(words)
