"""What is done with one container: made and started, stopped, its files fetched. Any thread's."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import attrs

from axsched_core import jobfolder
from axsched_core.errors import AxschedError
from axsched_core.folders import DISK_FULL, Folder, NotAFile
from axsched_core.jobs import Cause
from axsched_docker import archive, logs
from axsched_docker.converters import ROOT
from axsched_docker.endings import (
    KILLED,
    NOT_EXECUTED,
    WHICH_PYTHON,
    Ending,
    NotStarted,
    NotYet,
    ending_of,
)
from axsched_docker.engine import KEY_LABEL, Engine, EngineError, seconds
from axsched_docker.images import Images
from axsched_docker.job import Job
from axsched_docker.spec import FILES_LABEL, KIND_LABEL, Plan

IN_MEMORY = 8 << 20
"""Bytes of a job's inputs that are packed in memory; more go to a temporary file."""
LEAST_LIMIT = 8 << 20
"""Bytes of each file that is fetched where the disk does not take them all."""
BAD_PARAMETER = 400
"""The engine's status code for a create call with a value that it does not take."""
LEFT_OUT_SHOWN = 5
"""Descriptions of what was left out that one line of the log has."""

log = logging.getLogger("axsched")


class Restarting(AxschedError):
    """A container has ended, and perhaps is just being started again: look once more."""


class Unexplained(NotYet):
    """The engine has failed to start a container, and does not say that the container is why."""

    patience = 60.0
    cause = Cause.NODE_FAIL


class Withdrawn(AxschedError):
    """Somebody has taken the job's claim: it is never to run."""


def start(engine: Engine, images: Images, plan: Plan) -> None:
    """Make and start a container. It may be called again after `BackendUnavailable`.

    Raises:
        NotStarted: the engine refuses.
        NotYet: it may work later; what there is of the container stays.
        Withdrawn: the job is not to run any more.
        BackendUnavailable: nobody knows how far it got.
    """
    image = images.ensure(plan.image, plan.pull)
    if plan.files == "mount":
        plan.tree().write_box()
    try:
        try:
            state = _create(engine, plan, image.id)
        except EngineError as error:
            if not _lacks_image(error):
                raise
            images.forget(plan.image)  # somebody has removed it: it is pulled again, or refused
            state = _create(engine, plan, images.ensure(plan.image, plan.pull).id)
        if state == "created":
            if plan.files == "copy":
                _copy_files(engine, plan)
            if not claim(plan):
                engine.remove(plan.name)
                raise Withdrawn(f"{plan.name} was given up before it ran")
            engine.start(plan.name)
    except EngineError as error:
        ending = _refusal(engine, plan, error)
        if ending is not None and ending.exit_code in NOT_EXECUTED:
            ending.message += images.foreign(image.id)
        if ending is None:
            raise Unexplained(f"the engine fails ({error.status}): {error}") from error
        engine.remove(plan.name)  # a container that could not be started would stay
        raise NotStarted(ending) from error


def _lacks_image(error: EngineError) -> bool:
    return error.not_found and "image" in str(error).lower()


def _create(engine: Engine, plan: Plan, image: str) -> str:
    """Make the container, unless it is there already; return its state."""
    try:
        engine.create(plan.name, {**plan.body, "Image": image})
    except EngineError as error:
        if error.not_found:
            raise
        # A conflict (500 with Podman): the answer to an earlier call may have been lost.
        try:
            found = engine.inspect(plan.name)
        except EngineError:
            raise error from None
        if (found["Config"]["Labels"] or {}).get(KEY_LABEL) != plan.body["Labels"][KEY_LABEL]:
            words = f"the name {plan.name} is taken by a container that is not ours"
            raise NotStarted(Ending(cause=Cause.SUBMIT_REFUSED, message=words)) from error
        return str(found["State"]["Status"]).replace("configured", "created")  # Podman's word
    return "created"


def _copy_files(engine: Engine, plan: Plan) -> None:
    tree = plan.tree()
    file: IO[bytes] = io.BytesIO() if tree.size < IN_MEMORY else tempfile.TemporaryFile()  # noqa: SIM115
    with file:
        tree.write_tar(file)
        file.seek(0)
        engine.put(plan.name, ROOT, file)


def claim(plan: Plan) -> bool:
    """Claim the job on this machine, where the core looks; the worker's claim is the container's.

    Who has the claim alone may start the container; a driver that has taken it is sure that nobody
    ever does.
    """
    mine = {"container": plan.name}
    try:
        return jobfolder.claim(plan.folder, mine) or bool(
            jobfolder.read_json(plan.folder, jobfolder.CLAIM) == mine
        )
    except FileNotFoundError:
        return False  # its folder was removed


