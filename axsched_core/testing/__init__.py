"""For authors of runners: the conformance kit (``pip install "axsched-core[testing]"``)."""

from axsched_core.testing.bench import Bench
from axsched_core.testing.conformance import RunnerConformance
from axsched_core.testing.random_search import RandomSearch

__all__ = ["Bench", "RandomSearch", "RunnerConformance"]
