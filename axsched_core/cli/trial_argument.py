"""``[RUN] TRIAL``: which trial, and which of its jobs, is meant."""

from __future__ import annotations

import click

from axsched_core.cli.run_argument import run_or_newest
from axsched_core.errors import InvalidInput
from axsched_core.journal.seen import Attempt, Trial
from axsched_core.journal.view import Run

WORDS = click.argument("words", nargs=-1, required=True, metavar="[RUN] TRIAL")
"""Gives a command the argument ``words``, for `trial_of`."""


def trial_of(words: tuple[str, ...]) -> tuple[Run, Trial]:
    """The run, after a look at it, and the trial.

    Args:
        words: the trial's index; before it, if it is not the newest run in ./outputs, the run.

    Raises:
        InvalidInput: there is no such run or trial.
    """
    if len(words) > 2:
        raise click.UsageError("Give at most a run and the index of one trial.")
    *before, word = words
    if not (word.isascii() and word.isdigit()):
        raise click.UsageError(f"{word!r} is not the index of a trial, such as 3.")
    run = Run(run_or_newest(before[0] if before else None))
    run.look()
    found = run.trials.get(int(word))
    if found is None:
        have = f"Its last one is {max(run.trials)}." if run.trials else "It has no trials yet."
        raise InvalidInput(f"{run.path.name} has no trial {word}. {have}")
    return run, found


def attempt_of(trial: Trial, number: int | None) -> Attempt:
    """An attempt of a trial; None: the last one.

    Raises:
        InvalidInput: there is none, or none with this number.
    """
    if not trial.attempts:
        raise InvalidInput(f"Trial {trial.index} has had no job yet ({trial.state}).")
    if number is None:
        return trial.attempts[-1]
    for one in trial.attempts:
        if one.number == number:
            return one
    known = ", ".join(str(one.number) for one in trial.attempts)
    raise InvalidInput(f"Trial {trial.index} has no attempt {number}. It has: {known}.")
