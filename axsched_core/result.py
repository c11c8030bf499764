"""What a finished loop says about itself."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from axsched_core.best import Best


@frozen
class OptimizationResult:
    """The end of a loop: `AxScheduler.run_n_trials` and others return it."""

    best: Best | None
    """The best trial as observed and by Ax's model; None if no trial has a result."""
    counts: Mapping[str, int]
    """State (a word of `TrialState`) -> number of the scheduler's trials."""
    causes: Mapping[str, int]
    """Cause (a word of `Cause`) -> number of trials that failed or were cancelled because of it."""
    why_stopped: str
    """Why the loop ended, as text."""
    wall_time: float
    """Seconds that the scheduler's loops have taken so far."""
    worker_use: float | None
    """From 0 to 1: the share of the wall time in which workers evaluated, if there are as many as
    jobs have run at once. None if no job has said when it ran."""

    def __str__(self) -> str:
        counts = ", ".join(f"{number} {state}" for state, number in sorted(self.counts.items()))
        lines = [f"{self.why_stopped} Trials: {counts or 'none'}."]
        if self.causes:
            causes = sorted(self.causes.items(), key=lambda one: -one[1])
            lines.append(f"Causes: {', '.join(f'{n} {cause}' for cause, n in causes)}.")
        use = "" if self.worker_use is None else f", workers busy {self.worker_use:.0%} of it"
        lines.append(f"Wall time: {self.wall_time:.1f} s{use}.")
        if self.best is not None:
            lines.append(str(self.best))
        return "\n".join(lines)
