"""A hub on loopback that speaks as the real one does to its own client, with the bad days that the real one has.

Beside it stands a second server, where large files lie: as the real one's, it refuses requests that bring a token.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

TOKEN = "hf_" + "a" * 34
"""Of an account that every gate is open to."""


def git_hash(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


@dataclass
class Repository:
    """One model: commits by their hash, branches by name."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    gated: str | bool = False
    card: dict[str, object] = field(default_factory=dict)

    def resolved(self, revision: str) -> str | None:
        found = self.branches.get(revision, revision)
        return found if found in self.commits else None


@dataclass
class Days:
    """What goes wrong, each by the name of a file; numbers count down."""

    cut: dict[str, list[int]] = field(default_factory=dict)
    """The connection breaks after so many bytes of an answer: one entry an answer."""
    early_end: dict[str, list[int]] = field(default_factory=dict)
    """As before, but it looks like the file's end: no length is said."""
    other_bytes: dict[str, bytes] = field(default_factory=dict)
    """Sent in place of the file."""
    no_ranges: bool = False
    busy: int = 0
    """So many requests of any kind are answered with 503."""
    wait: str = ""
    """Said with it as Retry-After."""
    ended_urls: int = 0
    """So many requests for large files find that their URL has ended."""
    narrow_token: bool = False
    """The account's token has not the right to read gated models."""
    page: bytes = b""
    """A proxy answers everything with this page."""


class FakeHub:
    """`address` is to be HF_ENDPOINT. `asked` has every request: method, path, whether a token came, and its range."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.renamed: dict[str, str] = {}
        self.days = Days()
        self.asked: list[tuple[str, str, bool, str]] = []
        self.address = ""
        self.store = ""

    def add(self, name: str, files: Mapping[str, bytes], **more: Any) -> str:
        """A model whose branch main is at a new commit with these files; returns the commit."""
        commit = hashlib.sha1(repr(sorted(files.items())).encode(), usedforsecurity=False).hexdigest()
        found = self.repositories.setdefault(name, Repository({}, {}))
        found.commits[commit] = dict(files)
        found.branches["main"] = commit
        for attribute, value in more.items():
            setattr(found, attribute, value)
        return commit

    def paths(self) -> list[str]:
        return [path for _, path, _, _ in self.asked]


@contextmanager
def named(environment: pytest.MonkeyPatch, home: Path) -> Iterator[FakeHub]:
    """A hub that the environment names, and nobody's token."""
    for name in ("HF_TOKEN", "HF_TOKEN_PATH"):
        environment.delenv(name, raising=False)
    environment.setenv("HF_HOME", str(home))
    with serving() as hub:
        environment.setenv("HF_ENDPOINT", hub.address)
        yield hub


