"""Finds a file's tokens in the cache, or puts them there."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import spotune.data
from training_container.corpus.store import COLUMNS, StoreWriter, TokenStore
from training_container.folders import Folders

CACHE_VARIABLE = "SPOTUNE_CACHE"
ENCODERS = ("tokenizers", "jinja2")
KEPT_STORES = 8
"""Files whose tokens are kept, the last asked for. A run has two, and those that run beside it on a host may share."""


def cache_folder(folders: Folders) -> Path:
    """Where tokens are kept: below `SPOTUNE_CACHE`, else beside the folders that SageMaker carries to S3, in none."""
    return Path(os.environ.get(CACHE_VARIABLE) or folders.root / "cache") / "corpus"


def cache_key(*parts: bytes) -> str:
    """A name for what these bytes, the code that encodes and the libraries it stands on make together."""
    digest = hashlib.sha256()
    for part in (*parts, *_code(), repr(COLUMNS).encode()):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def cached(folder: Path, key: str, fill: Callable[[StoreWriter], None]) -> TokenStore:
    """The store named `key`, made by `fill` where it is not there or is damaged.

    It is made under another name, renamed and verified. Processes of this host that ask at once wait for the first.
    A store that is removed while a process has it can be read by that process to its end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / key
    with _locked(folder / f"{key}.lock"):
        with contextlib.suppress(ValueError):
            store = TokenStore(final)
            os.utime(final)
            return store
        shutil.rmtree(final, ignore_errors=True)
        partial = folder / f".{key}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            writer = StoreWriter(partial)
            fill(writer)
            writer.close()
            partial.rename(final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        _prune(folder)
        return TokenStore(final)


def _prune(folder: Path) -> None:
    """Remove all stores but the newest; those that another process is about to open are among them."""
    stores = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    for old in sorted(stores, key=_asked_for, reverse=True)[KEPT_STORES:]:
        shutil.rmtree(old, ignore_errors=True)
        (folder / f"{old.name}.lock").unlink(missing_ok=True)


def _asked_for(store: Path) -> float:
    """When a process last asked for it; another process may have removed it since."""
    try:
        return store.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone inside, on this host. The system lets go of it when the process ends, however it ends."""
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _code() -> Iterator[bytes]:
    """The modules between a row and its tokens, and the versions of what they call."""
    for package in spotune.data.__path__:
        for path in sorted(Path(package).glob("*.py")):
            yield path.read_bytes()
    for name in ENCODERS:
        yield version(name).encode()
