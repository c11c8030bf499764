"""A job's folder is the whole protocol between the core and what runs the job.

In, written by the core before the job is submitted:

=====================  ==============================================================
``params.json``        the parameters, a JSON object
``job.json``           what to run: see `prepare`
``function.pkl``       the function (cloudpickle), for a function objective
``cloudpickle.zip``    the cloudpickle for a Python that has none
``axsched_worker.py``  the worker: one file, standard library only
=====================  ==============================================================

Out, written by the worker (or by anything that follows the protocol):

==================  =================================================================
``claim``           made first, with O_EXCL: a worker that cannot make it does not run
``pid.json``        pid, start time, boot id and host of the supervising process, which touches
                    the file every ten seconds
                    (padded: on a full disk ``exit.json`` takes its space)
``result.json``     the metrics; written under another name and renamed
``progress.jsonl``  intermediate metrics, one JSON object per line
``stdout.log``      what the objective printed; ``stderr.log`` likewise
``exit.json``       last of all: how the job ended
``stopped.json``    in its place, if the backend has ended the job and gives the reason
==================  =================================================================

``cancel``, made by the driver, asks the worker to end the job. Values of environment variables are
not in these files: a runner puts them into the environment of the process that starts the worker
(`environment`).

Once a job has begun, the content of its folder is untrusted. The functions here, and
`axsched_core.folders` below them, follow no link, never wait, and read at most a limit; no other
code opens a file of a job's folder. A job that runs as the driver's own user can still do to the
folder everything that this user can.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cloudpickle

from axsched_core.errors import InvalidInput
from axsched_core.folders import DISK_FULL, Folder, NotAFile, remove_tree
from axsched_core.jobs import (
    Cause,
    FunctionObjective,
    JobHandle,
    JobRequest,
    JobResult,
    JobState,
    JobStatus,
    NotReady,
    ScriptObjective,
)
from axsched_core.worker import WORKER_FILE
from axsched_core.worker.axsched_worker import JSON_LIMIT, MESSAGE_LIMIT

PARAMS = "params.json"
"""The parameters, a JSON object."""
JOB = "job.json"
"""What to run. Before the job begins, a runner may add data that only it knows."""
FUNCTION = "function.pkl"
"""The pickled function, for a function objective."""
CLOUDPICKLE = "cloudpickle.zip"
"""The cloudpickle for a Python that has none, to load `FUNCTION`."""
WORKER = "axsched_worker.py"
"""The worker: ``python axsched_worker.py FOLDER`` runs the job."""
CLAIM = "claim"
"""The process that makes it runs the job, or prevents it from running: see `try_claim`."""
CANCEL = "cancel"
"""Asks the worker to end the job; holds the reason: see `request_cancel`."""
PID = "pid.json"
"""Says that the job has begun, and which process supervises it."""
RESULT = "result.json"
"""The metrics."""
PROGRESS = "progress.jsonl"
"""Intermediate metrics, one JSON object per line."""
STDOUT = "stdout.log"
"""What the objective printed."""
STDERR = "stderr.log"
"""What the objective printed to standard error."""
MODULES = "modules.json"
"""Which modules a function has imported, if `JOB` has ``"list_modules": true``."""
EXIT = "exit.json"
"""How the job ended; written last of all."""
STOPPED = "stopped.json"
"""In place of `EXIT` if the backend has ended the job and gives the reason itself. The worker
writes it if `JOB` has ``"backend_explains": true``."""


REASON_LIMIT = 2000
"""The limit of bytes that are read of the reason for a cancel."""
PROGRESS_LIMIT = 4 << 20
"""The limit of bytes of ``progress.jsonl`` that one call reads."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a temporary file next to ``path`` and rename it, so that no reader sees half of it.

    For files outside of jobs' folders; use `write` inside them.

    Raises:
        OSError: it cannot be written; the old content stays.
    """
    with Folder(path.parent, follow=True) as parent:
        parent.replace(path.name, data)


def write(folder: Path, name: str, data: bytes) -> None:
    """Write a file into a job's folder; it replaces anything of the same name.

    Raises:
        FileNotFoundError: there is no such folder.
        OSError: it cannot be written; the old content stays.
    """
    with Folder(folder) as place:
        place.replace(name, data)


def prepare(
    request: JobRequest, *, function_file: Path | None = None, max_result_bytes: int
) -> None:
    """Make the folder of ``request`` and write the job's input files into it.

    Args:
        request: the job; its folder must not exist yet.
        function_file: the pickled function, for a function objective.
        max_result_bytes: a larger result will be refused.

    Raises:
        OSError: the folder cannot be made or written.
    """
    request.folder.mkdir(mode=0o700, parents=True)
    try:
        _fill(request, function_file, max_result_bytes)
    except BaseException:
        # An incomplete folder would block the next try.
        with contextlib.suppress(OSError):
            remove_tree(request.folder)
        raise


def _fill(request: JobRequest, function_file: Path | None, max_result_bytes: int) -> None:
    folder, objective = request.folder, request.objective
    job: dict[str, Any] = {
        "key": request.key,
        "trial_index": request.trial_index,
        "attempt": request.attempt,
        "time_limit": request.resources.time_limit,
        "max_result_bytes": max_result_bytes,
        "kind": objective.capability.value if objective is not None else None,
    }
    if isinstance(objective, FunctionObjective):
        job |= {
            "function": objective.name,
            "keywords": objective.keywords,
            "python": list(objective.python),
        }
    elif isinstance(objective, ScriptObjective):
        job |= {
            "argv": list(objective.argv),
            "env": sorted(objective.env),
            "working_dir": objective.working_dir,
        }
    with Folder(folder) as place:
        place.create(PARAMS, json.dumps(dict(request.parameters)).encode())
        place.create(JOB, json.dumps(job).encode())
        if objective is not None:
            # Copies, never hard links: through a link a job could change what all jobs share.
            if function_file is not None:
                place.copy_in(function_file, FUNCTION)
                place.copy_in(_cloudpickle_beside(function_file), CLOUDPICKLE)
            place.copy_in(WORKER_FILE, WORKER)


def _cloudpickle_beside(function_file: Path) -> Path:
    # A later driver of the same run may pickle with another version.
    path = function_file.with_name(f"cloudpickle-{cloudpickle.__version__}.zip")
    if not path.exists():
        package = Path(cloudpickle.__file__).parent
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for source in sorted(package.glob("*.py")):
                archive.write(source, f"{package.name}/{source.name}")
        write_atomically(path, packed.getvalue())
    return path


def recorded(folder: Path, run_dir: Path) -> str:
    """A job's folder in the form for a handle: relative to the run directory, which may move.

    Args:
        folder: `JobRequest.folder`.
        run_dir: `RunnerContext.run_dir`.
    """
    return str(folder.relative_to(run_dir)) if folder.is_relative_to(run_dir) else str(folder)


def located(recorded: str, run_dir: Path) -> Path:
    """The folder that `recorded` describes, in the current run directory.

    Earlier versions wrote absolute paths, and the run directory may have been moved or copied
    since: a folder of the same name in this run directory comes first.
    """
    path = Path(recorded)
    if path.is_absolute():
        here = run_dir / path.parent.name / path.name
        return here if os.path.lexists(here) else path
    return run_dir / path


class JobFolders:
    """The folders of a run's jobs, by the names in a runner's handles.

    A handle's folder is relative to the run directory, which may move.

    Args:
        run_dir: the run directory, see `RunnerContext.run_dir`.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir

    def handle(self, request: JobRequest, backend_id: str = "", **data: Any) -> JobHandle:
        """Make a handle that names the folder of ``request`` in its ``data``.

        Args:
            request: the job.
            backend_id: the backend's own name for it.
            data: other data for the handle; JSON values only.
        """
        folder = recorded(request.folder, self._run_dir)
        return JobHandle(request.key, backend_id, {"folder": folder, **data})

    def of(self, handle: JobHandle) -> Path:
        """The folder of a handle's job.

        Raises:
            KeyError: the handle names no folder; see `knows`.
        """
        return located(handle.data["folder"], self._run_dir)

    @staticmethod
    def knows(handle: JobHandle) -> bool:
        """True if a handle names a folder: `handle` has made it, in this process or another."""
        return "folder" in handle.data


