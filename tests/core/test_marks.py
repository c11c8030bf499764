"""What the optimizer's trials hold about their jobs: `metadata["axsched"]`."""

from __future__ import annotations

import pytest

from axsched_core.errors import OptimizerError
from support.toy import ToyOptimizer, ToyRunner


def test_marks_that_the_optimizer_has_refused_come_again(make):
    optimizer, left = ToyOptimizer(), [ValueError("not now")]

    def tell(outcomes):
        if outcomes and left:
            raise left.pop()

    optimizer.on_tell = tell
    scheduler = make(optimizer, ToyRunner(lambda request: {"loss": 1.0, "notes": "hello"}))
    with pytest.raises(OptimizerError, match="could not take the results"):
        scheduler.run_optimization(1)
    scheduler.wait_for_completed_trials()
    assert optimizer.rows[0]["metadata"]["axsched"]["notes"] == "hello"
