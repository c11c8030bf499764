"""A proxy in front of an engine's socket: counts calls, and simulates faults of the connection."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from pathlib import Path

REQUEST = re.compile(rb"(?:^|\r\n\r\n)((?:GET|HEAD|POST|PUT|DELETE) /\S+) HTTP/1\.1\r\n")


class EngineProxy:
    """Forwards connections from its own socket.

    Args:
        path: of the socket.
        engine: of the engine's.
    """

    def __init__(self, path: Path, engine: Path) -> None:
        self.url, self._engine = f"unix://{path}", engine
        self.calls: list[str] = []
        """"METHOD /path" of each call so far."""
        self.lose_answer_to = ""
        """Pass on the first call that contains this, and close the connection in place of the
        answer."""
        self.deaf_to = ""
        """Pass no answer on to calls that contain this: a line that is dead, and looks alive."""
        self.refuse: tuple[str, int] | None = None
        """Answer calls that contain the text with this status, and do not pass them on."""
        self.cut_answer_to: tuple[str, int] | None = None
        """Cut the line after so many bytes of the answers to calls that contain the text."""
        self._deaf: list[socket.socket] = []
        self._cut: dict[socket.socket, int] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def count(self, word: str) -> int:
        """How many calls contain this."""
        return sum(word in call for call in self.calls)

    def close(self) -> None:
        """Accept no more calls."""
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
                    if self._is_refused(data, client):
                        break
                    self._seen(data, client)
                    engine.sendall(data)
            except OSError:
                return

    def _is_refused(self, data: bytes, client: socket.socket) -> bool:
        found = REQUEST.search(data)
        if self.refuse is None or found is None or self.refuse[0] not in found[1].decode():
            return False
        self.calls.append(found[1].decode())
        body = b'{"message": "the service is out of order"}'
        head = f"HTTP/1.1 {self.refuse[1]} No\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        client.sendall(head.encode() + body)
        client.shutdown(socket.SHUT_WR)
        while client.recv(1 << 16):  # what else belongs to the call
            pass
        return True

    def _seen(self, data: bytes, client: socket.socket) -> None:
        for found in REQUEST.finditer(data):
            call = found[1].decode()
            self.calls.append(call)
            if self.lose_answer_to and self.lose_answer_to in call:
                self.lose_answer_to = ""
                self._cut[client] = 0
            if self.cut_answer_to and self.cut_answer_to[0] in call:
                self._cut[client] = self.cut_answer_to[1]
            if self.deaf_to and self.deaf_to in call:
                self._deaf.append(client)

    def _answers(self, engine: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := engine.recv(1 << 16):
                if client in self._cut:
                    client.sendall(data[: self._cut[client]])
                    self._cut[client] -= len(data)
                    if self._cut[client] <= 0:
                        break
                elif client not in self._deaf:
                    client.sendall(data)
        for end in (client, engine):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
