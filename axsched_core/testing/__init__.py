"""For authors of runners: the conformance kit (``pip install "axsched-core[testing]"``)."""

from axsched_core.testing.bench import Bench
from axsched_core.testing.conformance import RunnerConformance

__all__ = ["Bench", "RunnerConformance"]
