"""How a job has ended: what the engine says of its container, and its worker of the job."""

from __future__ import annotations

import signal as signals
from collections.abc import Mapping
from typing import Any, ClassVar

from attrs import define

from axsched_core.errors import AxschedError
from axsched_core.jobs import Cause, JobStatus
from axsched_docker.engine import seconds
from axsched_docker.spec import TOO_OLD

KILLED = (137, 143, 255)
"""Exit codes of a container that was killed, told to stop, or found dead by a new engine."""
NOT_EXECUTED = (126, 127)
"""Exit codes of a command that cannot be executed, or is not there."""
WHICH_PYTHON = "which Python the image has is said by runner_options={'python': ...}"
NOT_BY_ITSELF = (Cause.SIGNAL, Cause.CANCELLED, Cause.NODE_FAIL)
"""What a worker says that was ended from outside."""
NOT_BY_MEMORY = (Cause.TIME_LIMIT, Cause.CANCELLED)


@define
class Ending:
    """What ``exit.json`` will say; see ``axsched_core/jobfolder.py``."""

    exit_code: int | None = None
    signal: int | None = None
    cause: str | None = None
    message: str = ""
    start: float | None = None
    end: float | None = None
    host: str = ""
    max_rss_bytes: int | None = None
    kept: bool = False
    """The container has files that are not here, and is to stay."""
    paused: float = 0.0
    """Seconds that its container was paused."""
    image: str = ""
    """Id of the image that it ran in."""


class NotStarted(AxschedError):
    """A container could not be started, for good; nothing of it is left.

    Args:
        ending: what is to be told.
    """

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.message)
        self.ending = ending


class NotYet(AxschedError):
    """A container cannot be started now, perhaps later."""

    patience: ClassVar[float]
    """Seconds for which it is tried again."""
    cause: ClassVar[Cause]
    """Of the job's end after that."""

    @property
    def ending(self) -> Ending:
        """Of a job for which the patience is over."""
        return Ending(cause=self.cause, message=f"{self} (tried for {self.patience:g} s)")


def ending_of(
    state: Mapping[str, Any],
    worker: JobStatus | None,
    *,
    with_worker: bool,
    has_result: bool,
    cancelled: str | None,
    engine_was_down: bool,
    last_words: str,
    restarted: bool = False,
    over_limit: float | None = None,
) -> Ending:
    """Bring together all that is known.

    Args:
        state: the container's ``State``, as `Engine.inspect` has it.
        worker: what the worker's ``exit.json`` says, if it has left one.
        with_worker: the container ran a worker (a function or a script).
        has_result: there is a ``result.json``.
        cancelled: the reason why it was asked to stop, if it was.
        engine_was_down: the engine did not answer when the container ended.
        last_words: the end of what the container's first process has printed.
        restarted: somebody else has started the container again after its first start.
        over_limit: the seconds that it was allowed to run, if it was stopped because of them.
    """
    code = int(state.get("ExitCode") or 0)
    if worker is not None:
        ending = Ending(worker.exit_code, worker.signal, worker.cause, worker.message)
    elif with_worker:
        ending = _without_worker(code, last_words)
    else:
        ending = _of_code(code, last_words)
    ending.start = seconds(state.get("StartedAt"))
    # Two clocks of the engine's: the end of a short run may come before its start.
    ending.end = max(ending.start, seconds(state.get("FinishedAt")))
    # A worker runs its job only once; any other command may have begun again, and left half of
    # its files.
    if ending.cause is None and has_result and (with_worker or not restarted):
        return ending
    if over_limit is not None:
        ending.cause = Cause.TIME_LIMIT
        ending.message = f"it ran longer than its limit of {over_limit:g} s; {_ended(code)}"
    elif cancelled is not None and ending.cause != Cause.TIME_LIMIT:
        ending.cause, ending.message = Cause.CANCELLED, cancelled
    elif restarted and (worker is None or worker.cause in NOT_BY_ITSELF):
        ending.cause = Cause.NODE_FAIL
        ending.message = (
            "somebody else has started its container again (docker restart, or a restart policy), "
            "so its files may be of two runs"
        )
    elif state.get("OOMKilled") and ending.cause not in NOT_BY_MEMORY:
        ending.cause = Cause.OUT_OF_MEMORY
        ending.message = f"out of memory: the container's limit was reached; {_ended(code)}"
    elif code in KILLED and engine_was_down:
        ending.cause = Cause.NODE_FAIL
        ending.message = f"the Docker engine went down while it ran; {_ended(code)}"
    return ending


def _of_code(code: int, last_words: str) -> Ending:
    if code in NOT_EXECUTED:
        return Ending(exit_code=code, cause=Cause.EXIT_CODE, message=last_words or _ended(code))
    if code == 0:
        return Ending(exit_code=0)
    number = _signal(code)
    cause = Cause.EXIT_CODE if number is None else Cause.SIGNAL
    return Ending(exit_code=code, signal=number, cause=cause, message=_ended(code))


def _without_worker(code: int, last_words: str) -> Ending:
    """The worker has not told how the job ended: it was killed, or could not run at all."""
    if code in KILLED:
        words = f"the container was killed from outside; {_ended(code)}"
        return Ending(exit_code=code, cause=Cause.NODE_FAIL, message=words)
    if code in NOT_EXECUTED:
        words = f"{last_words or _ended(code)}; {WHICH_PYTHON}"
        return Ending(exit_code=code, cause=Cause.EXIT_CODE, message=words)
    why = last_words or f"the worker has told nothing; {_ended(code)}"
    if code != TOO_OLD:
        why = f"the worker could not run in this image: {why}"
    return Ending(exit_code=code, cause=Cause.LOAD_ERROR, message=why)


def _signal(code: int) -> int | None:
    """By shells' convention, and Docker's: 128 and the signal's number."""
    return code - 128 if code - 128 in list(signals.Signals) else None


def _ended(code: int) -> str:
    number = _signal(code)
    name = f" ({signals.Signals(number).name})" if number is not None else ""
    return f"ended with exit code {code}{name}"
