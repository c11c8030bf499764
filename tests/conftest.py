from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.pipe import Pipe

# Models as small as those of the tests gain nothing by a second thread, and lose much by it where
# all cores are busy: OpenMP's threads wait for each other in a loop.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _not_in_the_checkout(tmp_path_factory: pytest.TempPathFactory) -> None:
    """`python -c` looks for modules in the current folder, before those that are installed."""
    os.chdir(tmp_path_factory.mktemp("current"))


@pytest.fixture(autouse=True)
def _deaf_to_no_signal() -> Iterator[None]:
    """Whatever a test's own thread blocks, all processes that later tests start would block too."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    assert signal.pthread_sigmask(signal.SIG_SETMASK, before) == before


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Callable[[str], Pipe]]:
    """Makes named pipes; they are closed when the test ends."""
    pipes: list[Pipe] = []

    def make(name: str) -> Pipe:
        pipes.append(Pipe(tmp_path / name))
        return pipes[-1]

    yield make
    for one in pipes:
        one.close()