def _refusal(engine: Engine, plan: Plan, error: EngineError) -> Ending | None:
    """Why a container could not be started, in words and as a cause; None: it does not say."""
    words = str(error)
    if _lacks_image(error):
        words = f"the engine has no image {plan.image} ({words})"
        return Ending(cause=Cause.CONFIGURATION, message=words)
    if (why := _missing(plan, words)) is not None:
        return Ending(cause=Cause.CONFIGURATION, message=f"{why} ({words})")
    code = 0
    try:
        state = engine.inspect(plan.name)["State"]
        code = int(state["ExitCode"])
        explained = bool(code or state.get("Error"))  # where Docker says that this one cannot start
    except EngineError as other:
        explained = False
        if other.unexplained:
            return None
    if error.unexplained and not explained:
        return None
    if code in NOT_EXECUTED:
        if plan.body["Labels"][KIND_LABEL] != "container":
            words = f"{words}; {WHICH_PYTHON}"
        return Ending(exit_code=code, cause=Cause.EXIT_CODE, message=words)
    if error.status == BAD_PARAMETER or (
        error.not_found and "no such container" not in words.lower()
    ):
        cause = Cause.CONFIGURATION  # a value, a network, a volume: all jobs have the same
    else:
        cause = Cause.SUBMIT_REFUSED if error.status < 500 else Cause.NODE_FAIL
    return Ending(cause=cause, message=f"the engine refuses: {words}")


def _missing(plan: Plan, words: str) -> str | None:
    """What the image or the machine lacks, although the engine calls it a fault of its own."""
    if words.startswith(("unable to find user", "unable to find group")):
        return f"the image {plan.image} does not have the user {plan.body.get('User', '')!r}"
    if "could not select device driver" in words and plan.body["HostConfig"].get("DeviceRequests"):
        return "the engine has no GPUs for containers"
    return None


def collect(engine: Engine, images: Images, job: Job) -> Ending | None:
    """Bring the files of an ended container into the job's folder, ``exit.json`` last of all.

    Whatever the job has left beside its result, that counts. What cannot be kept is left out, and
    the log says so.

    Returns:
        None: it has not ended yet, or is gone.

    Raises:
        BackendUnavailable: the engine was lost meanwhile; to be tried again.
        Restarting: the same, soon.
        EngineError, TarError: the engine does not give the files.
        OSError: this machine does not take them.
    """
    name, path = job.name, job.folder
    try:
        found = engine.inspect(name)
    except EngineError as error:
        if error.not_found:
            return None
        raise
    state, labels = found["State"], found["Config"]["Labels"]
    if state.get("Restarting"):
        _keep_ended(engine, job, found)
        raise Restarting(f"{name} is not to be started again")
    if state["Status"] not in ("exited", "dead", "stopped"):
        return None
    if _may_be_restarted(state, job):
        job.looked_twice = True
        raise Restarting(f"{name} was killed, and it may be started again")
    with_worker = labels[KIND_LABEL] != "container"
    with (
        Folder(path) as folder,
        _brought(engine, name, folder, labels[FILES_LABEL] == "mount", lambda: job.hurried) as (
            source,
            complete,
        ),
    ):
        if not with_worker:
            complete = logs.save(engine, name, source) and complete
        worker = jobfolder.read_exit(source) if with_worker else None
        last_words = ""
        if worker is None and state["ExitCode"] != 0:
            last_words = logs.last_line(engine, name, source)
        ending = ending_of(
            state,
            worker,
            with_worker=with_worker,
            # An earlier try may have moved it.
            has_result=source.has(jobfolder.RESULT) or folder.has(jobfolder.RESULT),
            cancelled=jobfolder.cancel_reason(path),
            engine_was_down=engine.was_down(seconds(state["FinishedAt"])),
            last_words=last_words,
            restarted=job.restarted
            or bool(found.get("RestartCount") and state["StartedAt"] != job.only_run),
            over_limit=job.watch.limit if job.over_limit else None,
        )
        if ending.exit_code and (code := state["ExitCode"]) and _not_executable(code, last_words):
            ending.message += images.foreign(str(found["Image"]))
        ending.host, ending.paused = engine.host, round(job.watch.paused(), 3)
        ending.kept, ending.image = not complete, str(found["Image"])
        if worker is not None:
            ending.max_rss_bytes = worker.max_rss_bytes
        archive.move_in(source, folder)
        write_exit(path, ending)
        folder.remove(archive.INCOMING)
        _remove_box(engine, name, found["Image"], folder)
    return ending


def _not_executable(code: int, last_words: str) -> bool:
    return code in NOT_EXECUTED or "exec format error" in last_words.lower()


def _may_be_restarted(state: Mapping[str, Any], job: Job) -> bool:
    """True at the first look at a container that somebody else has killed, as a restart does."""
    return (
        state["ExitCode"] in KILLED
        and not (job.looked_twice or job.restarted or job.stopping or state.get("OOMKilled"))
        and jobfolder.cancel_reason(job.folder) is None
    )


def _keep_ended(engine: Engine, job: Job, found: dict[str, Any]) -> None:
    """Keep the engine from starting an ended container again, as a restart policy demands."""
    if found["RestartCount"] == 1 and not job.restarted:
        job.only_run = found["State"]["StartedAt"]
    engine.kill(job.name, "SIGKILL")  # ends the wait for the next start
    with contextlib.suppress(EngineError):
        engine.forbid_restarts(job.name)


