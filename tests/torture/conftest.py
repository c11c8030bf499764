from __future__ import annotations

import os
import random
import zlib
from collections.abc import Iterator

import pytest

from support.killed_runs import Drivers

KILLS = int(os.environ.get("AXSCHED_TEST_KILLS", "12"))
"""How many drivers each test of random moments kills."""
SEED = int(os.environ.get("AXSCHED_TEST_SEED", str(random.SystemRandom().randrange(10**6))))


def pytest_report_header() -> str:
    return f"torture: AXSCHED_TEST_KILLS={KILLS} AXSCHED_TEST_SEED={SEED}"


@pytest.fixture
def kills() -> int:
    return KILLS


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """Random, and the same again with the same ``AXSCHED_TEST_SEED``."""
    print(f"to have it again: AXSCHED_TEST_KILLS={KILLS} AXSCHED_TEST_SEED={SEED}")
    return random.Random(SEED + zlib.crc32(request.node.name.encode()))


@pytest.fixture(scope="session")
def drivers() -> Iterator[Drivers]:
    made = Drivers()
    yield made
    made.close()


@pytest.fixture(scope="session")
def drivers_with_ax() -> Iterator[Drivers]:
    made = Drivers("ax", "axsched_core.optimizers.client")
    yield made
    made.close()
