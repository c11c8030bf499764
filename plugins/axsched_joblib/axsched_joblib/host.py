"""The driver's side of the template: starts the process, and knows how it is."""

from __future__ import annotations

import enum
import logging
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping

from axsched_joblib import template

MOST_STARTS = 20
"""How often the process is started: again only if it was killed, or modules have changed."""
LONGEST_PATH = 100
"""Characters of a socket's path that every system takes."""

_log = logging.getLogger("axsched")


class State(enum.Enum):
    """How the template is."""

    ABSENT = "not started, or ended"
    STARTING = "it imports"
    READY = "jobs can be forked from it"
    USELESS = "there will be none"


class Host:
    """Starts one template at a time.

    Args:
        env: its environment.
        changed: called after each change of `state`, from a thread of its own.
    """

    def __init__(self, env: Mapping[str, str], changed: Callable[[], None]) -> None:
        self._env, self._changed = env, changed
        self._starts = MOST_STARTS
        self._folder: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self.state = State.ABSENT

    @property
    def path(self) -> str:
        """The socket for workers; "": there is none now."""
        return f"{self._folder}/{self._starts}" if self.state is State.READY else ""

    def start(self, modules: str, folder: str) -> None:
        """Start one, unless that is of no use.

        Args:
            modules: the file with the modules' names.
            folder: a job's.
        """
        if self.state is not State.ABSENT or self._closed:
            return
        self._starts -= 1
        try:
            if self._folder is None:
                self._folder = tempfile.mkdtemp(prefix="axsched-")
            path = f"{self._folder}/{self._starts}"
            if not self._starts or len(path) > LONGEST_PATH:
                raise OSError("it was started too often" if not self._starts else "a long TMPDIR")
            self._process = subprocess.Popen(
                [sys.executable, template.__file__, path, modules, folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._env,
                start_new_session=True,  # out of reach of Ctrl-C
            )
        except (OSError, ValueError) as error:
            _log.info("Each job imports its modules itself: %s", error)
            self.state = State.USELESS
            return
        self.state = State.STARTING
        threading.Thread(
            target=self._watch, args=(self._process,), name="axsched-joblib-modules", daemon=True
        ).start()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as stdout:
            if stdout.readline() == template.READY:
                self.state = State.READY
                self._changed()
            while stdout.readline():
                """A package prints."""
        code = process.wait()
        if self.state is State.STARTING or code == template.UNUSABLE:
            _log.info(
                "Each job imports its modules itself: the process for them ended with %d.", code
            )
            self.state = State.USELESS
        else:
            self.state = State.ABSENT
        self._changed()

    def close(self) -> None:
        """End it. The jobs that it has started continue."""
        self._closed = True
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
