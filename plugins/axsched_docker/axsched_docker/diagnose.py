"""Whether the engine can be used: for ``axsched doctor docker``."""

from __future__ import annotations

import contextlib
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import docker

from axsched_core.errors import AxschedError, BackendUnavailable
from axsched_core.jobs import Check
from axsched_docker.endings import NOT_EXECUTED, Ending, NotStarted
from axsched_docker.engine import Engine, EngineError
from axsched_docker.images import Images
from axsched_docker.options import DockerOptions
from axsched_docker.spec import OLDEST_PYTHON, sample

PATIENCE = 30.0
"""Seconds that a container which only says its Python's version may take."""
ASK = "import sys; print('%d.%d' % sys.version_info[:2])"


def diagnose(options: DockerOptions) -> list[Check]:
    """Look at the SDK, the engine, the image, and a container that is made of it."""
    checks = [Check("docker SDK", True, f"version {docker.__version__}")]
    try:
        with contextlib.closing(Engine(options)) as engine:
            for check in _checks(engine, options):
                checks.append(check)
                if not check.ok:
                    break
    except AxschedError as error:
        checks.append(Check("engine", False, str(error)))
    return checks


def _checks(engine: Engine, options: DockerOptions) -> Iterator[Check]:
    try:
        info = engine.info()
    except BackendUnavailable as error:
        advice = "is it running, may you use it (group docker), is DOCKER_HOST right?"
        yield Check("engine", False, f"{error}; {advice}")
        return
    yield Check("engine", True, f"{engine.url}: {_product(info)}")
    yield Check(
        "machine", True, f"{info.get('NCPU')} CPUs, {int(info.get('MemTotal') or 0) >> 20} MB"
    )
    for name in ("MemoryLimit", "CpuCfsQuota", "PidsLimit"):
        if info.get(name) is False:
            yield Check("limits", False, f"the engine has no {name}: such a limit is ignored")
    if options.image is None:
        words = "none is set (functions and scripts need one), so no container is tried"
        yield Check("image", True, words)
        return
    images = Images(engine)
    try:
        image = images.ensure(options.image, options.pull)
    except AxschedError as error:
        yield Check("image", False, f"{options.image}: {error}")
        return
    yield Check("image", True, options.image)
    yield _container(engine, options, image.id, images.foreign(image.id))


def _product(info: dict[str, Any]) -> str:
    names = [one["Name"] for one in info.get("Components") or ()]
    name = "Podman" if any("Podman" in one for one in names) else "Docker"
    return f"{name} {info.get('Version')}, API {info.get('ApiVersion')}"


def _container(engine: Engine, options: DockerOptions, image: str, foreign: str) -> Check:
    """Run a container with the options as they are: whether that works, and with which Python."""
    name = f"axsched-doctor-{uuid.uuid4().hex[:10]}"
    try:
        try:
            state = _run(engine, name, sample(image, options, ("-c", ASK)))
            said = _said(engine, name, "stdout")
            why = _said(engine, name, "stderr").rpartition("\n")[2]
        finally:
            engine.remove(name)
    except NotStarted as error:
        return Check("container", False, f"{error}{foreign}")
    except (EngineError, BackendUnavailable) as error:
        return Check("container", False, f"it cannot be tried: {error}")
    if state is None:
        return Check("container", False, f"did not end within {PATIENCE:g} s")
    if state.get("OOMKilled"):
        return Check(
            "container", False, f"memory={options.memory} bytes is too little for {options.python}"
        )
    if state["ExitCode"] in NOT_EXECUTED:
        return Check("container", False, f"{options.python} does not run: {why}{foreign}")
    if state["ExitCode"]:
        words = f"{options.python} ended with exit code {state['ExitCode']}: {why}{foreign}"
        return Check("container", False, words)
    return _python(options.python, said)


def _run(engine: Engine, name: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """Run a container to its end; None if it takes too long.

    Raises:
        NotStarted: the engine does not take it.
    """
    try:
        engine.create(name, body)
    except EngineError as error:
        raise NotStarted(Ending(message=f"the engine refuses these options: {error}")) from error
    try:
        engine.start(name)
    except EngineError as error:
        executed = engine.inspect(name)["State"]["ExitCode"] not in NOT_EXECUTED
        what = "a container with these options" if executed else body["Entrypoint"][0]
        raise NotStarted(Ending(message=f"{what} does not run: {error}")) from error
    deadline = time.monotonic() + PATIENCE
    while (state := engine.inspect(name)["State"])["Running"]:
        if time.monotonic() > deadline:
            return None
        time.sleep(0.05)
    return dict(state)


def _said(engine: Engine, name: str, stream: str) -> str:
    return b"".join(piece for _, piece in engine.log(name, stream)).decode(errors="replace").strip()


def _python(python: str, version: str) -> Check:
    """Whether the worker, and functions, can run with this version."""
    here = "{}.{}".format(*sys.version_info[:2])
    parts = version.split(".")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        return Check("container", False, f"{python} is no Python: it says {version[:100]!r}")
    if tuple(map(int, parts)) < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        words = f"{python} is Python {version}; functions and scripts need {oldest} or newer"
        return Check("container", False, words)
    if version != here:
        words = f"{python} is Python {version}, here is {here}: scripts work, functions "
        return Check("container", False, words + "need the same minor version")
    return Check("container", True, f"{python} is Python {version}")
