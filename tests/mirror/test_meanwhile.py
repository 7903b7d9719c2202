"""One keeper adds a model while another removes it: whatever the order of their calls, no half of one is a model."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from spotune.contracts.base_model import BaseModelManifest
from spotune.contracts.errors import Conflict, NotFound
from spotune.contracts.training import ManifestFile
from spotune.mirror.adding import _put_in_force, add, look
from spotune.mirror.bucket import ModelsBucket
from spotune.mirror.hub import Hub
from spotune.mirror.keeping import faults, remove
from tests.mirror.hub import FakeHub
from tests.mirror.models import NAME, OPEN, single

FILES = {"config.json": b"{}", "model.safetensors": b"weights"}
FOLDER = f"{'a' * 40}/"
MANIFEST = BaseModelManifest(
    name=NAME,
    revision="a" * 40,
    parameters=1,
    folder=FOLDER,
    files=tuple(
        ManifestFile(name=name, bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
        for name, body in FILES.items()
    ),
)
ADDS, REMOVES = 4, 9
"""Calls that each of them makes where the other one does not disturb it."""


class Turns:
    """Lets two threads make their calls in this order. Whoever has ended is passed over."""

    def __init__(self, order: str) -> None:
        self._left = list(order)
        self._changed = threading.Condition()

    @contextmanager
    def of(self, who: str) -> Iterator[None]:
        with self._changed:
            assert self._changed.wait_for(lambda: not self._left or self._left[0] == who, timeout=30)
            try:
                yield
            finally:
                del self._left[:1]
                self._changed.notify_all()

    def end(self, who: str) -> None:
        with self._changed:
            self._left = [one for one in self._left if one != who]
            self._changed.notify_all()


class Taking:
    """A client that waits for its turn before each call."""

    def __init__(self, client: Any, turns: Turns, who: str) -> None:
        self._client, self._turns, self._who = client, turns, who

    def get_paginator(self, operation: str) -> Any:
        class Pages:
            paginate = staticmethod(lambda **arguments: self._listed(operation, arguments))

        return Pages()

    def _listed(self, operation: str, arguments: dict[str, Any]) -> Iterator[Any]:
        with self._turns.of(self._who):
            yield getattr(self._client, operation)(**arguments)

    def __getattr__(self, operation: str) -> Any:
        def call(**arguments: Any) -> Any:
            with self._turns.of(self._who):
                return getattr(self._client, operation)(**arguments)

        return call


def outcome(turns: Turns, who: str, work: Callable[[], object]) -> object:
    try:
        return work()
    except (Conflict, NotFound) as error:
        return error.code
    finally:
        turns.end(who)


def at_once(s3: Any, order: str) -> tuple[object, object]:
    """How adding and removing end where their calls come in this order; the files of the one are there at first."""
    turns = Turns(order)
    adding, removing = (ModelsBucket(Taking(s3, turns, who), "models") for who in "ar")
    with ThreadPoolExecutor(2) as both:
        added = both.submit(outcome, turns, "a", lambda: _put_in_force(adding, MANIFEST))
        removed = both.submit(outcome, turns, "r", lambda: remove(removing, NAME))
        return added.result(), removed.result()


def lay(s3: Any) -> None:
    for name, body in FILES.items():
        s3.put_object(Bucket="models", Key=f"base/{NAME}/{FOLDER}{name}", Body=body)


@pytest.mark.parametrize("first", range(1, ADDS))
def test_what_is_in_force_is_whole_whatever_the_order(s3: Any, bucket: ModelsBucket, first: int) -> None:
    for second in range(REMOVES + 1):
        for order in (
            "r" * second + "a" * first + "r" * 40 + "a" * 40,
            "a" * first + "r" * second + "a" * 40 + "r" * 40,
        ):
            lay(s3)
            at_once(s3, order)
            found = bucket.manifest(NAME)
            assert found is None or list(faults(bucket, found, lambda count: None)) == [], order
            assert found is not None or bucket.manifest(NAME, FOLDER) is None, order
            for key in [one["Key"] for one in s3.list_objects_v2(Bucket="models").get("Contents", ())]:
                s3.delete_object(Bucket="models", Key=key)


def test_one_after_the_other_ends_as_each_does_alone(s3: Any) -> None:
    lay(s3)
    assert at_once(s3, "a" * ADDS + "r" * REMOVES) == (None, len(FILES) + 2)
    assert s3.list_objects_v2(Bucket="models")["KeyCount"] == 0
    lay(s3)
    assert at_once(s3, "r" * REMOVES + "a") == ("base_model_changed_meanwhile", len(FILES))
    assert s3.list_objects_v2(Bucket="models")["KeyCount"] == 0


def test_an_addition_that_loses_its_first_file_says_so_and_leaves_no_model(
    far: FakeHub, hub: Hub, bucket: ModelsBucket, disk: Path
) -> None:
    far.add(NAME, single(), card=OPEN)
    offer = look(hub, NAME, "main", disk)
    removals = iter((lambda: remove(bucket, NAME),))

    def advance(count: int) -> None:
        """Another keeper comes as soon as something lies there."""
        if bucket.folders(NAME):
            next(removals, lambda: None)()

    with pytest.raises(Conflict, match="run the same command again") as refused:
        add(hub, bucket, offer, by="ada", accepted=False, now=0, advance=advance)
    assert refused.value.code == "base_model_changed_meanwhile"
    assert bucket.manifest(NAME) is None
    again = add(hub, bucket, offer, by="ada", accepted=False, now=0, advance=lambda count: None)
    assert list(faults(bucket, again, lambda count: None)) == []
