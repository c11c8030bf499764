"""Converters for single options: each takes what a user may write, or says what is wrong."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from axsched_core.errors import InvalidInput

ROOT = "/axsched"
"""Where a job's files are in its container; nothing else may be mounted there."""
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


def strings(value: Any) -> tuple[str, ...]:
    """A list of strings."""
    if (
        isinstance(value, str)
        or not isinstance(value, Sequence)
        or not all(isinstance(one, str) for one in value)
    ):
        raise InvalidInput(f"{value!r} must be a list of strings")
    return tuple(value)


def words(value: Any) -> tuple[str, ...]:
    """A program, or a list of a program and its arguments."""
    given = (value,) if isinstance(value, str) else strings(value)
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
        if not isinstance(name, str) or not name or "=" in name:
            raise InvalidInput(f"{name!r} is no name")
        if isinstance(one, bool) or not isinstance(one, str | int | float):
            # Not the value itself: it may be secret.
            raise InvalidInput(f"the value of {name} must be text, not a {type(one).__name__}")
    return {name: str(one) for name, one in value.items()}


def tmpfs_mounts(value: Any) -> dict[str, str]:
    """A list of paths, or a mapping from path to options."""
    given = environment(value) if isinstance(value, Mapping) else dict.fromkeys(strings(value), "")
    for path in given:
        if not path.startswith("/"):
            raise InvalidInput(f"tmpfs: {path!r} is no absolute path")
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
    elif isinstance(value, int) and not isinstance(value, bool) and value > 0:
        chosen = {"Count": value}
    elif isinstance(value, Mapping):  # converted before
        return dict(value)
    elif isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise InvalidInput(f"gpus={value!r}: give a number, 'all', or a list of device ids")
    else:
        chosen = {"DeviceIDs": [str(one) for one in value]}
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
