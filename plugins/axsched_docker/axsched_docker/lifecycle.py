"""What is done with one container: made and started, stopped, its files fetched. Any thread's."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import attrs

from axsched_core import jobfolder
from axsched_core.errors import AxschedError
from axsched_core.jobs import Cause
from axsched_docker import archive
from axsched_docker.endings import NOT_EXECUTED, WHICH_PYTHON, Ending, ending_of
from axsched_docker.engine import KEY_LABEL, Engine, EngineError, seconds
from axsched_docker.spec import FILES_LABEL, KIND_LABEL, Plan

LAST_WORDS = 2000
"""Bytes of what a container has printed that are looked at for why it failed."""
IN_MEMORY = 8 << 20
"""Bytes of a job's inputs that are packed in memory; more go to a temporary file."""


class Withdrawn(AxschedError):
    """Somebody has taken the job's claim: it is never to run."""


class NotStarted(AxschedError):
    """A container could not be started, for good; nothing of it is left."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.message)
        self.ending = ending


class Images:
    """Has the engine pull images, each but once at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ready: set[str] = set()
        self._locks: dict[str, threading.Lock] = {}

    def ensure(self, image: str, policy: str) -> None:
        """Have the image there, as the policy says.

        Raises:
            NotStarted: it cannot be had.
        """
        if policy == "never" or image in self._ready:
            return
        with self._locks.setdefault(image, threading.Lock()):
            if image in self._ready or (policy == "missing" and self._is_there(image)):
                self._ready.add(image)
                return
            try:
                self._engine.pull(image)
            except EngineError as error:
                words = f"the image {image} could not be pulled: {error}"
                raise NotStarted(Ending(cause=Cause.SUBMIT_REFUSED, message=words)) from error
            self._ready.add(image)

    def forget(self, image: str) -> None:
        """It is not there after all (somebody has removed it)."""
        self._ready.discard(image)

    def _is_there(self, image: str) -> bool:
        try:
            self._engine.image(image)
        except EngineError as error:
            if error.not_found:
                return False
            raise
        return True


def start(engine: Engine, images: Images, plan: Plan) -> None:
    """Make and start a container. It may be called again after `BackendUnavailable`.

    Raises:
        NotStarted: the engine refuses.
        Withdrawn: the job is not to run any more.
        BackendUnavailable: nobody knows how far it got.
    """
    images.ensure(plan.image, plan.pull)
    if plan.files == "mount":
        plan.tree().write_box(plan.folder / archive.BOX)
    try:
        if _create(engine, plan) == "created":
            if plan.files == "copy":
                _copy_files(engine, plan)
            if not claim(plan):
                engine.remove(plan.name)
                raise Withdrawn(f"{plan.name} was given up before it ran")
            engine.start(plan.name)
    except EngineError as error:
        if error.not_found:
            images.forget(plan.image)
        ending = _refusal(engine, plan, error)
        engine.remove(plan.name)  # a container that could not be started would stay
        raise NotStarted(ending) from error


def _create(engine: Engine, plan: Plan) -> str:
    """Make the container, unless it is there already; return its state."""
    try:
        engine.create(plan.name, plan.body)
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
    tree, root = plan.tree(), plan.archive_root
    file: IO[bytes] = io.BytesIO() if tree.size < IN_MEMORY else tempfile.TemporaryFile()  # noqa: SIM115
    with file:
        tree.write_tar(file, "" if root == archive.ROOT else "axsched/")
        file.seek(0)
        engine.put(plan.name, root, file)


def claim(plan: Plan) -> bool:
    """Claim the job on this machine, where the core looks; the worker's claim is the container's.

    Who has the claim alone may start the container; a driver that has taken it is sure that nobody
    ever does.
    """
    mine = {"container": plan.name}
    try:
        with (plan.folder / jobfolder.CLAIM).open("x", encoding="utf-8") as file:
            json.dump(mine, file)
    except FileExistsError:
        return bool(jobfolder.read_json(plan.folder / jobfolder.CLAIM) == mine)
    except FileNotFoundError:
        return False  # its folder was removed
    return True


def _refusal(engine: Engine, plan: Plan, error: EngineError) -> Ending:
    """Why a container could not be started, in words and as a cause."""
    words = str(error)
    if error.not_found and "image" in words.lower():
        words = f"the engine has no image {plan.image} ({words})"
        return Ending(cause=Cause.SUBMIT_REFUSED, message=words)
    try:
        code = int(engine.inspect(plan.name)["State"]["ExitCode"])
    except EngineError:
        code = 0
    if code in NOT_EXECUTED:
        if plan.body["Labels"][KIND_LABEL] != "container":
            words = f"{words}; {WHICH_PYTHON}"
        return Ending(exit_code=code, cause=Cause.EXIT_CODE, message=words)
    cause = Cause.SUBMIT_REFUSED if error.status < 500 else Cause.NODE_FAIL
    return Ending(cause=cause, message=f"the engine refuses: {words}")


