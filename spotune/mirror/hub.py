"""The hub, as far as a mirror needs it: what a commit holds, and its files' bytes.

These are the calls of the hub's own client: a model's description with the hashes of its files, and a file at a commit,
which leads on to wherever its bytes lie. The token goes to the hub's own address alone.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Self
from urllib.parse import quote

import httpx
from pydantic import BaseModel, Field, ValidationError

from spotune.contracts.errors import NotAllowed, NotAuthenticated, NotFound, RequestRefused, SpotuneError, Unavailable

PUBLIC = "https://huggingface.co"
TRIES = 6
"""Of a call in a row that brings nothing more."""
PAUSE_SECONDS = 1.0
"""Before the second one; doubled before each further one."""
LONGEST_PAUSE = 60.0
"""Where the hub itself says how long to wait."""

LOOK_SECONDS = 5.0
"""For each part of an answer, where it is only looked whether there is one."""

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_BUSY = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Token:
    """Of an account on the hub; empty for none. `source` says where it was found."""

    value: str = field(repr=False)
    source: str

    @classmethod
    def from_environment(cls) -> Self:
        """HF_TOKEN, else the one that `hf auth login` has kept.

        Raises:
            RequestRefused: what is there is no token; it would stand in the words of whatever refuses it.
        """
        kept = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface") / "token"
        path = Path(os.environ.get("HF_TOKEN_PATH") or kept)
        source = "HF_TOKEN" if os.environ.get("HF_TOKEN") else str(path)
        try:
            value = (os.environ.get("HF_TOKEN") or (path.read_text() if path.is_file() else "")).strip()
        except (OSError, UnicodeDecodeError):
            raise _no_token(source) from None
        if not re.fullmatch(r"[!-~]*", value):
            raise _no_token(source)
        return cls(value, source)


@dataclass(frozen=True, slots=True)
class Look:
    """What the hub answered to one question.

    Attributes:
        status: 0 where nothing answered.
        reason: why nothing did.
        body: None where it is no JSON.
    """

    status: int
    reason: str = ""
    body: object = None


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a commit, with the hub's own hash of it."""

    name: str
    bytes: int
    sha256: str | None
    """Of a large file."""
    blob: str
    """Git's hash of a small one: SHA-1, over its size and its bytes."""


@dataclass(frozen=True, slots=True)
class HubCommit:
    """One state of a model's repository."""

    name: str
    commit: str
    files: tuple[HubFile, ...]
    gated: bool
    """Its files are given to those accounts alone that its author has let in."""
    card: Mapping[str, object]
    """The head of its README: licence, language and so on."""


class _Large(BaseModel):
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class _Sibling(BaseModel):
    rfilename: str
    size: int = Field(ge=0)
    blob: str = Field(alias="blobId", pattern="^[0-9a-f]{40}$")
    lfs: _Large | None = None


class _Answer(BaseModel):
    id: str
    sha: str = Field(pattern="^[0-9a-f]{40}$")
    siblings: list[_Sibling]
    gated: bool | str = False
    card: dict[str, object] | None = Field(default=None, alias="cardData")