def drop_copies(folder: Path) -> None:
    """Remove the copies of the files that all jobs of a run share, once the job is over.

    Raises:
        OSError: they cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), Folder(folder) as place:
        for name in (FUNCTION, CLOUDPICKLE):
            place.remove(name)


def environment(request: JobRequest) -> Mapping[str, str]:
    """The environment variables that the job needs in addition to its machine's; may hold secrets.

    Put them into the environment of the process that starts the worker. Never write them to a file.
    """
    return request.objective.env if isinstance(request.objective, ScriptObjective) else {}


@contextlib.contextmanager
def _opened(folder: Path | Folder) -> Iterator[Folder]:
    if isinstance(folder, Folder):
        yield folder
    else:
        with Folder(folder) as place:
            yield place


def has(folder: Path | Folder, name: str) -> bool:
    """True if a job's folder has anything of this name; False also if there is no folder.

    Raises:
        OSError: the file system does not answer.
    """
    try:
        with _opened(folder) as place:
            return place.has(name)
    except (FileNotFoundError, NotADirectoryError):
        return False


def age(folder: Path, name: str) -> float | None:
    """Seconds since a file of a job's folder was written; None if there is none.

    The machine's clock minus the file system's time stamp: it may be negative.

    Raises:
        OSError: the file system does not answer.
    """
    try:
        with Folder(folder) as place:
            found = place.stat(name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return None if found is None else time.time() - found.st_mtime


def read_json(folder: Path | Folder, name: str) -> Any:
    """Read a JSON file of a job's folder; None (no information) if it is missing, incomplete, huge,
    not JSON or not a regular file, or if the file system does not answer."""
    try:
        with _opened(folder) as place:
            data = place.read(name, JSON_LIMIT + 1)
        return json.loads(data) if len(data) <= JSON_LIMIT else None
    except (OSError, ValueError, RecursionError):
        return None


def _number(value: Any) -> float | None:
    try:
        ok = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return float(value) if ok else None
    except OverflowError:  # an integer that is too large for a float
        return None


def _integer(value: Any, limit: int = 1 << 31) -> int | None:
    ok = isinstance(value, int) and not isinstance(value, bool) and abs(value) < limit
    return value if ok else None


def _words(value: Any) -> str:
    """A text for people: of limited length, without characters that break a terminal or an
    encoding."""
    text = value[:MESSAGE_LIMIT] if isinstance(value, str) else ""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def read_exit(folder: Path | Folder, name: str = EXIT) -> JobStatus | None:
    """Read how the job ended; None while there is no such file, or it cannot be read.

    The machine that ran the job wrote the file, so the types in it are not trusted.

    Args:
        folder: the job's.
        name: `EXIT` or `STOPPED`.

    Returns:
        ``SUCCEEDED`` if the process has ended with exit code 0 and without a cause, otherwise
        ``FAILED`` or ``CANCELLED`` with the cause.
    """
    data = read_json(folder, name)
    if not isinstance(data, Mapping):
        return None
    exit_code, signal = _integer(data.get("exit_code")), _integer(data.get("signal"))
    word = data.get("cause")
    cause = Cause(word) if isinstance(word, str) and word in Cause.__members__ else None
    if cause is Cause.CANCELLED:
        state = JobState.CANCELLED
    elif cause is None and exit_code == 0:
        state = JobState.SUCCEEDED
    else:
        state = JobState.FAILED
        cause = cause or (Cause.SIGNAL if signal is not None else Cause.EXIT_CODE)
    return JobStatus(
        state,
        cause,
        message=_words(data.get("message")),
        exit_code=exit_code,
        signal=signal,
        started_at=_number(data.get("start")),
        ended_at=_number(data.get("end")),
        host=_words(data.get("host")),
        max_rss_bytes=_integer(data.get("max_rss_bytes"), 1 << 62),
    )


def read_start(folder: Path) -> JobStatus | None:
    """``RUNNING`` once its supervisor has written ``pid.json``; None before."""
    data = read_json(folder, PID)
    if not isinstance(data, Mapping):
        return None
    return JobStatus(JobState.RUNNING, host=_words(data.get("host")))


def read_result(folder: Path, limit: int) -> JobResult | NotReady:
    """Read ``result.json``, at most ``limit`` bytes and one more.

    Args:
        folder: the job's.
        limit: bytes; `RunnerContext.max_result_bytes`.

    Returns:
        The bytes, unchanged, or `NotReady` if there is no regular file of that name.

    Raises:
        OSError: the file system does not answer.
    """
    try:
        with Folder(folder) as place:
            return JobResult(raw=place.read(RESULT, limit + 1))
    except FileNotFoundError:
        return NotReady(f"there is no {RESULT} in {folder}")
    except NotADirectoryError:
        return NotReady(f"{folder} is not a folder any more: the job has replaced it")
    except (NotAFile, PermissionError) as error:
        return NotReady(f"{folder / RESULT} is not read: {error.strerror}")


def log_name(stream: str) -> str:
    """The file that holds ``"stdout"`` or ``"stderr"``.

    Raises:
        InvalidInput: there is no such stream.
    """
    names = {"stdout": STDOUT, "stderr": STDERR}
    if stream not in names:
        raise InvalidInput(f"stream={stream!r}: there are {' and '.join(names)}.")
    return names[stream]


def read_part(folder: Path | Folder, name: str, offset: int, limit: int) -> bytes:
    """Up to ``limit`` bytes of a file of a job's folder, from byte ``offset``.

    Empty if it is missing, or is not a regular file.

    Raises:
        OSError: the file system does not answer.
    """
    try:
        with _opened(folder) as place:
            return place.read(name, limit, offset)
    except (FileNotFoundError, NotADirectoryError, NotAFile):
        return b""


def read_end(folder: Path, name: str, limit: int) -> bytes:
    """The last ``limit`` bytes of a file of a job's folder; empty like `read_part`.

    Raises:
        OSError: the file system does not answer.
    """
    try:
        with Folder(folder) as place:
            return place.read(name, limit, max(0, place.size(name) - limit))
    except (FileNotFoundError, NotADirectoryError, NotAFile):
        return b""


def read_progress(folder: Path, offset: int) -> bytes:
    """The complete lines of ``progress.jsonl`` from byte ``offset``, up to `PROGRESS_LIMIT`.

    Raises:
        OSError: the file system does not answer.
    """
    return whole_lines(read_part(folder, PROGRESS, offset, PROGRESS_LIMIT))


def whole_lines(data: bytes) -> bytes:
    """Everything up to the end of the last complete line."""
    return data[: data.rfind(b"\n") + 1]


def try_claim(folder: Path, who: str) -> bool:
    """Claim the job: True means that no other process runs it or ever will.

    For drivers. False: a worker or another driver has the claim; `taken_back_by` says which.

    Args:
        folder: the job's.
        who: a text that says why the job must never run.

    Raises:
        FileNotFoundError: there is no such folder.
        OSError: the claim cannot be written.
    """
    try:
        return claim(folder, {"by": who})
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
    # An empty file takes no space. It does not say who claimed, but the job certainly never runs.
    try:
        with Folder(folder) as place:
            place.create(CLAIM, b"")
    except FileExistsError:
        return False
    return True


def claim(folder: Path, content: Mapping[str, str]) -> bool:
    """Claim the job for the process that will run it: False if it is claimed already.

    Args:
        folder: the job's.
        content: the content of the claim. The key ``by`` is for drivers: see `try_claim`.

    Raises:
        FileNotFoundError: there is no such folder.
        OSError: the claim cannot be written.
    """
    try:
        with Folder(folder) as place:
            place.create(CLAIM, json.dumps(dict(content)).encode())
    except FileExistsError:
        return False
    except NotADirectoryError as error:
        raise FileNotFoundError(error.errno, "there is no such folder", str(folder)) from error
    return True


def keep_from_running(folder: Path, who: str) -> bool:
    """Claim the job like `try_claim`; True also if it cannot begin because it has no folder.

    Raises:
        OSError: the claim cannot be written.
    """
    try:
        return try_claim(folder, who)
    except FileNotFoundError:
        return True


def taken_back_by(folder: Path) -> str | None:
    """The text of the driver that made the claim (see `try_claim`), so that the job never ran and
    never will; None if no driver did."""
    found = read_json(folder, CLAIM)
    if not isinstance(found, Mapping) or "by" not in found or has(folder, PID):
        return None  # after the job has begun, only the job itself can have written that
    return _words(found["by"])


def never_ran(folder: Path) -> bool:
    """True if a driver has made the claim, so that no job ever could."""
    return taken_back_by(folder) is not None


def cancel_reason(folder: Path) -> str | None:
    """Why the job was asked to end (`request_cancel`); None if it was not.

    Raises:
        OSError: the file system does not answer.
    """
    try:
        with Folder(folder) as place:
            return place.read(CANCEL, REASON_LIMIT).decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (NotAFile, PermissionError):
        return ""  # something else has this name


def request_cancel(folder: Path, reason: str) -> None:
    """Ask the worker that runs the job to end it. The worker checks ten times a second.

    Args:
        folder: the job's.
        reason: for people.

    Raises:
        OSError: it cannot be written, not even without the reason if the disk is full.
    """
    try:
        write(folder, CANCEL, reason.encode())
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        write(folder, CANCEL, b"")
