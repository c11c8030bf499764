"""The images of a run: each name is looked up once, and means the same image from then on.

A tag may move while a run goes on, or between two drivers of it. Trials of two images must not be
mixed, so the id of the first lookup is written down in the run directory, and all containers are
made from it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from axsched_core import jobfolder
from axsched_core.errors import InvalidInput
from axsched_core.jobs import Cause
from axsched_docker.endings import Ending, NotStarted, NotYet
from axsched_docker.engine import Engine, EngineError

RECORD = "docker-images.json"
"""The file in the run directory: name -> `Image`."""

FOR_GOOD = (
    "unauthorized",
    "denied",
    "no basic auth credentials",
    "manifest unknown",
    "name unknown",
    "name invalid",
    "not found",
    "no matching manifest",
)
"""Words with which a registry refuses a pull whenever it is asked: the error codes of the OCI
distribution specification, as the engines repeat them. An engine gives all failures of a pull one
number."""
ASK_AGAIN = 1.0
"""Seconds for which the registry's last failure stands for the next one's, so that jobs which start
side by side do not all ask."""

log = logging.getLogger("axsched")


class NotPulled(NotYet):
    """A registry cannot be reached, or is out of order."""

    patience = 300.0
    cause = Cause.CONFIGURATION


@frozen
class Image:
    """What an image's name means in a run."""

    id: str
    """The engine's own name for it: a digest of its content."""
    digests: tuple[str, ...] = field(default=(), converter=tuple)
    """Under these names a registry has the same image."""
    platform: str = ""
    """What it was built for: "linux/amd64"."""


class Images:
    """Looks images up, has the engine pull them, and writes down what each name meant.

    Args:
        engine: where the images are.
        run_dir: the run directory; None: nothing is written down.

    Raises:
        InvalidInput: the file in the run directory is damaged.
    """

    def __init__(self, engine: Engine, run_dir: Path | None = None) -> None:
        self._engine = engine
        self._file = None if run_dir is None else run_dir / RECORD
        self._known = _read(self._file) if self._file is not None else {}
        self._ready: set[str] = set()
        self._failed: dict[str, tuple[float, NotPulled]] = {}
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def ensure(self, name: str, policy: str) -> Image:
        """Have the image there, as the policy says, and say which it is.

        Args:
            name: as the user wrote it.
            policy: the option ``pull``.

        Raises:
            NotStarted: it cannot be had.
            NotPulled: not now.
            BackendUnavailable: the engine does not answer.
        """
        with self._locks.setdefault(name, threading.Lock()):
            known = self._known.get(name)
            if known is None:
                known = self._look_up(name, policy)
                self._write_down(name, known)
            elif name not in self._ready:
                self._have_again(name, known, policy)
            self._ready.add(name)
            return known

    def forget(self, name: str) -> None:
        """The image is not there after all (somebody has removed it): look again."""
        self._ready.discard(name)

    def foreign(self, identity: str) -> str:
        """Words about an image that was built for other machines than the engine's; else ""."""
        there = self._engine.platform
        for image in list(self._known.values()):
            here = "/".join(image.platform.split("/")[:2])
            if image.id == identity and here and there and here != there:
                return f"; the image is for {image.platform}, but the engine's machine is {there}"
        return ""

    def _look_up(self, name: str, policy: str) -> Image:
        found = None if policy == "always" else self._inspect(name)
        if found is None and policy != "never":
            self._pull(name)
            found = self._inspect(name)
        if found is None:
            raise _refused(f"No such image: the engine has no image {name}, and pull={policy!r}")
        parts = (found.get("Os"), found.get("Architecture"), found.get("Variant"))
        platform = "/".join(one for one in parts if one)
        return Image(str(found["Id"]), found.get("RepoDigests") or (), platform)

    def _have_again(self, name: str, known: Image, policy: str) -> None:
        """Have the image with which the run began, and no other of the same name."""
        if self._inspect(known.id) is not None:
            return
        for digest in known.digests if policy != "never" else ():
            log.warning("The image %s was removed from the engine; pulling %s.", name, digest)
            try:
                self._pull(digest)
            except NotStarted as error:
                log.warning("%s", error)
            if self._inspect(known.id) is not None:
                return
        raise _refused(
            f"the image {name} with which this run began ({known.id}) is not on the engine any "
            "more. Another image of that name is not taken instead, because results of the two "
            "do not belong together: bring it back, or set another image under another name"
        )

    def _pull(self, name: str) -> None:
        when, failed = self._failed.get(name, (0.0, None))
        if failed is not None and time.monotonic() - when < ASK_AGAIN:
            raise failed
        try:
            self._engine.pull(name)
        except EngineError as error:
            words = f"the image {name} could not be pulled: {error}"
            if error.status < 500 or any(one in str(error).lower() for one in FOR_GOOD):
                raise _refused(words) from error
            failed = NotPulled(words)
            self._failed[name] = time.monotonic(), failed
            raise failed from error

    def _inspect(self, name: str) -> dict[str, Any] | None:
        try:
            return self._engine.image(name)
        except EngineError as error:
            if error.not_found:
                return None
            if error.status < 500:
                raise _refused(f"the engine does not take the image name {name!r}: {error}") from (
                    error
                )
            raise

    def _write_down(self, name: str, image: Image) -> None:
        with self._lock:
            self._known[name] = image
            if self._file is None:
                return
            data = {one: attrs.asdict(found) for one, found in self._known.items()}
            try:
                jobfolder.write_atomically(self._file, json.dumps(data, indent=2).encode())
            except OSError as error:  # this driver knows it all the same
                log.warning("%s cannot be written: %s", self._file, error)


def _refused(words: str) -> NotStarted:
    return NotStarted(Ending(cause=Cause.CONFIGURATION, message=words))


def _read(file: Path) -> dict[str, Image]:
    try:
        data = json.loads(file.read_bytes())
        if not isinstance(data, Mapping):
            raise TypeError("it is no JSON object")
        return {name: Image(**values) for name, values in data.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise InvalidInput(
            f"{file} cannot be read ({error}). It says which images this run uses; without it each "
            "name is looked up again: restore it, or remove it."
        ) from error
