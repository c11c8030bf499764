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
from axsched_docker.engine import Engine, EngineError
from axsched_docker.images import Images
from axsched_docker.options import DockerOptions

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
        yield Check("image", True, "none is set (functions and scripts need one)")
        return
    try:
        Images(engine).ensure(options.image, options.pull)
        engine.image(options.image)
    except AxschedError as error:
        yield Check("image", False, f"{options.image}: {error}")
        return
    yield Check("image", True, options.image)
    yield _python(engine, options)


def _product(info: dict[str, Any]) -> str:
    names = [one["Name"] for one in info.get("Components") or ()]
    name = "Podman" if any("Podman" in one for one in names) else "Docker"
    return f"{name} {info.get('Version')}, API {info.get('ApiVersion')}"


def _python(engine: Engine, options: DockerOptions) -> Check:
    """Run a container: whether that works, and which Python it has."""
    name = f"axsched-doctor-{uuid.uuid4().hex[:10]}"
    command = {"Entrypoint": [options.python], "Cmd": ["-c", ASK]}
    host = {"NetworkMode": options.network} if options.network else {}
    try:
        engine.create(name, {"Image": options.image, **command, "HostConfig": host})
        try:
            engine.start(name)
            deadline = time.monotonic() + PATIENCE
            while engine.inspect(name)["State"]["Running"]:
                if time.monotonic() > deadline:
                    return Check("container", False, f"did not end within {PATIENCE:g} s")
                time.sleep(0.05)
            said = b"".join(one for _, one in engine.log(name, "stdout")).decode().strip()
        finally:
            engine.remove(name)
    except (EngineError, BackendUnavailable) as error:
        return Check("container", False, f"{options.python} does not run: {error}")
    here = "{}.{}".format(*sys.version_info[:2])
    if said != here:
        return Check(
            "container",
            False,
            f"{options.python} is Python {said or '?'}, here is {here}: scripts work, functions "
            "need the same minor version",
        )
    return Check("container", True, f"{options.python} is Python {said}")
