"""What a failed job printed last: it says more than an exit code."""

from __future__ import annotations

from pathlib import Path

from axsched_core import jobfolder, options, plain
from axsched_core.jobs import Cause, FunctionObjective, JobRequest, Objective

TAIL_BYTES = 2000
LONGEST = 200
"""Characters of the line that a message quotes."""


def with_last_words(words: str, cause: Cause | None, request: JobRequest) -> str:
    """A failure's message with the last line of the job's stderr, if that may say more.

    A function's exception is its message already. If the machine or the limit ended the job, what
    it printed last is not the cause.

    Args:
        words: the message.
        cause: why the job failed.
        request: the job.
    """
    told = isinstance(request.objective, FunctionObjective) and cause is Cause.RESULT_INVALID
    if told or cause not in (Cause.EXIT_CODE, Cause.SIGNAL, Cause.RESULT_INVALID):
        return words
    lines = [line for line in tail(request.folder) if line.strip()]
    if not lines:
        return words
    line = plain.one_line(lines[-1], TAIL_BYTES)
    line = plain.one_line(_masked(line, request.objective), LONGEST)
    if not line or line in words or words in line:
        return words
    return f"{words}; stderr ends: {line}"


def tail(folder: Path) -> list[str]:
    """The last lines of a job's stderr; none if it is missing, empty or cannot be read."""
    try:
        data = jobfolder.read_end(folder, jobfolder.STDERR, TAIL_BYTES)
    except OSError:
        return []
    lines = data.decode(errors="replace").splitlines()
    return lines[1 if len(data) == TAIL_BYTES and len(lines) > 1 else 0 :]


def _masked(line: str, objective: Objective | None) -> str:
    """Without the values of the objective's environment variables: they may be secrets, and
    messages are written into the journal."""
    env = getattr(objective, "env", None) or getattr(objective, "options", None) or {}
    return options.without(line, env)
