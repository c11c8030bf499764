"""A job's folder is the whole protocol between the core and what runs the job.

In, written by the core before the job is submitted:

==================  =================================================================
``params.json``     the parameters, a JSON object
``job.json``        what to run: see `prepare`
``function.pkl``    the function (cloudpickle), for a function objective
``cloudpickle.zip``    what a Python without cloudpickle loads it with
``axsched_worker.py``  the worker: one file, standard library only
==================  =================================================================

Out, written by the worker (or by anything that follows the protocol):

==================  =================================================================
``claim``           made first, with O_EXCL: who cannot make it does not run
``pid.json``        pid, start time, boot id and host of the supervising process
``result.json``     the metrics; written beside and renamed
``progress.jsonl``  intermediate metrics, one JSON object a line
``stdout.log``      what the objective printed; ``stderr.log`` likewise
``exit.json``       last of all: how the job ended
``stopped.json``    in its place, where the backend has ended the job and says itself why
==================  =================================================================

``cancel``, made by the driver, asks the worker to end the job. Values of environment variables
are in none of these files: a runner puts them into the environment of the process that starts
the worker (`environment`).
"""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cloudpickle

from axsched_core.errors import InvalidInput
from axsched_core.jobs import (
    Cause,
    FunctionObjective,
    JobRequest,
    JobResult,
    JobState,
    JobStatus,
    NotReady,
    ScriptObjective,
)
from axsched_core.worker import WORKER_FILE
from axsched_core.worker.axsched_worker import JSON_LIMIT

PARAMS = "params.json"
JOB = "job.json"
FUNCTION = "function.pkl"
CLOUDPICKLE = "cloudpickle.zip"
WORKER = "axsched_worker.py"
CLAIM = "claim"
CANCEL = "cancel"
PID = "pid.json"
RESULT = "result.json"
PROGRESS = "progress.jsonl"
STDOUT = "stdout.log"
STDERR = "stderr.log"
EXIT = "exit.json"
STOPPED = "stopped.json"


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` beside ``path`` and rename it, so that nobody ever reads half a file."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source`` where the file system can, else a copy."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)


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
        # Half a folder would stand in the way of the next try.
        shutil.rmtree(request.folder, ignore_errors=True)
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
    (folder / PARAMS).write_text(json.dumps(dict(request.parameters)), encoding="utf-8")
    (folder / JOB).write_text(json.dumps(job), encoding="utf-8")
    if objective is not None:
        if function_file is not None:
            link_or_copy(function_file, folder / FUNCTION)
            link_or_copy(_cloudpickle_beside(function_file), folder / CLOUDPICKLE)
        link_or_copy(WORKER_FILE, folder / WORKER)


def _cloudpickle_beside(function_file: Path) -> Path:
    # A later driver of the same run may pickle with another version.
    path = function_file.with_name(f"cloudpickle-{cloudpickle.__version__}.zip")
    if not path.exists():
        package = Path(cloudpickle.__file__).parent
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for source in sorted(package.glob("*.py")):
                archive.write(source, f"{package.name}/{source.name}")
        write_atomically(path, packed.getvalue())
    return path


def environment(request: JobRequest) -> Mapping[str, str]:
    """What the job needs in its environment beside what its machine has; may hold secrets."""
    return request.objective.env if isinstance(request.objective, ScriptObjective) else {}


def read_json(path: Path) -> Any:
    """Read a JSON file of the protocol; None where it is missing, torn, huge or not JSON, or where
    the file system does not answer: no information."""
    try:
        with path.open("rb") as file:
            data = file.read(JSON_LIMIT + 1)
        return json.loads(data) if len(data) <= JSON_LIMIT else None
    except (OSError, ValueError, RecursionError):
        return None


def _number(value: Any) -> float | None:
    ok = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if ok else None


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_exit(folder: Path, name: str = EXIT) -> JobStatus | None:
    """Read how the job ended from its ``exit.json`` (or `STOPPED`); None while there is none.

    The file is written by the machine that ran the job, so nothing in it is trusted to have
    the right type.
    """
    data = read_json(folder / name)
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
        message=str(data.get("message") or ""),
        exit_code=exit_code,
        signal=signal,
        started_at=_number(data.get("start")),
        ended_at=_number(data.get("end")),
        host=str(data.get("host") or ""),
    )


def read_start(folder: Path) -> JobStatus | None:
    """Say that the job runs where its supervisor has left its ``pid.json``; None before that."""
    data = read_json(folder / PID)
    if not isinstance(data, Mapping):
        return None
    return JobStatus(JobState.RUNNING, host=str(data.get("host") or ""))


def read_result(folder: Path, limit: int) -> JobResult | NotReady:
    """Read ``result.json``, at most one byte more than ``limit``."""
    try:
        with (folder / RESULT).open("rb") as file:
            return JobResult(raw=file.read(limit + 1))
    except FileNotFoundError:
        return NotReady(f"there is no {RESULT} in {folder}")


def log_name(stream: str) -> str:
    """The file that holds ``"stdout"`` or ``"stderr"``.

    Raises:
        InvalidInput: there is no such stream.
    """
    names = {"stdout": STDOUT, "stderr": STDERR}
    if stream not in names:
        raise InvalidInput(f"stream={stream!r}: there are {' and '.join(names)}.")
    return names[stream]


def read_part(path: Path, offset: int, limit: int = -1) -> bytes:
    """Up to ``limit`` bytes of a file (-1: all) from byte ``offset``; none where it is missing."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(limit)
    except FileNotFoundError:
        return b""


def read_progress(folder: Path, offset: int) -> bytes:
    """The whole lines of ``progress.jsonl`` from byte ``offset`` on."""
    data = read_part(folder / PROGRESS, offset)
    return data[: data.rfind(b"\n") + 1]


def import_path(entries: Sequence[Any], base: str | None) -> list[str]:
    """A ``sys.path`` as it is to be understood elsewhere: for ``sys_path`` in ``job.json``.

    Args:
        entries: ``sys.path``.
        base: the folder that relative ones mean; None: it was removed, and they mean nothing.
    """
    # Python itself skips what is no string.
    paths = [entry for entry in entries if isinstance(entry, str)]
    if base is None:
        return [path for path in paths if os.path.isabs(path)]
    return [os.path.normpath(os.path.join(base, path)) for path in paths]


def current_directory() -> str | None:
    """The current directory; None where it was removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def try_claim(folder: Path, who: str) -> bool:
    """Claim the job: True means that nobody else runs it, nor ever will."""
    try:
        descriptor = os.open(folder / CLAIM, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"by": who}, file)
    except OSError:  # the disk is full: an empty claim would be anybody's
        (folder / CLAIM).unlink(missing_ok=True)
        raise
    return True


def keep_from_running(folder: Path, who: str) -> bool:
    """Claim the job as `try_claim`; True also where it cannot begin because it has no folder."""
    try:
        return try_claim(folder, who)
    except FileNotFoundError:
        return True


def taken_back_by(folder: Path) -> str | None:
    """The words of the driver that has taken the claim (see `try_claim`), so that the job never
    ran nor will; None where none has."""
    claim = read_json(folder / CLAIM)
    return str(claim["by"]) if isinstance(claim, Mapping) and "by" in claim else None


def never_ran(folder: Path) -> bool:
    """True where a driver has taken the claim, so that no job ever could."""
    return taken_back_by(folder) is not None


def request_cancel(folder: Path, reason: str) -> None:
    """Ask the worker that runs the job to end it."""
    write_atomically(folder / CANCEL, reason.encode())
