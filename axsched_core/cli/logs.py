"""``axsched logs``: what a trial's job has printed."""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterator
from pathlib import Path

import click

from axsched_core import jobfolder
from axsched_core.cli.errors_shown import in_words
from axsched_core.cli.plain_text import without_control
from axsched_core.cli.trial_argument import WORDS, attempt_of, trial_of
from axsched_core.errors import InvalidInput
from axsched_core.folders import Folder
from axsched_core.journal.seen import Attempt, Trial
from axsched_core.journal.view import Run

PIECE = 1 << 20
"""Bytes that are read at once, and the most of the end of a file that ``-n`` looks at."""
EVERY = 0.5
"""Seconds between two looks with ``--follow``."""


@click.command()
@WORDS
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--stderr", is_flag=True, help="Standard error in place of standard output.")
@click.option("-n", "--lines", "most", type=click.IntRange(0), help="Only the last N lines.")
@click.option("--attempt", type=int, help="Of this attempt. Default: the last one.")
def logs(
    words: tuple[str, ...], follow: bool, stderr: bool, most: int | None, attempt: int | None
) -> None:
    """Print what the job of TRIAL has printed, without colours and other terminal codes.

    The files are those in the job's folder. RUN defaults to the newest run in ./outputs.
    """
    name = jobfolder.STDERR if stderr else jobfolder.STDOUT
    with in_words():
        run, trial = trial_of(words)
        chosen = attempt_of(trial, attempt)
        folder = folder_of(run, trial, chosen)
        try:
            for text in _texts(run, trial, chosen, folder / name, most, follow):
                click.echo(text, nl=False)
        except KeyboardInterrupt:
            raise SystemExit(130) from None


def folder_of(run: Run, trial: Trial, attempt: Attempt) -> Path:
    """The folder of an attempt.

    Raises:
        InvalidInput: it is not here.
    """
    folder = run.folder(trial, attempt)
    if folder is None or not folder.is_dir():
        raise InvalidInput(
            f"The folder of attempt {attempt.number} of trial {trial.index} is not here: {folder}. "
            "It was removed, or was not copied with the run directory."
        )
    return folder


def tail(folder: Path, name: str, most: int) -> str:
    """The last lines of a file of a job's folder, safe to print; "" if there is none."""
    text, offset = _end(folder, name, most)
    rest = jobfolder.read_part(folder, name, offset, PIECE).decode(errors="replace")
    return text + without_control(rest)


def _texts(
    run: Run, trial: Trial, attempt: Attempt, path: Path, most: int | None, follow: bool
) -> Iterator[str]:
    folder, name = path.parent, path.name
    offset = 0
    if most is not None:
        text, offset = _end(folder, name, most)
        yield text
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    rest = ""
    while True:
        # First: what was printed before the job ended is read after its end was seen.
        over = not follow or _is_over(run, trial, attempt)
        while data := jobfolder.read_part(folder, name, offset, PIECE):
            offset += len(data)
            whole, line_end, rest = (rest + decode(data)).rpartition("\n")
            yield without_control(whole + line_end)
            if len(rest) > PIECE:  # no program prints such lines for people
                yield without_control(rest)
                rest = ""
        if over:
            rest += decode(b"", True)
            if rest:
                yield without_control(rest) + "\n"
            return
        time.sleep(EVERY)


def _end(folder: Path, name: str, most: int) -> tuple[str, int]:
    """The last complete lines of a file, and the byte at which they end.

    A last line that is not complete yet counts, but is left to be read.
    """
    try:
        with Folder(folder) as place:
            size = place.size(name)
    except OSError:
        return "", 0
    begin = max(0, size - PIECE)
    data = jobfolder.read_part(folder, name, begin, size - begin)
    torn = data[data.rfind(b"\n") + 1 :]
    data = data[: len(data) - len(torn)]
    most -= bool(torn)
    keep = data.splitlines(keepends=True)[-most:] if most > 0 else []
    text = b"".join(keep).decode(errors="replace")
    return without_control(text), begin + len(data)


def _is_over(run: Run, trial: Trial, attempt: Attempt) -> bool:
    run.look()
    now = run.trials.get(trial.index, trial)
    same = next((one for one in now.attempts if one.number == attempt.number), None)
    return now.ended or same is None or same.ended_at is not None or run.driver is None