def collect(engine: Engine, name: str, folder: Path) -> Ending | None:
    """Bring the files of an ended container into the job's folder, ``exit.json`` last of all.

    Returns:
        None: it has not ended yet, or is gone.

    Raises:
        BackendUnavailable: the engine was lost meanwhile; to be tried again.
        EngineError, TarError: the engine does not give the files.
        OSError: this machine does not take them.
    """
    try:
        found = engine.inspect(name)
    except EngineError as error:
        if error.not_found:
            return None
        raise
    state, labels = found["State"], found["Config"]["Labels"]
    if state["Status"] not in ("exited", "dead", "stopped"):
        return None
    with_worker = labels[KIND_LABEL] != "container"
    if labels[FILES_LABEL] == "mount":
        source = folder / archive.BOX / "job"
        archive.drop_links_out(source)
    else:
        source = folder / archive.INCOMING
        _fetch(engine, name, source)
    worker = jobfolder.read_json(source / jobfolder.EXIT) if with_worker else None
    last_words = ""
    if not with_worker:
        _save_logs(engine, name, source)
    if worker is None and state["ExitCode"] != 0:
        last_words = _last_line(engine, name)
    ending = ending_of(
        state,
        worker if isinstance(worker, dict) else None,
        with_worker=with_worker,
        has_result=(source / jobfolder.RESULT).exists(),
        cancelled=cancelled(folder),
        engine_was_down=engine.was_down(seconds(state["FinishedAt"])),
        last_words=last_words,
    )
    archive.move_in(source, folder)
    shutil.rmtree(folder / archive.INCOMING, ignore_errors=True)
    shutil.rmtree(folder / archive.BOX, ignore_errors=True)
    write_exit(folder, ending)
    return ending


def cancelled(folder: Path) -> str | None:
    """Why the job was asked to stop; None where it was not. Known to later drivers too."""
    try:
        return (folder / jobfolder.CANCEL).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def write_exit(folder: Path, ending: Ending) -> None:
    """Say how a job ended, when all its files are on disk."""
    if (folder / jobfolder.RESULT).is_file():
        _sync(folder / jobfolder.RESULT)
    beside = folder / f"{jobfolder.EXIT}.tmp"
    beside.write_text(json.dumps(attrs.asdict(ending)), encoding="utf-8")
    _sync(beside)
    os.replace(beside, folder / jobfolder.EXIT)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _fetch(engine: Engine, name: str, target: Path) -> None:
    with engine.get(name, archive.JOB) as pieces:
        archive.unpack(pieces, target)


def _save_logs(engine: Engine, name: str, target: Path) -> None:
    for stream, file_name in (("stdout", jobfolder.STDOUT), ("stderr", jobfolder.STDERR)):
        (target / file_name).unlink(missing_ok=True)  # the job may have made one of that name
        with (target / file_name).open("xb") as file:
            for piece in engine.log(name, stream):
                file.write(piece)


def _last_line(engine: Engine, name: str) -> str:
    """The last line that the container's first process has printed."""
    text = b""
    for piece in engine.log(name, "stderr"):
        text = (text + piece)[-LAST_WORDS:]
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def read_running(engine: Engine, name: str, path: str) -> bytes:
    """A file of a running container; empty where there is none yet."""
    data = b""
    try:
        with engine.get(name, path) as pieces:
            for tar, member in archive.members(pieces):
                source = tar.extractfile(member) if member.isreg() else None
                data = source.read() if source else b""
    except tarfile.TarError:
        return b""  # Podman's answer where it is not there yet, or just grows
    except EngineError as error:
        # Podman cannot look into a container in the moment in which it ends.
        if not error.not_found and engine.runs(name):
            raise
        return b""
    return data


def pieces_of_log(engine: Engine, name: str, stream: str) -> Iterator[bytes]:
    """What a container's first process has printed; nothing where it is gone."""
    try:
        yield from engine.log(name, stream)
    except EngineError as error:
        if not error.not_found:
            raise


def describe(container: dict[str, Any]) -> str:
    """One line of a list of containers."""
    name, key = container["Names"][0].lstrip("/"), container["Labels"][KEY_LABEL]
    return f"container {name}: {container['State']}, of job {key}"
