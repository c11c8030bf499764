"""Runs Slurm's commands and turns their failures into exceptions."""

from __future__ import annotations

import math
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import define, field

from axsched_core.errors import BackendUnavailable, RunnerError
from axsched_core.jobs import no_limit

SLURMS_OWN = (
    "SLURM_",
    "SLURMD_",
    "SBATCH_",
    "SQUEUE_",
    "SACCT_",
    "SCANCEL_",
    "SCONTROL_",
    "SINFO_",
    "SRUN_",
    "SALLOC_",
    "PMI_",
    "PMIX_",
)
"""Variables of a job that the driver runs in, or a user's own settings (``SQUEUE_PARTITION``).
They would change what our commands do, and leak into jobs."""

KEPT = ("SLURM_CONF",)

_RETRIES = re.compile(
    r"\w+: (?:error: )?"
    r"((?:Slurm|Job|Requested|Nodes)\b[\w .]*, ?sleeping and retrying\.?"
    r"|s_p_parse_file: .*, retrying in 1 ?sec up to \d+ ?sec)"
)
"""A line that a Slurm command prints before it sleeps, for up to two minutes, and tries again:
sbatch if the queue is full, all commands if there is no slurm.conf."""


class CommandRetries(BackendUnavailable):
    """A command said that it will try again by itself, so we ended it.

    Its request was not done, unless it tried again before we ended it.
    """


class CommandFailed(Exception):
    """A command refused. Its words are the message, without the command's own name.

    Args:
        lines: the lines that it printed.
        code: its exit code.
    """

    def __init__(self, lines: Sequence[str], code: int) -> None:
        super().__init__("; ".join(lines) or f"failed with exit code {code}, without a word")
        self.lines, self.code = tuple(lines), code


QUICK = 5.0
"""A shortened time limit is at least this many seconds."""
LOOK = 0.5
"""Seconds after which a Ctrl-C is noticed."""


@define
class Commands:
    """Runs Slurm's commands, each with a time limit.

    After one has not answered, the next ones get a tenth of the time, so that the end of a run
    does not wait for each of them. They get the whole limit again when one has answered, or when
    as much time as the whole limit has passed.

    Args:
        timeout: seconds.
    """

    timeout: float
    time_left: Callable[[], float | None] = no_limit
    """As `RunnerContext.time_left`: a command does not last longer, except for the first seconds
    (`QUICK`)."""
    _silent_at: float = field(default=-math.inf, init=False)
    _has_worked: bool = field(default=False, init=False)

    def run(self, *argv: str, env: Mapping[str, str] | None = None) -> str:
        """Run a command; return what it prints.

        Args:
            argv: the command and its arguments.
            env: the whole environment; `own_environment` if None.

        Raises:
            BackendUnavailable: Slurm does not answer in time: it is unknown what was done.
            CommandFailed: it has answered, and refuses.
        """
        try:
            out = self._run(argv, own_environment() if env is None else env)
        except BackendUnavailable as trouble:
            trouble.args = (self._first_contact(str(trouble)),)
            raise
        self._has_worked = True
        return out

    def _first_contact(self, words: str) -> str:
        """Add advice if no command has ever worked: this does not pass by itself."""
        if self._has_worked:
            return words
        return f"{words} (no command of Slurm's has worked yet; try `axsched doctor slurm`)"

    def _run(self, argv: Sequence[str], env: Mapping[str, str]) -> str:
        try:
            process = subprocess.Popen(
                argv,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # out of reach of Ctrl-C
            )
        except OSError as error:
            raise BackendUnavailable(f"{argv[0]} cannot be run: {error}") from error
        try:
            out, err = self._finish(process, argv[0])
        except BaseException:
            _kill(process)
            raise
        if process.returncode < 0:
            raise BackendUnavailable(f"{argv[0]} was ended by signal {-process.returncode}")
        if process.returncode > 0:
            raise CommandFailed(_lines(err) or _lines(out), process.returncode)
        return out

    def _finish(self, process: subprocess.Popen[bytes], name: str) -> tuple[str, str]:
        """Wait for a command; return its stdout and stderr.

        Raises:
            BackendUnavailable: it takes too long, or is about to sleep.
        """
        assert process.stdout is not None
        assert process.stderr is not None
        began = time.monotonic()
        silent = began < self._silent_at + self.timeout
        limit = min(self.timeout, max(self.timeout / 10, QUICK)) if silent else self.timeout
        deadline = began + limit
        printed: dict[Any, bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
        with selectors.DefaultSelector() as selector:
            for pipe in printed:
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map():
                now = time.monotonic()
                if (left := self.time_left()) is not None:
                    deadline = min(deadline, max(began + QUICK, now + left))
                if now >= deadline:
                    raise self._no_answer(name, deadline - began)
                for key, _ in selector.select(min(LOOK, deadline - now)):
                    piece = os.read(key.fd, 1 << 16)
                    printed[key.fileobj] += piece
                    if not piece:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is process.stderr:
                        _refuse_to_wait(name, bytes(printed[process.stderr]))
        out, err = (bytes(printed[pipe]).decode(errors="replace") for pipe in printed)
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            raise self._no_answer(name, deadline - began) from error
        self._silent_at = -math.inf
        process.stdout.close()
        process.stderr.close()
        return out, err

    def _no_answer(self, name: str, allowed: float) -> BackendUnavailable:
        if math.isclose(allowed, self.timeout):
            self._silent_at = time.monotonic()
        return BackendUnavailable(f"{name} has not answered in {allowed:.3g} s")

    def ask(self, *argv: str) -> str:
        """Run a command that only asks; any failure is an outage, never an answer.

        Raises:
            BackendUnavailable: the command failed.
        """
        try:
            return self.run(*argv, env={**own_environment(), "SLURM_TIME_FORMAT": "%s"})
        except CommandFailed as failure:
            words = self._first_contact(f"{argv[0]}: {failure}")
            raise BackendUnavailable(words) from failure


def require(*names: str) -> None:
    """Check that these commands exist, and the file that SLURM_CONF names.

    Raises:
        RunnerError: one of them does not exist.
    """
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        raise RunnerError(
            f"Slurm's {', '.join(missing)} cannot be found on PATH. Start the program on a machine "
            "of the cluster (its login node), or see `axsched doctor slurm`."
        )
    if (conf := os.environ.get("SLURM_CONF")) and not os.path.exists(conf):
        raise RunnerError(
            f"SLURM_CONF={conf} leads to no file, so no command of Slurm's can work. Set it to "
            "the cluster's slurm.conf, or unset it, and see `axsched doctor slurm`."
        )


def own_environment() -> dict[str, str]:
    """The driver's environment without Slurm's own variables."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or not name.startswith(SLURMS_OWN)
    }


def _lines(text: str) -> list[str]:
    """A command's complaint, without ``sbatch: error:`` before each of its own lines."""
    lines = [re.sub(r"^\w+: (error|fatal): ", "", line.strip()) for line in text.splitlines()]
    return [line for line in lines if line]


def _refuse_to_wait(name: str, printed: bytes) -> None:
    for line in printed.decode(errors="replace").splitlines():
        if found := _RETRIES.fullmatch(line.strip()):
            raise CommandRetries(f"{name}: {found[1]}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End it and all that it started (it may be a wrapper); do not wait for its pipes."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