class Hub:
    """One hub.

    Args:
        address: without a slash at its end.
        token: of the account that asks; empty for none.
        pause: sleeps so many seconds.
    """

    def __init__(self, address: str = PUBLIC, token: str = "", *, pause: Callable[[float], None] = time.sleep) -> None:
        self.address = address.rstrip("/")
        headers = {"User-Agent": "spotune", "Accept-Encoding": "identity"}
        self._http = httpx.Client(
            headers=headers | ({"Authorization": f"Bearer {token}"} if token else {}),
            timeout=httpx.Timeout(30, connect=10),
            follow_redirects=True,
        )
        self._pause = pause

    @classmethod
    def from_environment(cls) -> Self:
        """HF_ENDPOINT's, or the public one. Raises as `Token.from_environment`."""
        return cls(address_here(), Token.from_environment().value)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._http.close()

    def look(self, path: str) -> Look:
        """Ask once, for seconds. Nothing is raised: whatever comes of it is what was asked for."""
        try:
            response = self._http.get(self.address + path, timeout=LOOK_SECONDS)
        except httpx.RequestError as error:
            return Look(0, str(error) or type(error).__name__)
        except httpx.InvalidURL:
            return Look(0, "that is no address")
        try:
            return Look(response.status_code, body=response.json())
        except ValueError:
            return Look(response.status_code)

    def commit(self, name: str, revision: str) -> HubCommit:
        """What a branch, tag or commit holds now.

        Raises:
            NotFound: there is no such model or revision, or this account may not know of it.
            NotAuthenticated: the token is not taken.
            RequestRefused: that is no name of a model.
            Unavailable: the hub does not answer.
        """
        check_name(name)
        path, patience = f"/api/models/{name}/revision/{quote(revision, safe='')}", _Patience(self.address, self._pause)
        while True:
            try:
                with self._opened(path + "?blobs=true", name) as response:
                    return _commit(name, response.read())
            except _Again as cause:
                patience.wait(cause)

    def chunks(self, at: HubCommit, file: HubFile, offset: int = 0) -> Generator[bytes, None, None]:
        """A file's bytes from here to its end. A connection that breaks is taken up where it broke.

        Raises:
            NotAllowed: the repository is gated, and this account has not been let in.
            NotFound: the file is gone.
            Unavailable: the hub does not answer, or goes on to break off.
        """
        path, patience = f"/{at.name}/resolve/{at.commit}/{quote(file.name)}", _Patience(self.address, self._pause)
        while offset < file.bytes:
            try:
                with self._opened(path, at.name, offset) as response:
                    for chunk in _from(response, offset):
                        offset += len(chunk)
                        patience.restore()
                        yield chunk
                if offset < file.bytes:
                    raise _Again(f"{file.name} ended after {offset} of {file.bytes} bytes")
            except _Again as cause:
                patience.wait(cause)

    @contextmanager
    def _opened(self, path: str, name: str, offset: int = 0) -> Iterator[httpx.Response]:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            with self._http.stream("GET", self.address + path, headers=headers) as response:
                _check(response, name, self.address)
                yield response
        except httpx.RequestError as error:
            raise _Again(str(error) or type(error).__name__) from error


class _Again(Exception):
    """It did not work and may work now. `after` is the hub's own word for how long to wait, in seconds."""

    def __init__(self, reason: str, after: float = 0) -> None:
        super().__init__(reason)
        self.after = after


class _Patience:
    """So many calls in a row may bring nothing."""

    def __init__(self, address: str, pause: Callable[[float], None]) -> None:
        self._address, self._pause, self._tries = address, pause, 0

    def restore(self) -> None:
        """Something has come."""
        self._tries = 0

    def wait(self, cause: _Again) -> None:
        """Before the next call; raises `Unavailable` where there were enough of them."""
        self._tries += 1
        if self._tries == TRIES:
            raise Unavailable(
                f"The hub at {self._address} does not answer ({cause}).",
                code="hub_unavailable",
                remedy="Run the same command again: it goes on where it stands. HF_ENDPOINT names another hub.",
            )
        self._pause(cause.after or PAUSE_SECONDS * 2 ** (self._tries - 1))


def address_here() -> str:
    """The hub that this machine's environment names."""
    return os.environ.get("HF_ENDPOINT") or PUBLIC


def check_name(name: str) -> None:
    """Refuse what is no name of a model, or could be a path.

    Raises:
        RequestRefused: it is none.
    """
    if not _NAME.fullmatch(name) or ".." in name or "--" in name:
        raise RequestRefused(
            f"{name!r} is no name of a model on the hub.",
            code="model_name_invalid",
            param="model",
            remedy="Write owner/model, such as HuggingFaceTB/SmolLM2-135M-Instruct.",
        )


