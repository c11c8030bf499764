"""What the engine is told to make: a request becomes the body of Docker's create call."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from axsched_core import jobfolder
from axsched_core.errors import InvalidInput
from axsched_core.jobs import ContainerObjective, JobRequest, Objective, Resources, ScriptObjective
from axsched_docker import converters
from axsched_docker.archive import BOX, JOB, Tree
from axsched_docker.converters import ROOT, Mount
from axsched_docker.engine import KEY_LABEL, RUN_LABEL
from axsched_docker.options import ContainerOptions, DockerOptions

FOLDER_LABEL = "axsched.folder"
FILES_LABEL = "axsched.files"
KIND_LABEL = "axsched.kind"

LIMIT_LABEL = "axsched.limit"

OLDEST_PYTHON = (3, 7)
"""Of those that the worker runs on."""
TOO_OLD = 70
"""Exit code of a container whose Python is older."""

_START = """\
import sys
if sys.version_info < {oldest}:
    sys.stderr.write("the image's %s is Python %d.%d, but the worker needs {words} or newer"
                     % ((sys.executable,) + sys.version_info[:2]))
    sys.exit({code})
exec(compile(open({worker!r}).read(), {worker!r}, "exec"))
"""
LAST_WORD = 0.5
"""Seconds of ``stop_grace`` that the worker has for itself: to kill the objective, and to say how
the job ended."""


@frozen
class Plan:
    """One container that is to be made."""

    name: str
    body: Mapping[str, Any]
    """Of ``POST /containers/create``."""
    image: str
    pull: str
    folder: Path
    """The job's, on this machine."""
    files: str
    """"copy" or "mount"."""
    protocol: Mapping[str, str] = field(factory=dict)
    """Those environment variables that are ours, and no secret."""
    script: Path | None = None
    """To be brought into the container."""
    job_changes: Mapping[str, Any] = field(factory=dict)
    """Where the ``job.json`` in the container differs from the core's."""
    limit: float | None = None
    """Seconds that the container may run. None: no limit, or a worker keeps it."""

    def tree(self) -> Tree:
        """The files that the container gets."""
        job = jobfolder.read_json(self.folder, jobfolder.JOB)
        if not isinstance(job, dict):
            raise FileNotFoundError(f"there is no usable {jobfolder.JOB} in {self.folder}")
        return Tree(self.folder, json.dumps({**job, **self.job_changes}).encode(), self.script)

    def shown(self) -> str:
        """The create call, for people: values of environment variables are not shown."""
        names = (one.partition("=")[0] for one in self.body["Env"])
        masked = [f"{name}={self.protocol.get(name, '***')}" for name in names]
        text = json.dumps({**self.body, "Env": masked}, indent=2)
        how = (
            f"{self.folder / BOX} is mounted at {ROOT}"
            if self.files == "mount"
            else f"the files of {self.folder} are copied to {ROOT}"
        )
        return f"POST /containers/create?name={self.name}\n{text}\n{how}"


def container_name(key: str) -> str:
    """A container's name says whose it is; the engine takes each name once."""
    return f"axsched-{key}"


def check_objective(objective: Objective, options: DockerOptions) -> None:
    """Refuse an objective none of whose jobs could run, before any job is made.

    Raises:
        InvalidInput: an image is missing or has no proper name; an option is wrong.
    """
    if isinstance(objective, ContainerObjective):
        options.for_objective(objective.options)
        converters.image(objective.image)
    elif options.image is None:
        raise InvalidInput(
            f"A {objective.capability.value} needs an image with a Python to run in: "
            "runner_options={'image': ...}."
        )


def make_plan(request: JobRequest, options: DockerOptions) -> Plan:
    """Decide how a job's container is to be made.

    Raises:
        InvalidInput: the objective is none that the runner takes, or its options are wrong.
    """
    objective = request.objective
    if objective is None:
        raise InvalidInput(f"job {request.key}: the docker runner needs an objective.")
    check_objective(objective, options)
    if isinstance(objective, ContainerObjective):
        chosen = options.for_objective(objective.options)
        return _plan(request, options, chosen, objective.image, _container(objective, chosen))
    assert options.image is not None
    plan = _plan(request, options, options, options.image, _worker_command(options))
    changes: dict[str, Any] = {"stop_grace": max(0.0, options.stop_grace - LAST_WORD)}
    cpus = request.resources.cpus or options.cpus
    if cpus is not None:
        changes["threads"] = max(1, int(cpus))
    script = None
    if isinstance(objective, ScriptObjective):
        script = Path(objective.script) if objective.script else None
        changes["argv"] = _argv_inside(objective.argv, script, options.python)
    return evolve(plan, script=script, job_changes=changes)


def _argv_inside(argv: Sequence[str], script: Path | None, python: str) -> list[str]:
    """A script's command as it is to be called in the container."""
    inside = {sys.executable: python}
    if script is not None:
        inside[str(script)] = f"{ROOT}/{script.name}"
    return [inside.get(one, one) for one in argv]


def _worker_command(options: DockerOptions) -> dict[str, Any]:
    start = _START.format(
        oldest=OLDEST_PYTHON,
        words=".".join(map(str, OLDEST_PYTHON)),
        code=TOO_OLD,
        worker=f"{ROOT}/{jobfolder.WORKER}",
    )
    return {"Entrypoint": [options.python], "Cmd": ["-c", start, JOB], "WorkingDir": JOB}


