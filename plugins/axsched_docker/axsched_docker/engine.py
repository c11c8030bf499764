"""The engine: a client for each thread, and its errors in words.

Every call either works, or raises `EngineError` (the engine said no), or `BackendUnavailable` (it
said nothing). docker-py has some five kinds of exceptions for the latter.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from typing import IO, Any

import docker
import requests
import urllib3
from docker.context import ContextAPI
from docker.context.config import get_current_context_name
from docker.tls import TLSConfig
from docker.utils import kwargs_from_env

from axsched_core.errors import AxschedError, BackendUnavailable, InvalidInput
from axsched_docker.options import DockerOptions

LOCAL = "unix:///var/run/docker.sock"
LOOK_TIMEOUT = 15.0
"""Seconds that the engine may take for a list, for which axsched's own engine waits."""
PIECE = 1 << 20
"""Bytes of an archive that are taken at a time."""
HEADER = struct.Struct(">BxxxL")
"""Of each piece of what a container has printed."""
SLACK = 2.0
"""Seconds by which an outage may have begun before the last answer, or its end been noticed."""

OUT_OF_ORDER = (429, 502, 503, 504)
"""Statuses of HTTP that speak of the service, and never of what was asked for."""
EVENTS = ("start", "die", "update", "pause", "unpause")
"""What the runner wants to hear of its containers."""

RUN_LABEL = "axsched.run"
KEY_LABEL = "axsched.key"


class EngineError(AxschedError):
    """The engine has refused a call.

    Args:
        status: of HTTP.
        message: the engine's words.
        explained: the answer says which call has failed why; Podman's do, also with status 500.
    """

    def __init__(self, status: int, message: str, explained: bool = False) -> None:
        super().__init__(message)
        self.status, self.explained = status, explained

    @property
    def unexplained(self) -> bool:
        """It may be the service that failed, and not this call."""
        return self.status >= 500 and not self.explained

    @property
    def not_found(self) -> bool:
        """There is no such container, image or file; Podman may say it with 500."""
        return self.status == 404 or "no such container" in str(self).lower()


