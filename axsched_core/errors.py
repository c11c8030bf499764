"""One tree of errors. Each message says what was wrong, where, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class AxschedError(Exception):
    """The root of every error that axsched raises on purpose."""


class InvalidInput(AxschedError, ValueError):
    """Something from the user is wrong: a setting, a path, parameters, an objective."""


class OptimizerError(AxschedError):
    """The optimizer cannot be used in its state, or has nothing to propose."""


class OptimizationStuck(OptimizerError):
    """The optimizer waits for trials that are not running."""


class AllTrialsFailed(AxschedError):
    """No trial of the run has a result."""


class FailureRateExceeded(AxschedError):
    """So many trials have failed that the run was stopped; `finish` runs the rest."""


class TrialNotFinished(AxschedError):
    """A trial's result was asked for before its job had one."""


class RunnerError(AxschedError):
    """A runner cannot be found, loaded, opened or used."""


class RunnerNotFound(RunnerError):
    """No installed distribution offers a runner of that name."""


class RunnerLoadError(RunnerError):
    """The plugin is installed but cannot be imported, or two offer the same name."""


class ContractError(RunnerError):
    """A plugin breaks the hook contract."""


class WrongConfiguration(RunnerError):
    """The backend refuses every job of the run alike; trials stay open, `finish` runs them."""


class UnsupportedObjective(RunnerError):
    """The runner cannot run this kind of objective."""


class BackendUnavailable(AxschedError):
    """Raised *by runners*: the backend does not answer now. No job's state changes."""


class Refused(AxschedError):
    """Raised *by runners*, from `OneByOneRunner.submit_one`: the backend will never take this job.

    Its message becomes that of the final `SubmitError`.
    """


class SchedulerBusy(AxschedError):
    """A method was called while another call to the same scheduler is on the stack."""


class SchedulerClosed(AxschedError):
    """The scheduler has been closed."""


class RunLocked(AxschedError):
    """Another driver holds the run directory."""


class JournalDamaged(AxschedError):
    """A run's journal cannot be read; the message says which line, and what can be saved.

    Args:
        path: the journal.
        line: the first line that is damaged; the lines before it are complete.
        why: what is wrong with it.
    """

    def __init__(self, path: Path, line: int, why: str) -> None:
        super().__init__(
            f"{path}, line {line}: {sentence(why)} "
            f"The {line - 1} lines before it are whole; to go on with "
            f"what they say (the damaged file is kept): axsched salvage {path.parent}"
        )
        self.path, self.line = path, line


class OptimizationInterrupted(KeyboardInterrupt):
    """Ctrl-C, after a clean stop; the message says how to continue."""


class OptimizationTerminated(SystemExit):
    """SIGTERM or SIGHUP, after a clean stop; the message, which is also logged, says how to
    continue.

    Not an `OptimizationInterrupted`: a program that continues after Ctrl-C must still end now. Its
    exit status is the one that a shell gives a program that the signal has ended.

    Args:
        number: the signal's number; ``code`` is 128 more.
        words: the state of the run.
    """

    def __init__(self, number: int, words: str) -> None:
        super().__init__(words)
        self.code = 128 + number


def sentence(words: object) -> str:
    """``words`` with a mark at their end: text from elsewhere may have one or not."""
    text = str(words).rstrip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest match, or ""."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {match[0]!r}?" if match else ""