def _commit(name: str, body: bytes) -> HubCommit:
    try:
        answer = _Answer.model_validate_json(body)
    except ValidationError as error:
        raise SpotuneError(
            f"That is no answer of a hub ({error.errors(include_url=False)[0]['msg']}): {body[:100]!r}",
            code="hub_answer_unreadable",
            remedy="See whether HF_ENDPOINT leads to a hub, and no proxy answers in its place.",
        ) from None
    if answer.id != name:
        raise NotFound(
            f"{name} is called {answer.id} now.",
            code="hub_model_renamed",
            param="model",
            remedy=f"Add {answer.id}, if that is the one you mean.",
        )
    files = tuple(
        HubFile(one.rfilename, one.lfs.size if one.lfs else one.size, one.lfs.sha256 if one.lfs else None, one.blob)
        for one in answer.siblings
    )
    return HubCommit(name, answer.sha, files, bool(answer.gated), answer.card or {})


def _from(response: httpx.Response, offset: int) -> Iterator[bytes]:
    """From the byte that was asked for, though the server may have sent the whole."""
    skip = 0 if response.status_code == HTTPStatus.PARTIAL_CONTENT else offset
    for chunk in response.iter_raw():
        if len(chunk) > skip:
            yield chunk[skip:]
        skip = max(0, skip - len(chunk))


def _check(response: httpx.Response, name: str, address: str) -> None:
    """Tell a refusal from a bad moment."""
    if response.is_success:
        return
    status, code = response.status_code, response.headers.get("X-Error-Code", "")
    said = response.headers.get("X-Error-Message", "") or response.reason_phrase
    away = response.url.netloc != httpx.URL(address).netloc  # where the bytes lie, a URL may have ended meanwhile
    if status in _BUSY or away:
        raise _Again(f"{response.url.host} answered {status} {said}", _retry_after(response))
    refusal = _REFUSALS.get(code)
    if refusal is not None:
        raise refusal(name, address)
    if status == HTTPStatus.UNAUTHORIZED:
        raise NotAuthenticated(
            f"The hub takes no such token ({said}).",
            code="hub_token_refused",
            remedy="Set HF_TOKEN to a token of yours.",
        )
    raise NotAllowed(
        f"The hub refuses {name}: {status} {said}.",
        code="hub_refused",
        param="model",
        remedy="Where it is about the token's rights, change them in its settings on the hub, and run this again.",
    )


def _retry_after(response: httpx.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return min(float(value), LONGEST_PAUSE) if value.isdecimal() else 0


def _no_token(source: str) -> SpotuneError:
    return RequestRefused(
        f"{source} holds no token: a token is one word of letters, digits and signs.",
        code="hub_token_unusable",
        remedy="Set HF_TOKEN to a token of yours, or run `hf auth login`.",
    )


def _gated(name: str, address: str) -> SpotuneError:
    return NotAllowed(
        f"{name} is gated: its author lets in accounts one by one, and this one is not among them.",
        code="hub_gated",
        param="model",
        remedy=f"Ask for access at {address}/{name}, set HF_TOKEN to a token of that account, and run this again.",
    )


def _no_model(name: str, address: str) -> SpotuneError:
    return NotFound(
        f"The hub at {address} has no model {name}, or hides it from this account.",
        code="hub_model_not_found",
        param="model",
        remedy="See how it is spelt; for a private one, set HF_TOKEN to a token of an account that may read it.",
    )


def _no_revision(name: str, address: str) -> SpotuneError:
    return NotFound(
        f"{name} has no such revision.",
        code="hub_revision_not_found",
        param="revision",
        remedy=f"Take a branch, a tag or a commit that {address}/{name}/commits/main shows.",
    )


def _no_file(name: str, address: str) -> SpotuneError:
    return NotFound(
        f"{address} lists files of {name} that it does not have.", code="hub_file_not_found", remedy="Try again later."
    )


_REFUSALS: Mapping[str, Callable[[str, str], SpotuneError]] = {
    "GatedRepo": _gated,
    "RepoNotFound": _no_model,
    "RevisionNotFound": _no_revision,
    "EntryNotFound": _no_file,
}
"""By the hub's own word for it."""