class Engine:
    """One engine, for any number of threads.

    Args:
        options: which engine.

    Raises:
        InvalidInput: there is no such context, or the TLS files cannot be read.
    """

    def __init__(self, options: DockerOptions) -> None:
        self._parameters = _parameters(options)
        self.url: str = self._parameters.get("base_url") or LOCAL
        self._timeout = options.timeout
        self._version: str | None = None
        self._local = threading.local()
        self._clients: list[docker.APIClient] = []
        self._lock = threading.Lock()
        self._answered = time.time()
        self._down = False
        self._outages: list[tuple[float, float]] = []
        self.host = ""
        """The name of the engine's machine; known after `info`."""
        self.platform = ""
        """What the engine's machine is: "linux/amd64"; known after `info`."""
        self.clock_ahead = 0.0
        """Seconds by which the engine's clock is ahead of ours; known after `info`."""

    # ---- calls ---------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """What the engine says of itself."""
        with self._asked(service=True) as api:
            found: dict[str, Any] = {**api.version(), **api.info()}
        self.host = str(found.get("Name") or "")
        if found.get("Os") and found.get("Arch"):
            self.platform = f"{found['Os']}/{found['Arch']}"
        self.clock_ahead = seconds(found.get("SystemTime")) - time.time()
        return found

    def containers(self, run_id: str) -> list[dict[str, Any]]:
        """All containers of a run in one call, ended ones too; no exit codes."""
        with self._asked(service=True) as api:
            usual, api.timeout = api.timeout, min(api.timeout, LOOK_TIMEOUT)
            try:
                found: list[dict[str, Any]] = api.containers(
                    all=True, filters={"label": f"{RUN_LABEL}={run_id}"}
                )
            finally:
                api.timeout = usual
        return found

    def create(self, name: str, body: Mapping[str, Any]) -> None:
        """Make a container."""
        with self._asked() as api:
            api.create_container_from_config(dict(body), name)

    def start(self, name: str) -> None:
        """Start a container."""
        with self._asked() as api:
            api.start(name)

    def inspect(self, name: str) -> dict[str, Any]:
        """All about a container."""
        with self._asked() as api:
            found: dict[str, Any] = api.inspect_container(name)
        return found

    def kill(self, name: str, signal: str) -> None:
        """Send a signal; nothing happens where the container has ended or is gone."""
        try:
            with self._asked() as api:
                api.kill(name, signal)
        except EngineError as error:
            # 409 is Docker's "not running"; Podman says it with 500.
            if not error.not_found and error.status != 409 and self.runs(name):
                raise

    def forbid_restarts(self, name: str) -> None:
        """Take away a restart policy that somebody has given to a container."""
        with self._asked() as api:
            api.update_container(name, restart_policy={"Name": "no"})

    def runs(self, name: str) -> bool:
        """True where a container is running."""
        try:
            return bool(self.inspect(name)["State"]["Running"])
        except EngineError as error:
            if not error.not_found:
                raise
            return False

    def remove(self, name: str) -> None:
        """Remove a container and its anonymous volumes; it may be gone already."""
        try:
            with self._asked() as api:
                api.remove_container(name, v=True, force=True)
        except EngineError as error:
            # 409: somebody else is removing it.
            if not error.not_found and error.status != 409:
                raise

    def put(self, name: str, folder: str, tar: IO[bytes]) -> None:
        """Unpack an archive in a folder of a container."""
        with self._asked() as api:
            api.put_archive(name, folder, tar)

    @contextlib.contextmanager
    def get(self, name: str, path: str) -> Iterator[Iterator[bytes]]:
        """A file or folder of a container, as a tar archive in pieces."""
        with self._asked() as api, self._answer_to(api, name, "archive", path=path) as pieces:
            yield pieces

    def log(self, name: str, *streams: str) -> Iterator[tuple[str, bytes]]:
        """What the container's first process has printed so far.

        Args:
            name: the container's.
            streams: "stdout", "stderr" or both.

        Yields:
            Which stream, and a piece of it.

        Raises:
            BackendUnavailable: also where the answer is cut.
        """
        wanted = dict.fromkeys(streams, 1)
        with self._asked() as api, self._answer_to(api, name, "logs", **wanted) as pieces:
            yield from _frames(pieces)

    @contextlib.contextmanager
    def _answer_to(
        self, api: docker.APIClient, name: str, what: str, **parameters: Any
    ) -> Iterator[Iterator[bytes]]:
        # docker-py's own calls give no way to end an answer early, and for as long as one is open
        # the engine answers no other question about the container. Nor do they notice that one
        # is cut.
        url = f"{api.base_url}/v{api.api_version}/containers/{name}/{what}"
        response = api.get(url, params=parameters, stream=True, timeout=api.timeout)
        with contextlib.closing(response):
            try:
                response.raise_for_status()
            except requests.exceptions.HTTPError as error:
                docker.errors.create_api_error_from_http_exception(error)
            yield response.iter_content(PIECE)

    def image(self, name: str) -> dict[str, Any]:
        """All about an image."""
        with self._asked() as api:
            found: dict[str, Any] = api.inspect_image(name)
        return found

    def pull(self, image: str) -> None:
        """Pull an image, with the credentials of Docker's own configuration."""
        repository, tag = docker.utils.parse_repository_tag(image)
        with self._asked() as api:
            for line in api.pull(repository, tag=tag or "latest", stream=True, decode=True):
                if "error" in line:  # the call itself has "succeeded"
                    raise EngineError(500, str(line["error"]))

    def events(self, run_id: str, since: str) -> Any:
        """The stream of what happens to a run's containers: `EVENTS`, and Podman's "died".

        Its `close` ends it from any thread.
        """
        filters = {
            "type": "container",
            "event": [*EVENTS, "died"],
            "label": f"{RUN_LABEL}={run_id}",
        }
        with self._asked(service=True) as api:
            return api.events(decode=True, since=since, filters=filters)

    # ---- health --------------------------------------------------------------------------

    def was_down(self, moment: float) -> bool:
        """True where the engine did not answer at this moment (seconds, by the engine's clock)."""
        ours = moment - self.clock_ahead
        with self._lock:
            outages = list(self._outages)
            if self._down:
                outages.append((self._answered, time.time()))
        return any(begin - SLACK <= ours <= end + SLACK for begin, end in outages)

    def now(self) -> float:
        """Seconds since the epoch, by the engine's clock."""
        return time.time() + self.clock_ahead

    def fell_silent(self) -> None:
        """A stream has ended of itself: the engine may be down."""
        with self._lock:
            self._down = True

    def _answer(self) -> None:
        now = time.time()
        with self._lock:
            if self._down:
                self._outages.append((self._answered, now))
            self._answered, self._down = now, False

    # ---- clients -------------------------------------------------------------------------

    @contextlib.contextmanager
    def _asked(self, service: bool = False) -> Iterator[docker.APIClient]:
        """Make calls. With ``service`` they are about no container, so no answer is an outage."""
        with self._in_words(service):
            yield self._client()
        self._answer()

    @contextlib.contextmanager
    def _in_words(self, service: bool) -> Iterator[None]:
        try:
            yield
        except docker.errors.APIError as error:
            status, words = error.status_code or 500, str(error.explanation or error).strip()
            if status in OUT_OF_ORDER or (service and status >= 500):
                self.fell_silent()
                raise BackendUnavailable(
                    f"The Docker engine at {self.url} is out of order ({status}): {words}"
                ) from error
            self._answer()
            raise EngineError(status, words, _explains(error.response)) from error
        except (
            requests.exceptions.RequestException,
            urllib3.exceptions.HTTPError,
            docker.errors.DockerException,
            ConnectionError,
            TimeoutError,
        ) as error:
            self.fell_silent()
            raise BackendUnavailable(
                f"The Docker engine at {self.url} does not answer: {error}"
            ) from error

    def _client(self) -> docker.APIClient:
        # One a thread: a session of requests is not made for several.
        client: docker.APIClient | None = getattr(self._local, "client", None)
        if client is None:
            client = docker.APIClient(
                version=self._version, timeout=self._timeout, **self._parameters
            )
            self._version = client.api_version
            self._local.client = client
            with self._lock:
                self._clients.append(client)
        return client

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            clients, self._clients = self._clients, []
        for client in clients:
            client.close()
        self._local = threading.local()