@contextlib.contextmanager
def _brought(
    engine: Engine, name: str, folder: Folder, mounted: bool, hurried: Callable[[], bool]
) -> Iterator[tuple[Folder, bool]]:
    """Have what the job has made on this machine, where nothing in it can do harm.

    Yields:
        Where it is, and whether it is all there is.
    """
    with contextlib.ExitStack() as stack:
        if mounted:
            try:
                box = stack.enter_context(folder.sub(archive.BOX))
                job = stack.enter_context(box.sub("job"))
                for one in archive.LINKED:
                    job.remove(one)  # links of our own, to the inputs
                _say_left_out(name, job.sanitize())
                for one in archive.PROTOCOL:
                    job.separate(one)
            except PermissionError as error:
                # Another user's. The engine can read it.
                log.debug("%s: its files are fetched from the engine: %s", name, error)
            else:
                yield job, True
                return
        folder.remove(archive.INCOMING)
        folder.make_folder(archive.INCOMING)
        incoming = stack.enter_context(folder.sub(archive.INCOMING))
        yield incoming, _fetch_what_can(engine, name, incoming, hurried)


class _Hurried(Exception):
    """Nobody waits for the rest of a job's files."""


def _fetch_what_can(engine: Engine, name: str, target: Folder, hurried: Callable[[], bool]) -> bool:
    """Fetch a job's files; False where there is room, or time, only for those that count."""
    try:
        _say_left_out(name, _fetch(engine, name, target, hurried))
        return True
    except _Hurried:
        why = "it was cancelled while its files were fetched"
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        why = f"the disk does not take all of its files ({error.strerror})"
    # Half of them would keep a full disk full, and the result may well fit.
    target.clear()
    _fetch_least(engine, name, target)
    words = (
        "%s: %s; its result and its logs are here. The container is kept, and has the others in %s."
    )
    log.warning(words, name, why, archive.JOB)
    return False


def _fetch(engine: Engine, name: str, target: Folder, hurried: Callable[[], bool]) -> list[str]:
    def until_hurried(pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if hurried():
                raise _Hurried
            yield piece

    try:
        with engine.get(name, archive.JOB) as pieces:
            return archive.unpack(until_hurried(pieces), target)
    except EngineError as error:
        if not error.not_found or not _is_there(engine, name):
            raise
        return [f"{archive.JOB}: the job has removed it"]


def _is_there(engine: Engine, name: str) -> bool:
    try:
        engine.inspect(name)
    except EngineError:
        return False
    return True


def _fetch_least(engine: Engine, name: str, target: Folder) -> None:
    for one in (jobfolder.EXIT, *archive.PROTOCOL):
        with contextlib.suppress(EngineError), engine.get(name, f"{archive.JOB}/{one}") as pieces:
            archive.least(pieces, target, one, LEAST_LIMIT)


def _say_left_out(name: str, what: list[str]) -> None:
    if what:
        more = f" and {len(what) - LEFT_OUT_SHOWN} more" if len(what) > LEFT_OUT_SHOWN else ""
        words = "; ".join(what[:LEFT_OUT_SHOWN])
        log.warning("%s has left what cannot be kept: %s%s", name, words, more)


def _remove_box(engine: Engine, name: str, image: str, folder: Folder) -> None:
    try:
        try:
            folder.remove(archive.BOX)
        except PermissionError:
            _take_away(engine, f"{name}-tidy", image, folder)
            folder.remove(archive.BOX)
    except (OSError, EngineError) as error:
        box_path = folder.path / archive.BOX
        log.warning(
            "%s cannot be removed: the job has left another user's files: %s", box_path, error
        )


def _take_away(engine: Engine, name: str, image: str, folder: Folder) -> None:
    """Another user's folders: have the engine, which can, put files of ours in their place.

    By way of a container that is never started; the job's own has the folder mounted read-only.
    """
    box = str(folder.path / archive.BOX)
    with folder.sub(archive.BOX) as ours, ours.sub("job") as job:
        names = job.names()
    engine.remove(name)  # of an earlier try
    mount = {"Type": "bind", "Source": box, "Target": ROOT}
    engine.create(name, {"Image": image, "Cmd": ["-"], "HostConfig": {"Mounts": [mount]}})
    try:
        engine.put(name, archive.JOB, archive.empty_files(names))
    finally:
        engine.remove(name)


def write_exit(path: Path, ending: Ending) -> None:
    """Say how a job ended, when all its files are on disk."""
    with Folder(path) as folder:
        with contextlib.suppress(FileNotFoundError, NotAFile):
            folder.sync(jobfolder.RESULT)
        data = json.dumps(attrs.asdict(ending)).encode()
        folder.replace(jobfolder.EXIT, data, sync=True)


def describe(container: dict[str, Any]) -> str:
    """One line of a list of containers."""
    name, key = container["Names"][0].lstrip("/"), container["Labels"][KEY_LABEL]
    return f"container {name}: {container['State']}, of job {key}"
