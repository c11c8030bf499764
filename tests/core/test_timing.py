from __future__ import annotations

from axsched_core.run.timing import pause_between_looks


def test_short_jobs_are_looked_at_often_and_long_ones_rarely() -> None:
    assert pause_between_looks(0.0, 1) == 0.05
    assert pause_between_looks(4.0, 1) == 0.2  # a twentieth of what the job has taken
    assert pause_between_looks(3600.0, 1) == 0.5


def test_there_are_no_more_than_a_thousand_looks_a_second() -> None:
    assert pause_between_looks(0.0, 200) == 0.2
    assert pause_between_looks(3600.0, 5000) == 5.0
