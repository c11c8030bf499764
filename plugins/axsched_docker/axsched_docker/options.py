"""What a user may set: for the runner as a whole, and for one container objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from attrs import field, frozen
from attrs.converters import optional as or_none
from attrs.validators import ge, gt, in_, le, lt, optional

from axsched_core import options as core_options
from axsched_core.errors import InvalidInput
from axsched_docker import converters
from axsched_docker.converters import (
    Mount,
    environment,
    gpu_request,
    mounts,
    tmpfs_mounts,
    words,
)

PULL = ("missing", "always", "never")
FILES = ("copy", "mount")
KEEP = ("none", "failed", "all")
SECRET = {"secret": True}


@frozen
class ContainerOptions:
    """How a container is made: options of a container objective, and the runner's defaults for all.

    Raises:
        InvalidInput: a value that has no meaning.
    """

    cpus: float | None = field(
        default=None, converter=or_none(converters.cpus), validator=optional(gt(0))
    )
    """CPUs that the container may use, from 0.01 on; 1.5 is one and a half. None: all."""
    memory: int | None = field(default=None, converter=or_none(core_options.size))
    """Limit of its memory: bytes, or "512m", "2g". Swap is no way around it. None: no limit."""
    gpus: Any = field(default=None, converter=or_none(gpu_request))
    """A number of GPUs, "all", or a list of device ids. None: none."""
    shm_size: int | None = field(default=None, converter=or_none(core_options.size))
    """Size of /dev/shm: bytes, or "1g". None: Docker's 64 MB."""
    pids: int | None = field(default=None, validator=optional([gt(0), lt(1 << 31)]))
    """How many processes and threads it may have. None: no limit."""
    network: str | None = field(default=None, converter=or_none(converters.network))
    """"none", "host", or a network's name. None: Docker's default."""
    user: str | None = field(default=None, converter=or_none(converters.user))
    """"name", "uid" or "uid:gid". None: the image's own; with ``files="mount"`` the caller."""
    env: Mapping[str, str] = field(factory=dict, converter=environment, metadata=SECRET)
    """Environment variables; their values are written nowhere."""
    env_vars: Mapping[str, str] = field(factory=dict, converter=environment, metadata=SECRET)
    """The same as ``env``."""
    volumes: tuple[Mount, ...] = field(factory=tuple, converter=mounts)
    """A list of "source:target" or "source:target:ro", or a mapping from source to target. A
    source is a path on the engine's machine, which must exist, or the name of a volume."""
    tmpfs: Mapping[str, str] = field(factory=dict, converter=tmpfs_mounts)
    """Folders in memory: a list of paths, or a mapping from path to options ("size=64m")."""
    entrypoint: tuple[str, ...] | None = field(default=None, converter=or_none(words))
    """Instead of the image's own; container objectives only."""
    working_dir: str | None = field(default=None, converter=or_none(converters.absolute))
    """Where the command starts; container objectives only. None: the image's own."""
    read_only: bool = False
    """Mount the container's root file system read-only; the job's folder stays writable."""
    init: bool = True
    """Have a small init process in the container, which forwards signals and collects orphans."""
    cap_add: tuple[str, ...] = field(factory=tuple, converter=converters.capabilities)
    """Capabilities beside Docker's default ones ("SYS_PTRACE")."""
    cap_drop: tuple[str, ...] = field(factory=tuple, converter=converters.capabilities)
    """Capabilities to take away ("ALL")."""
    security_opt: tuple[str, ...] = field(factory=tuple, converter=converters.security_options)
    """Passed to Docker ("no-new-privileges")."""
    privileged: bool = False
    """Give the container every right of the machine's root. Hardly ever what you want."""
    labels: Mapping[str, str] = field(factory=dict, converter=environment)
    """Labels of the containers, beside our own."""
    log_size: int | None = field(default=None, converter=or_none(core_options.size))
    """Keep only about the last so many bytes that a container objective has printed: bytes, or
    "50m". None: everything."""
    pull: str = field(default="missing", validator=in_(PULL))
    """When to pull the image: "missing" (where the engine has none), "always" (once a run), or
    "never". Credentials are those of ``docker login``."""

    def __attrs_post_init__(self) -> None:
        twice = {
            name
            for name in self.env.keys() & self.env_vars.keys()
            if self.env[name] != self.env_vars[name]
        }
        if twice:
            raise InvalidInput(f"env and env_vars do not agree about {', '.join(sorted(twice))}")
        if both := sorted(self.tmpfs.keys() & {one.target for one in self.volumes}):
            raise InvalidInput(f"volumes and tmpfs: more than one for {', '.join(both)}")

    @property
    def environment(self) -> dict[str, str]:
        """``env`` and ``env_vars`` together."""
        return {**self.env, **self.env_vars}


@frozen
class DockerOptions(ContainerOptions):
    """Options of the docker runner.

    Raises:
        InvalidInput: a value that has no meaning.
    """

    image: str | None = field(default=None, converter=or_none(converters.image))
    """The image that functions and scripts run in; it needs a Python 3.7 or newer."""
    python: str = "python3"
    """That image's Python: a program on its PATH, or a path."""
    max_containers: int | None = field(default=None, validator=optional(gt(0)))
    """How many containers run at a time. None: as many as the engine has CPUs for."""
    start_concurrency: int = field(default=4, validator=gt(0))
    """How many containers are being started at a time: starts are the slow part."""
    files: str = field(default="copy", validator=in_(FILES))
    """How a job's files come into its container: "copy" (works with an engine anywhere), or
    "mount" (the engine must see the run directory under the same path)."""
    keep_containers: str = field(default="none", validator=in_(KEEP))
    """Which containers stay after their results are safe: "none", "failed" or "all"."""
    stop_grace: float = field(default=5.0, validator=[ge(0), le(8)])
    """Seconds between asking a cancelled container to stop and killing it."""
    host: str | None = None
    """The engine ("unix:///...", "tcp://host:2376", "ssh://user@host"). None: as for the docker
    command, ``DOCKER_HOST``, else the current context, else this machine's."""
    context: str | None = None
    """A context of the docker command's (``docker context ls``), instead of ``host``."""
    tls: Mapping[str, Any] | None = None
    """For ``host``: the files "ca", "cert" and "key", and "verify" (True). None: as
    ``DOCKER_TLS_VERIFY`` and ``DOCKER_CERT_PATH`` say."""
    timeout: float = field(default=60.0, validator=[gt(0), le(86400)])
    """Seconds that the engine may take for an answer."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.host and self.context:
            raise InvalidInput("host and context are two ways to say the same: give one of them")
        if self.tls is not None:
            if not self.host:
                raise InvalidInput("tls goes with host")
            if strangers := set(self.tls) - {"ca", "cert", "key", "verify"}:
                raise InvalidInput(f"tls takes ca, cert, key and verify, not {sorted(strangers)}")

    def for_objective(self, values: Mapping[str, Any]) -> ContainerOptions:
        """The options of a container objective: the runner's own, and those that it names itself.

        Mappings of environment variables and labels are joined, everything else is replaced.

        Raises:
            InvalidInput: an unknown option, or a value that has no meaning.
        """
        given = core_options.build(ContainerOptions, values, "container_options")
        fields = [one.name for one in attrs.fields(ContainerOptions)]
        joined = {name: getattr(given if name in values else self, name) for name in fields}
        joined["env"] = {**self.environment, **given.environment}
        joined["env_vars"] = {}
        joined["labels"] = {**self.labels, **given.labels}
        return ContainerOptions(**joined)
