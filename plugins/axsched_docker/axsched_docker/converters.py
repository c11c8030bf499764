"""Converters for single options: each takes what a user may write, or says what is wrong."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from axsched_core import plain
from axsched_core.errors import InvalidInput, did_you_mean

ROOT = "/axsched"
"""Where a job's files are in its container; nothing else may be mounted there."""
LEAST_CPUS = 0.01
"""Docker takes no less."""
_CAPABILITIES = """
    ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE
    DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN
    MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID
    SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE
    SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM
"""
SECURITY = ("no-new-privileges", "label", "apparmor", "seccomp", "systempaths", "mask", "unmask")
"""What an element of ``security_opt`` may begin with; the last two are Podman's."""
_TMPFS = """
    ro rw exec noexec suid nosuid dev nodev sync async dirsync nodirsync atime noatime diratime
    nodiratime relatime norelatime strictatime nostrictatime mand nomand remount bind rbind
"""
_TMPFS_VALUE = re.compile(r"(size=\d+[kKmMgG%]?|mode=[0-7]+|(uid|gid|nr_inodes|nr_blocks)=\d+\w?)")
_USER = re.compile(r"[^\s:]+(:[^\s:]+)?")
_NETWORK = re.compile(r"(container:)?[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_IMAGE = re.compile(
    r"((?=[^/]*[.:A-Z]|localhost)[a-zA-Z0-9][a-zA-Z0-9.-]*(:\d+)?/)?"  # a registry
    r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:\w[\w.-]{0,127})?(@[A-Za-z][\w.+-]*:[0-9a-fA-F]{32,})?"
    r"|(sha256:)?[0-9a-f]{12,64}"
)
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


@frozen
class Mount:
    """One volume of a container."""

    source: str
    """Absolute path on the engine's machine, or a volume's name."""
    target: str
    """Absolute path in the container."""
    read_only: bool = False

    @property
    def kind(self) -> str:
        """Docker's word for what the source is."""
        return "bind" if self.source.startswith("/") else "volume"


def cpus(value: Any) -> float:
    """A number of CPUs that Docker takes; the least is `LEAST_CPUS`."""
    number = plain.number(value)
    if number is None:
        raise InvalidInput(f"'cpus' must be float, not {type(value).__name__} ({value!r})")
    if number > 0 and not LEAST_CPUS <= number < 1e6:  # 0 and less is for the validator
        raise InvalidInput(f"cpus={value!r}: give a number from {LEAST_CPUS} on")
    return number


def user(value: Any) -> str:
    """ "name", "uid" or "uid:gid", or a uid as a number."""
    if (number := plain.whole(value)) is not None and number >= 0:
        return str(number)
    if not isinstance(value, str) or not _USER.fullmatch(value):
        raise InvalidInput(f"user={value!r}: give 'name', 'uid' or 'uid:gid'")
    return value


def network(value: Any) -> str:
    """ "none", "host", or a network's name."""
    if not isinstance(value, str) or not _NETWORK.fullmatch(value):
        raise InvalidInput(f"network={value!r}: give 'none', 'host', or the name of a network")
    return value


def absolute(value: Any) -> str:
    """An absolute path in the container."""
    if not isinstance(value, str) or not value.startswith("/"):
        raise InvalidInput(f"{value!r} is no absolute path in the container")
    return value


def image(value: Any) -> str:
    """An image's name, as Docker writes names."""
    if not isinstance(value, str) or not _IMAGE.fullmatch(value):
        raise InvalidInput(
            f"{value!r} is no image's name: it is like 'name:tag', 'registry:5000/folder/name:tag' "
            "or 'name@sha256:...', and the name is in lower case"
        )
    return value


def capabilities(value: Any) -> tuple[str, ...]:
    """A list of the names of capabilities, with or without CAP_."""
    given = strings(value)
    for one in given:
        name = one.upper().removeprefix("CAP_")
        if name not in _CAPABILITIES.split():
            raise InvalidInput(
                f"{one!r} is no capability.{did_you_mean(name, _CAPABILITIES.split())}"
            )
    return given


def security_options(value: Any) -> tuple[str, ...]:
    """A list of Docker's security options."""
    given = strings(value)
    for one in given:
        name = re.split("[=:]", one)[0]
        if name not in SECURITY:
            raise InvalidInput(f"{one!r} is no security option.{did_you_mean(name, SECURITY)}")
    return given


def strings(value: Any) -> tuple[str, ...]:
    """A list of strings."""
    if (
        isinstance(value, str)
        or not isinstance(value, Sequence)
        or not all(isinstance(one, str) and "\0" not in one for one in value)
    ):
        raise InvalidInput(f"{value!r} must be a list of strings")
    return tuple(value)


def words(value: Any) -> tuple[str, ...]:
    """A program, or a list of a program and its arguments."""
    given = strings([value]) if isinstance(value, str) else strings(value)
    if not given or not given[0]:
        raise InvalidInput(f"{value!r} names no program")
    return given