@contextmanager
def serving() -> Iterator[FakeHub]:
    hub = FakeHub()
    front = ThreadingHTTPServer(("127.0.0.1", 0), type("Front", (_Front,), {"hub": hub}))
    store = ThreadingHTTPServer(("127.0.0.1", 0), type("Store", (_Store,), {"hub": hub}))
    hub.address, hub.store = (f"http://127.0.0.1:{server.server_address[1]}" for server in (front, store))
    threads = [Thread(target=server.serve_forever, args=(0.01,), daemon=True) for server in (front, store)]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server in (front, store):
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler, ABC):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing on stderr."""

    def _answer(self) -> None:
        days, token = self.hub.days, self.headers.get("Authorization", "")
        self.hub.asked.append((self.command, self.path, bool(token), self.headers.get("Range", "")))
        if days.page:
            return self._send(200, days.page, {"Content-Type": "text/html"})
        if days.busy:
            days.busy -= 1
            return self._send(503, b"", {"Retry-After": days.wait} if days.wait else {})
        return self._route(urlsplit(self.path).path, token.removeprefix("Bearer "))

    @abstractmethod
    def _route(self, path: str, token: str) -> None: ...

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": message})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_file(self, name: str, body: bytes, headers: Mapping[str, str]) -> None:
        days = self.hub.days
        body = days.other_bytes.get(name, body)
        span = self.headers.get("Range", "")
        start = 0 if days.no_ranges or not span else int(span.removeprefix("bytes=").partition("-")[0])
        part, said = body[start:], dict(headers)
        if start:
            said["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        cuts, ends = days.cut.get(name, []), days.early_end.get(name, [])
        if self.command == "HEAD" or not (cuts or ends):
            return self._send(206 if start else 200, part, said)
        self.close_connection = True
        self.send_response(206 if start else 200)
        for key, value in said.items():
            self.send_header(key, value)
        if cuts:
            self.send_header("Content-Length", str(len(part)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(part[: (cuts or ends).pop(0)])
        return None


class _Front(_Handler):
    """The hub itself: descriptions, small files, and the way to large ones."""

    def _route(self, path: str, token: str) -> None:
        if token and token != TOKEN:
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts == ["api", "whoami-v2"]:
            return self._json({"type": "user", "name": "ada"}) if token else self._refuse(401, "", "Invalid username")
        if parts == ["api", "models"]:
            return self._json([{"id": name} for name in self.hub.repositories])
        if parts[:2] == ["api", "models"]:
            return self._describe(parts[2:])
        if parts[:3] == ["api", "resolve-cache", "models"]:
            return self._small("/".join(parts[3:5]), parts[5], "/".join(parts[6:]))
        return self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]), token)

    def _describe(self, parts: list[str]) -> None:
        name = "/".join(parts[:2])
        if name in self.hub.renamed:
            new = "/".join(["/api/models", self.hub.renamed[name], *parts[2:]])
            return self._send(307, b"", {"Location": f"{new}?{urlsplit(self.path).query}"})
        repository = self.hub.repositories.get(name)
        if repository is None:
            return self._refuse(401, "RepoNotFound", "Invalid username or password.")
        commit = repository.resolved(parts[3] if len(parts) > 3 else "main")
        if commit is None:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {parts[3]}")
        files = repository.commits[commit]
        if len(parts) > 2 and parts[2] == "tree":
            return self._json([{"type": "file", "path": key, **_tree(key, body)} for key, body in files.items()])
        blobs = "blobs" in parse_qs(urlsplit(self.path).query)
        described = {
            "_id": commit[:24],
            "id": name,
            "modelId": name,
            "sha": commit,
            "private": False,
            "disabled": False,
            "gated": repository.gated,
            "tags": ["safetensors"],
            "cardData": repository.card,
            "siblings": [
                {"rfilename": key, **(_blob(key, body) if blobs else {})} for key, body in sorted(files.items())
            ],
        }
        return self._json(described)

    def _resolve(self, name: str, revision: str, file: str, token: str) -> None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            return self._refuse(401, "RepoNotFound", "Invalid username or password.")
        if token and self.hub.days.narrow_token:
            return self._refuse(403, "", "Please enable access to public gated repositories in your token settings")
        if repository.gated and token != TOKEN:
            return self._refuse(403 if token else 401, "GatedRepo", f"Access to model {name} is restricted.")
        commit = repository.resolved(revision)
        if commit is None:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        body = repository.commits[commit].get(file)
        if body is None:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        said = {"X-Repo-Commit": commit, "X-Linked-Size": str(len(body)), "X-Linked-ETag": f'"{_etag(file, body)}"'}
        if not is_large(file):
            return self._send(307, b"", {**said, "Location": f"/api/resolve-cache/models/{name}/{commit}/{file}"})
        where = f"{self.hub.store}/{_etag(file, body)}/{file}?Signature=once"
        return self._send(302, b"", {**said, "Location": where})

    def _small(self, name: str, commit: str, file: str) -> None:
        body = self.hub.repositories[name].commits[commit][file]
        self._send_file(file, body, {"X-Repo-Commit": commit, "ETag": f'"{_etag(file, body)}"'})

    def _json(self, document: object) -> None:
        self._send(200, json.dumps(document).encode(), {"Content-Type": "application/json"})


class _Store(_Handler):
    """Where large files lie, by their hash."""

    def _route(self, path: str, token: str) -> None:
        if token:
            return self._send(400, b"Only one auth mechanism allowed", {})
        if self.hub.days.ended_urls:
            self.hub.days.ended_urls -= 1
            return self._send(403, b"Request has expired", {})
        digest, file = path.strip("/").split("/")
        for repository in self.hub.repositories.values():
            for files in repository.commits.values():
                if file in files and _etag(file, files[file]) == digest:
                    return self._send_file(file, files[file], {"ETag": f'"{digest}"'})
        return self._send(404, b"", {})


def is_large(file: str) -> bool:
    """As most repositories' .gitattributes say."""
    return file.endswith((".safetensors", ".bin", "tokenizer.json"))


def _etag(file: str, body: bytes) -> str:
    return hashlib.sha256(body).hexdigest() if is_large(file) else git_hash(body)


def _blob(file: str, body: bytes) -> dict[str, object]:
    pointer = f"oid sha256:{hashlib.sha256(body).hexdigest()}\nsize {len(body)}\n".encode()
    if not is_large(file):
        return {"size": len(body), "blobId": git_hash(body)}
    large = {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": len(pointer)}
    return {"size": len(body), "blobId": git_hash(pointer), "lfs": large}


def _tree(file: str, body: bytes) -> dict[str, object]:
    described = _blob(file, body)
    large = described.get("lfs")
    more = {"lfs": {**large, "oid": large["sha256"]}} if isinstance(large, dict) else {}
    return {"size": len(body), "oid": described["blobId"], **more}