def _container(objective: ContainerObjective, options: ContainerOptions) -> dict[str, Any]:
    places = {
        "{params_file}": f"{JOB}/{jobfolder.PARAMS}",
        "{output_file}": f"{JOB}/{jobfolder.RESULT}",
    }

    def filled(words: Sequence[str]) -> list[str]:
        found = []
        for word in words:
            for mark, place in places.items():
                word = word.replace(mark, place)
            found.append(word)
        return found

    command: dict[str, Any] = {}
    if objective.command is not None:
        command["Cmd"] = filled(objective.command)
    if options.entrypoint is not None:
        command["Entrypoint"] = filled(options.entrypoint)
    if options.working_dir is not None:
        command["WorkingDir"] = options.working_dir
    return command


def _plan(
    request: JobRequest,
    options: DockerOptions,
    chosen: ContainerOptions,
    image: str,
    command: Mapping[str, Any],
) -> Plan:
    assert request.objective is not None
    kind = request.objective.capability.value
    mount_files = options.files == "mount"
    user = chosen.user
    if user is None and mount_files:
        user = f"{os.getuid()}:{os.getgid()}"
    protocol = _protocol(request) if kind == "container" else {}
    env = {**chosen.environment, **jobfolder.environment(request), **protocol}
    labels = {
        **chosen.labels,
        RUN_LABEL: request.key.rsplit("-", 2)[0],
        KEY_LABEL: request.key,
        FOLDER_LABEL: str(request.folder),
        FILES_LABEL: options.files,
        KIND_LABEL: kind,
    }
    limit = request.resources.time_limit if kind == "container" else None
    if limit is not None:
        labels[LIMIT_LABEL] = str(limit)
    body = {
        "Image": image,
        **command,
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Labels": labels,
        "HostConfig": _host_config(
            request.resources, chosen, kind, str(request.folder / BOX) if mount_files else None
        ),
    }
    if user is not None:
        body["User"] = user
    name = container_name(request.key)
    return Plan(
        name, body, image, chosen.pull, request.folder, options.files, protocol, limit=limit
    )


def _protocol(request: JobRequest) -> dict[str, str]:
    """What the worker tells functions and scripts; see ``axsched_core/jobfolder.py``."""
    return {
        "AXSCHED_JOB_DIR": JOB,
        "AXSCHED_PARAMS_FILE": f"{JOB}/{jobfolder.PARAMS}",
        "AXSCHED_RESULT_FILE": f"{JOB}/{jobfolder.RESULT}",
        "AXSCHED_PROGRESS_FILE": f"{JOB}/{jobfolder.PROGRESS}",
        "AXSCHED_TRIAL_INDEX": str(request.trial_index),
        "AXSCHED_ATTEMPT": str(request.attempt),
        "JOB_PARAMS_FILE": f"{JOB}/{jobfolder.PARAMS}",
    }


def sample(image: str, options: DockerOptions, arguments: Sequence[str]) -> dict[str, Any]:
    """The body of a container with the runner's options that runs Python and no job.

    Args:
        image: its name or id.
        options: the runner's.
        arguments: Python's.
    """
    body = {
        "Image": image,
        "Entrypoint": [options.python],
        "Cmd": list(arguments),
        "Env": [f"{name}={value}" for name, value in options.environment.items()],
        "Labels": dict(options.labels),
        "HostConfig": _host_config(Resources(), options, "function", None),
    }
    if options.user is not None:
        body["User"] = options.user
    return body


def _host_config(
    needs: Resources, options: ContainerOptions, kind: str, box: str | None
) -> dict[str, Any]:
    cpus, memory = needs.cpus or options.cpus, needs.memory_bytes or options.memory
    gpus: Any = options.gpus
    if needs.gpus is not None:
        gpus = {"Count": needs.gpus, "Capabilities": [["gpu"]]} if needs.gpus else None
    volumes = [_mount(one) for one in options.volumes]
    if box is not None:
        # A job that could remove its own folder could put a link to any place there.
        volumes.append(_mount(Mount(box, ROOT, read_only=True)))
        volumes.append(_mount(Mount(f"{box}/job", JOB)))
    else:
        # Empty, whatever the image has there; and writable where all else may be read-only.
        volumes.append({"Type": "volume", "Target": ROOT, "VolumeOptions": {"NoCopy": True}})
    log: dict[str, Any] = {"Type": "json-file", "Config": {}}
    if kind == "container" and options.log_size is not None:
        log["Config"] = {"max-size": str(options.log_size), "max-file": "1"}
    config = {
        "NanoCpus": int(cpus * 1e9) if cpus else None,
        "Memory": memory,
        "MemorySwap": memory,  # the two together: no swap
        "DeviceRequests": [gpus] if gpus else None,
        "ShmSize": options.shm_size,
        "PidsLimit": options.pids,
        "NetworkMode": options.network,
        "Mounts": volumes,
        "Tmpfs": dict(options.tmpfs),
        "ReadonlyRootfs": options.read_only,
        "Init": options.init,
        "CapAdd": list(options.cap_add),
        "CapDrop": list(options.cap_drop),
        "SecurityOpt": list(options.security_opt),
        "Privileged": options.privileged,
        "LogConfig": log,
    }
    return {name: value for name, value in config.items() if value}


def _mount(volume: Mount) -> dict[str, Any]:
    # Unlike "Binds", "Mounts" make no folder (root's) of a path that does not exist.
    return {
        "Type": volume.kind,
        "Source": volume.source,
        "Target": volume.target,
        "ReadOnly": volume.read_only,
    }