def environment(value: Any) -> dict[str, str]:
    """A mapping from names to text; numbers become text."""
    if not isinstance(value, Mapping):
        raise InvalidInput(
            f"a mapping from names to values is wanted, not a {type(value).__name__}"
        )
    for name, one in value.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise InvalidInput(f"{name!r} is no name")
        if isinstance(one, bool) or not isinstance(one, str | int | float):
            # Not the value itself: it may be secret.
            raise InvalidInput(f"the value of {name} must be text, not a {type(one).__name__}")
        if "\0" in str(one):
            raise InvalidInput(f"the value of {name} must not hold the character NUL")
    return {name: str(one) for name, one in value.items()}


def tmpfs_mounts(value: Any) -> dict[str, str]:
    """A list of paths, or a mapping from path to options."""
    given = environment(value) if isinstance(value, Mapping) else dict.fromkeys(strings(value), "")
    for path in given:
        if not path.startswith("/"):
            raise InvalidInput(f"tmpfs: {path!r} is no absolute path")
    for options in given.values():
        for one in filter(None, options.split(",")):
            if one not in _TMPFS.split() and not _TMPFS_VALUE.fullmatch(one):
                meant = did_you_mean(one, _TMPFS.split())
                raise InvalidInput(
                    f"tmpfs: {one!r} is no option.{meant} Usual ones are 'size=64m', 'mode=1777', "
                    "'uid=1000', 'exec'"
                )
    return {_target("tmpfs", path): options for path, options in given.items()}


def _target(option: str, path: str) -> str:
    """A place for a mount in the container, as the engine would read it."""
    place = posixpath.normpath(f"/{path.lstrip('/')}")
    if place == "/" or f"{place}/".startswith(f"{ROOT}/"):
        raise InvalidInput(
            f"{option}: {path!r}: the job's own files are in {ROOT}, so nothing may be mounted "
            "there or around it"
        )
    return place


def gpu_request(value: Any) -> dict[str, Any]:
    """Docker's device request, of a number, "all", or a list of device ids."""
    if value == "all":
        chosen: dict[str, Any] = {"Count": -1}
    elif (count := plain.whole(value)) is not None and count > 0:
        chosen = {"Count": count}
    elif isinstance(value, Mapping):  # converted before
        return dict(value)
    elif isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise InvalidInput(f"gpus={value!r}: give a number, 'all', or a list of device ids")
    else:
        chosen = {"DeviceIDs": [str(one) for one in value]}
        if not all(chosen["DeviceIDs"]):
            raise InvalidInput(f"gpus={value!r}: a device's id is empty")
    return {**chosen, "Capabilities": [["gpu"]]}


def mounts(value: Any) -> tuple[Mount, ...]:
    """Volumes: a list of "source:target[:ro]", or a mapping from source to target."""
    if isinstance(value, Mapping):
        found = [_mount_of_pair(source, target) for source, target in value.items()]
    elif isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidInput(f"volumes={value!r}: give a mapping or a list")
    else:
        found = [one if isinstance(one, Mount) else _mount_of_text(one) for one in value]
    targets = [one.target for one in found]
    if twice := sorted({one for one in targets if targets.count(one) > 1}):
        raise InvalidInput(f"volumes: more than one for {', '.join(twice)}")
    return tuple(found)


def _mount_of_text(text: Any) -> Mount:
    source, colon, rest = text.partition(":") if isinstance(text, str) else ("", "", "")
    if not colon:
        raise InvalidInput(f"volumes: {text!r} is not 'source:target' or 'source:target:ro'")
    return _mount_of_pair(source, rest)


def _mount_of_pair(source: Any, target: Any) -> Mount:
    if isinstance(target, Mapping) and set(target) <= {"bind", "mode"} and "bind" in target:
        target = f"{target['bind']}:{target.get('mode', 'rw')}"
    if not isinstance(target, str | os.PathLike):
        raise InvalidInput(f"volumes: the target of {source!s} is {target!r}, not a path")
    place, _, mode = os.fspath(target).partition(":")
    if mode not in ("", "ro", "rw"):
        raise InvalidInput(f"volumes: the mode of {source!s} is {mode!r}, not 'ro' or 'rw'")
    if not place.startswith("/"):
        raise InvalidInput(f"volumes: {place!r}, in the container, must be an absolute path")
    return Mount(_source(os.fspath(source)), _target("volumes", place), mode == "ro")


def _source(text: str) -> str:
    if text.startswith(("/", ".", "~")):
        return os.path.abspath(os.path.expanduser(text))
    if not _VOLUME_NAME.fullmatch(text):
        raise InvalidInput(
            f"volumes: {text!r} is neither a path ('/data', './data') nor the name of a volume"
        )
    return text
