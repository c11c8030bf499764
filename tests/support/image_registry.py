"""A registry with one image, or none: the part of the protocol that a pull needs."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """Serves ``<host>/app:1`` on this machine, where engines accept a registry without TLS.

    Args:
        tar: the image's files.
        password: what the user ``me`` has to give; "": nothing.
        architecture: what the image says that it was built for.
    """

    def __init__(self, tar: bytes, password: str = "", architecture: str = "amd64") -> None:
        # The files as they are are the only layer.
        config = json.dumps(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {"Cmd": ["sh"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(tar)]},
            }
        ).encode()
        blobs = {_digest(data): data for data in (tar, config)}
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {
                    "mediaType": "application/vnd.docker.container.image.v1+json",
                    "size": len(config),
                    "digest": _digest(config),
                },
                "layers": [
                    {
                        "mediaType": "application/vnd.docker.image.rootfs.diff.tar",
                        "size": len(tar),
                        "digest": _digest(tar),
                    }
                ],
            }
        ).encode()
        known = {f"/v2/app/blobs/{digest}": data for digest, data in blobs.items()}
        known |= {f"/v2/app/manifests/{name}": manifest for name in ("1", _digest(manifest))}
        known["/v2/"] = b"{}"
        self.asked: list[str] = []
        """The paths of all served requests."""
        self.down = 0
        """The status that all requests get; 0: what was asked for."""
        self.turned_away = 0
        """Requests that were answered so."""
        registry = self
        wanted = "Basic " + base64.b64encode(f"me:{password}".encode()).decode()
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                data = known.get(self.path)
                if registry.down:
                    registry.turned_away += 1
                    self._answer(registry.down, b"{}", [])
                elif password and self.headers.get("Authorization") != wanted:
                    self._answer(401, b"{}", [("WWW-Authenticate", 'Basic realm="test"')])
                elif data is None:
                    self._answer(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}', [])
                else:
                    asked.append(self.path)
                    kind = MANIFEST if "manifests" in self.path else "application/octet-stream"
                    digest = _digest(data)
                    self._answer(
                        200, data, [("Content-Type", kind), ("Docker-Content-Digest", digest)]
                    )

            do_HEAD = do_GET

            def _answer(self, status: int, data: bytes, headers: list[tuple[str, str]]) -> None:
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
