"""Slurm's commands, and what it means when one of them fails."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping

from attrs import frozen

from axsched_core.errors import BackendUnavailable, RunnerError

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
"""Variables of a job that the driver runs in, or a user's habits (``SQUEUE_PARTITION``): they
would change what our commands do, and leak into jobs."""

KEPT = ("SLURM_CONF",)

_OUTAGE = re.compile(
    r"unable to contact|unable to connect|timed out|zero bytes were transmitted"
    r"|connection (refused|reset|timed out|failure)|connect failure|communication"
    r"|standby mode|transport endpoint|message (send|receive) failure|unable to establish"
    r"|authentication error|munge|slurmdbd|temporarily unable|temporarily unavailable"
    r"|configuration source|insane message|unexpected message|shutting down|not responding"
    r"|header lengths|host is down|no route to host|unable to resolve",
    re.IGNORECASE,
)


class CommandFailed(Exception):
    """A command said no. Its words are the message, without the command's own name."""


@frozen
class Commands:
    """Runs Slurm's commands, each with a time limit.

    Args:
        timeout: seconds.
    """

    timeout: float

    def run(self, *argv: str, env: Mapping[str, str] | None = None) -> str:
        """Run a command; return what it prints.

        Args:
            argv: the command and its arguments.
            env: the whole environment, `own_environment` where it is None.

        Raises:
            BackendUnavailable: Slurm does not answer, or not in time: nobody knows what was done.
            CommandFailed: it has answered, and refuses.
        """
        try:
            process = subprocess.Popen(
                argv,
                env=own_environment() if env is None else env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # out of reach of Ctrl-C
            )
        except OSError as error:
            raise BackendUnavailable(f"{argv[0]} cannot be run: {error}") from error
        try:
            out, err = process.communicate(timeout=self.timeout)
        except BaseException as error:
            _kill(process)
            if isinstance(error, subprocess.TimeoutExpired):
                words = f"{argv[0]} has not answered in {self.timeout:g} s"
                raise BackendUnavailable(words) from error
            raise
        words = _words(err) or _words(out)
        if process.returncode < 0:
            raise BackendUnavailable(f"{argv[0]} was ended by signal {-process.returncode}")
        if process.returncode > 0:
            if is_outage(words) or not words:
                raise BackendUnavailable(f"{argv[0]}: {words or 'failed without a word'}")
            raise CommandFailed(words)
        return out

    def ask(self, *argv: str) -> str:
        """Run a command that only asks; any failure is an outage, never an answer.

        Raises:
            BackendUnavailable: it could not be asked.
        """
        try:
            return self.run(*argv, env={**own_environment(), "SLURM_TIME_FORMAT": "%s"})
        except CommandFailed as failure:
            raise BackendUnavailable(f"{argv[0]}: {failure}") from failure


def require(*names: str) -> None:
    """See to it that these commands are there.

    Raises:
        RunnerError: one is not.
    """
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        raise RunnerError(
            f"Slurm's {', '.join(missing)} cannot be found on PATH. Start the program on a machine "
            "of the cluster (its login node), or see `axsched doctor slurm`."
        )


def own_environment() -> dict[str, str]:
    """The driver's environment without what is Slurm's own."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or not name.startswith(SLURMS_OWN)
    }


def is_outage(words: str) -> bool:
    """True where a command's words say that Slurm did not answer."""
    return _OUTAGE.search(words) is not None


def _words(text: str) -> str:
    """A command's complaint in one line, without ``sbatch: error:`` before each of its own."""
    lines = [re.sub(r"^\w+: (error|fatal): ", "", line.strip()) for line in text.splitlines()]
    return "; ".join(line for line in lines if line)


def _kill(process: subprocess.Popen[str]) -> None:
    """End it with all that it has started (it may be a wrapper), and do not wait for its pipes."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
