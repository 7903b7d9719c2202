"""A registry on this machine: as much of the distribution API as a push needs, and a list of what was sent to it."""

from __future__ import annotations

import hashlib
import itertools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

REPOSITORY = "spotune-training"


@dataclass
class LocalRegistry:
    """Holds digests and sizes; a blob's bytes are counted and forgotten. In the place of `deploy.image.registry`'s."""

    blobs: dict[str, int] = field(default_factory=dict)
    manifests: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Digest and media type by tag."""
    host: str = ""

    def repository(self) -> str:
        return f"{self.host}/{REPOSITORY}"

    def digest(self, tag: str) -> str | None:
        return self.manifests[tag][0] if tag in self.manifests else None

    def password(self) -> str:
        return "none"


@contextmanager
def running() -> Iterator[LocalRegistry]:
    registry = LocalRegistry()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(registry))
    registry.host = f"127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()


def _handler(registry: LocalRegistry) -> type[BaseHTTPRequestHandler]:
    uploads: dict[str, tuple[Any, int]] = {}
    numbers = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(200 if self.path == "/v2/" else 404)

        def do_HEAD(self) -> None:
            digest = self.path.rpartition("/")[2]
            known = registry.blobs.get(digest)
            self._answer(404 if known is None else 200, {"Docker-Content-Digest": digest}, length=known or 0)

        def do_POST(self) -> None:
            self._read()
            name = str(next(numbers))
            uploads[name] = (hashlib.sha256(), 0)
            self._answer(202, {"Location": f"/v2/{REPOSITORY}/blobs/uploads/{name}"})

        def do_PATCH(self) -> None:
            name = self.path.rpartition("/")[2]
            self._take(name)
            self._answer(202, {"Location": self.path, "Range": f"0-{uploads[name][1] - 1}"})

        def do_PUT(self) -> None:
            asked = urlsplit(self.path)
            last = asked.path.rpartition("/")[2]
            if "/manifests/" in asked.path:
                digest = f"sha256:{hashlib.sha256(self._read()).hexdigest()}"
                registry.manifests[last] = (digest, self.headers["Content-Type"])
            else:
                digest = parse_qs(asked.query)["digest"][0]
                self._take(last)
                summed, size = uploads.pop(last)
                assert digest == f"sha256:{summed.hexdigest()}"
                registry.blobs[digest] = size
            self._answer(201, {"Docker-Content-Digest": digest, "Location": asked.path})

        def _take(self, name: str) -> None:
            summed, size = uploads[name]
            for piece in self._pieces():
                summed.update(piece)
                size += len(piece)
            uploads[name] = (summed, size)

        def _read(self) -> bytes:
            return b"".join(self._pieces())

        def _pieces(self) -> Iterator[bytes]:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                while length := int(re.split(rb"[;\r]", self.rfile.readline())[0], 16):
                    yield self.rfile.read(length)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                left = int(self.headers.get("Content-Length", 0))
                while left:
                    piece = self.rfile.read(min(left, 1 << 20))
                    left -= len(piece)
                    yield piece

        def _answer(self, status: int, headers: dict[str, str] | None = None, length: int = 0) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(length)}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