def _frames(pieces: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """Take apart what the engine packs together: a stream's number, a length, so many bytes."""
    rest = bytearray()
    for piece in pieces:
        rest += piece
        while len(rest) >= HEADER.size:
            number, length = HEADER.unpack_from(rest)
            end = HEADER.size + length
            if len(rest) < end:
                break
            yield ("stderr" if number == 2 else "stdout"), bytes(rest[HEADER.size : end])
            del rest[:end]
    if rest:
        raise requests.exceptions.ChunkedEncodingError("what it has printed is cut off")


def _explains(response: Any) -> bool:
    try:
        return "cause" in response.json()
    except (AttributeError, TypeError, ValueError, requests.exceptions.RequestException):
        return False


def _parameters(options: DockerOptions) -> dict[str, Any]:
    """What docker-py is to be told of the place of the engine."""
    if options.context is not None:
        return _of_context(options.context, "")
    try:
        found: dict[str, Any] = kwargs_from_env()
        if options.host is None:
            return found if "base_url" in found else {**_of_current_context(), **found}
        found["base_url"] = options.host
        if options.tls is not None:
            found["tls"] = _tls(options.tls)
    except docker.errors.TLSParameterError as error:
        raise InvalidInput(f"The Docker engine's TLS files cannot be used: {error}") from error
    if not options.host.startswith(("tcp://", "https://")):
        found.pop("tls", None)
    return found


def _of_current_context() -> dict[str, Any]:
    if name := os.environ.get("DOCKER_CONTEXT"):
        return _of_context(name, " (it is in DOCKER_CONTEXT)")
    return _of_context(get_current_context_name(), " (it is the current one in config.json)")


def _of_context(name: str, where: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = ContextAPI.kwargs_from_context(name)
    except Exception as error:  # docker-py raises a plain one for a file that is damaged
        raise InvalidInput(f"The Docker context {name!r}{where} cannot be used: {error}") from error
    if not found and name != "default":  # docker-py would take this machine's engine
        raise InvalidInput(
            f"There is no Docker context named {name!r}{where}: see `docker context ls`."
        )
    return found


def _tls(files: Mapping[str, Any]) -> TLSConfig:
    pair = (files["cert"], files["key"]) if {"cert", "key"} <= files.keys() else None
    return TLSConfig(
        client_cert=pair, ca_cert=files.get("ca"), verify=bool(files.get("verify", True))
    )


def seconds(text: Any) -> float:
    """Seconds since the epoch, of one of the engine's times; 0 where there is none."""
    from datetime import datetime

    try:
        # Python reads at most six digits of a second, in whatever zone.
        head, dot, rest = str(text).partition(".")
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        moment = datetime.fromisoformat(f"{head}{dot}{digits[:6]}{rest[len(digits) :]}")
    except ValueError:
        return 0.0
    return max(0.0, moment.timestamp()) if moment.tzinfo else 0.0
