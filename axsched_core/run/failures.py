"""Messages of a run that cannot continue, and what it does when its trials fail."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from axsched_core import jobfolder
from axsched_core.config import SchedulerConfig
from axsched_core.errors import (
    AllTrialsFailed,
    FailureRateExceeded,
    OptimizationStuck,
    WrongConfiguration,
    sentence,
)
from axsched_core.run import last_words
from axsched_core.run.recorder import Recorder
from axsched_core.run.records import Record
from axsched_core.run.stopping import Verdict
from axsched_core.trials import TrialState

MOST_CAUSES = 5
"""How many causes a message names."""
TAIL_LINES = 12
"""How much of a ``stderr.log`` is shown for each cause."""


def stopped(
    verdict: Verdict, config: SchedulerConfig, unmade: int, run_dir: Path
) -> FailureRateExceeded:
    """The error that ends the run: what failed, what is left, and how to continue.

    Args:
        verdict: the trials that failed.
        config: has the two settings that the verdict used.
        unmade: how many trials of the call are not made.
        run_dir: the run directory.
    """
    later = (
        f" (in a new session, scheduler = AxScheduler.resume({str(run_dir)!r}) before that)"
        if config.durable
        else ""
    )
    return FailureRateExceeded(
        f"{len(verdict.failed)} of the {verdict.finished} trials that have ended failed, so the "
        f"run was stopped. Trials that were under way stay open, and {unmade} were not made.\n"
        + _causes(verdict.failed, most=MOST_CAUSES, logs=True)
        + "\nRepair the objective, set it again, and call scheduler.finish()"
        + later
        + ". If you expect so many failures, raise the settings tolerated_trial_failure_rate "
        f"(now {config.tolerated_trial_failure_rate:g}; 1 switches this check off) or "
        "min_failed_trials_for_failure_rate_check "
        f"(now {config.min_failed_trials_for_failure_rate_check})."
    )


def misconfigured(
    runner: str, words: str, config: SchedulerConfig, run_dir: Path
) -> WrongConfiguration:
    """The error of a run of which the backend takes no job.

    Args:
        runner: the runner's name.
        words: why, in the backend's text.
        config: says if the run has a journal.
        run_dir: the run directory.
    """
    other = (
        f"AxScheduler.resume({str(run_dir)!r}, runner_options={{...}})"
        if config.durable
        else "a new scheduler with other runner_options"
    )
    return WrongConfiguration(
        f"The runner {runner!r} can run no job of this run: {sentence(words)} No trial has "
        "failed because of it: they stay open. Correct the objective's options and set it again, "
        f"or the runner's: {other}. Then call finish()."
    )


def all_failed(records: Iterable[Record]) -> AllTrialsFailed | None:
    """The error that says why nothing succeeded; None if something did, or nothing ran."""
    ended = [r for r in records if r.state in (TrialState.FAILED, TrialState.SUCCEEDED)]
    if not ended or any(r.state is TrialState.SUCCEEDED for r in ended):
        return None
    return AllTrialsFailed(
        f"All {len(ended)} trials failed, so there are no best parameters. The causes:\n"
        + _causes(ended, most=MOST_CAUSES)
        + "\nThe folders hold what the jobs printed (stdout.log, stderr.log). Repair the "
        "objective, set it again, and call run_optimization again."
    )


def _causes(failed: Sequence[Record], *, most: int, logs: bool = False) -> str:
    """A line for each cause, the most frequent first; ``logs``: with the end of a stderr."""
    causes = sorted(_grouped(failed), key=len, reverse=True)
    lines = [line for records in causes[:most] for line in _about(records, logs=logs)]
    if left := sum(map(len, causes[most:])):
        lines.append(f"  ... and {left} more, with {len(causes) - most} other messages")
    return "\n".join(lines)


def _grouped(failed: Iterable[Record]) -> list[list[Record]]:
    """The trials with the same cause and message, apart from numbers in it, together."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in failed:
        groups.setdefault((_cause(record), _NUMBER.sub("0", record.message)), []).append(record)
    return list(groups.values())


_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")


def _cause(record: Record) -> str:
    return record.cause.value if record.cause else "FAILED"


def _about(records: list[Record], *, logs: bool) -> list[str]:
    """The message of the first of several trials that failed alike."""
    first = records[0]
    where = f" ({first.folder})" if first.folder else ""
    if len(records) == 1:
        lines = [f"  trial {first.index}: {_cause(first)}: {first.message}{where}"]
    else:
        lines = [
            f"  {len(records)} trials: {_cause(first)}: {first.message} "
            f"(first: trial {first.index}{f', {first.folder}' if first.folder else ''})"
        ]
    if logs and first.folder is not None and (tail := last_words.tail(first.folder)[-TAIL_LINES:]):
        path = first.folder / jobfolder.STDERR
        lines += [f"    {path} ends:", *(f"    | {line}" for line in tail)]
    return lines


def stuck(reason: str, held_open: Sequence[int]) -> OptimizationStuck:
    """The error for an optimizer that proposes nothing while no trial is in progress.

    Args:
        reason: the optimizer's own text; "" if it gave none.
        held_open: trials that it waits for, and that are not running here.
    """
    if held_open:
        names = ", ".join(map(str, held_open[:10])) + (" ..." if len(held_open) > 10 else "")
        first = held_open[0]
        help_ = (
            f"It holds these trials as running, and nobody runs them here: {names}. Run each "
            f"(scheduler.run_trial({first})), give its result (scheduler.complete_trial({first}"
            f", raw_data=...)), or abandon it (scheduler.abandon_trial({first})); then go on."
        )
    else:
        help_ = "No trial of it is open, so waiting will not help."
    words = reason or "it gave no reason"
    return OptimizationStuck(f"The optimizer has nothing to propose: {sentence(words)} {help_}")


def begin_anew(
    records: Iterable[Record], recorder: Recorder, may_return: Callable[[list[int]], None]
) -> bool:
    """From here on, ended trials say nothing about the objective.

    For a run that was stopped because its trials fail, and for a new objective: failures do not
    count any more, and the optimizer may propose their points again.

    Args:
        records: all trials of the run.
        recorder: records this, before the optimizer is told.
        may_return: `Optimizer.may_return`, on the thread that owns the optimizer.

    Returns:
        True if any trial had ended.
    """
    ended = [record for record in records if record.state.ended and not record.past]
    if not ended:
        return False
    for record in ended:
        record.past = True
    recorder.anew()
    recorder.writer.flush()
    may_return([record.index for record in ended if record.state is TrialState.FAILED])
    return True
