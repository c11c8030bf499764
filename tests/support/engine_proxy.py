"""A proxy before an engine's socket: counts the calls, and plays the faults that no engine has."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from pathlib import Path

REQUEST = re.compile(rb"(?:^|\r\n\r\n)((?:GET|HEAD|POST|PUT|DELETE) /\S+) HTTP/1\.1\r\n")


class EngineProxy:
    """Forwards connections from a socket of its own.

    Args:
        path: of the socket.
        engine: of the engine's.
    """

    def __init__(self, path: Path, engine: Path) -> None:
        self.url, self._engine = f"unix://{path}", engine
        self.calls: list[str] = []
        """"METHOD /path" of each call so far."""
        self.lose_answer_to = ""
        """Pass the first call that contains this on, and cut the line instead of the answer."""
        self.deaf_to = ""
        """Pass no answer on to calls that contain this: a line that is dead, and looks alive."""
        self._deaf: list[socket.socket] = []
        self._cut: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def count(self, word: str) -> int:
        """How many calls contain this."""
        return sum(word in call for call in self.calls)

    def close(self) -> None:
        """Take no more calls."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        engine = socket.socket(socket.AF_UNIX)
        with contextlib.closing(client), contextlib.closing(engine):
            try:
                engine.connect(str(self._engine))
                threading.Thread(target=self._answers, args=(engine, client), daemon=True).start()
                while data := client.recv(1 << 16):
                    self._seen(data, client)
                    engine.sendall(data)
            except OSError:
                return

    def _seen(self, data: bytes, client: socket.socket) -> None:
        for found in REQUEST.finditer(data):
            call = found[1].decode()
            self.calls.append(call)
            if self.lose_answer_to and self.lose_answer_to in call:
                self.lose_answer_to = ""
                self._cut.append(client)
            if self.deaf_to and self.deaf_to in call:
                self._deaf.append(client)

    def _answers(self, engine: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := engine.recv(1 << 16):
                if client in self._cut:
                    break
                if client not in self._deaf:
                    client.sendall(data)
        for end in (client, engine):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
