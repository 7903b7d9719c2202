"""The emulator's launcher: when it answers, what it saves, what it clears."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from spotune.local import emulator
from spotune.local.emulator import SavedApp

PUT = "DynamoDB_20120810.PutItem"


class Service:
    """An app that answers with a status, and what happened in which order."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.happened: list[str] = []
        self.app = SavedApp(
            self._answer,
            save=lambda name: self.happened.append(f"save {name}"),
            save_everything=lambda: self.happened.append("save everything"),
            release_bodies=lambda: None,
        )

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        self.happened.append("change")
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def request(self, target: str = "", path: str = "/", method: str = "POST") -> None:
        scope = {"type": "http", "method": method, "path": path, "headers": [(b"x-amz-target", target.encode())]}
        await self.app(scope, None, self._sent)

    async def _sent(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.happened.append(f"answer {message['status']}")


@pytest.mark.parametrize(
    ("target", "service"),
    [
        (PUT, emulator.ITEMS),
        ("DynamoDB_20120810.TransactWriteItems", emulator.ITEMS),
        ("DynamoDB_20120810.CreateTable", "dynamodb"),
        ("AmazonSQS.SendMessage", "sqs"),
    ],
)
def test_a_write_is_answered_after_it_is_saved(target: str, service: str) -> None:
    served = Service()
    asyncio.run(served.request(target))
    assert served.happened == ["change", f"save {service}", "answer 200"]


@pytest.mark.parametrize("target", ["DynamoDB_20120810.GetItem", "DynamoDB_20120810.Query", "AWSEvents.PutEvents", ""])
def test_what_writes_nothing_is_answered_at_once(target: str) -> None:
    served = Service()
    asyncio.run(served.request(target))
    assert served.happened == ["change", "answer 200"]


def test_a_refused_write_saves_nothing() -> None:
    served = Service(status=400)
    asyncio.run(served.request(PUT))
    assert served.happened == ["change", "answer 400"]


def test_writes_of_one_moment_share_a_save() -> None:
    served = Service()

    async def at_once() -> None:
        await asyncio.gather(*(served.request(PUT) for _ in range(20)))

    asyncio.run(at_once())
    saves = [position for position, what in enumerate(served.happened) if what.startswith("save")]
    assert len(saves) == 1
    assert served.happened.index("answer 200") > saves[0] > served.happened.index("change")


def test_a_write_that_comes_during_a_save_gets_one_of_its_own() -> None:
    served = Service()

    async def one_after_another() -> None:
        await served.request(PUT)
        await served.request(PUT)

    asyncio.run(one_after_another())
    assert served.happened.count(f"save {emulator.ITEMS}") == 2


def test_a_save_that_fails_fails_the_write() -> None:
    def full_disk(name: str) -> None:
        raise OSError("no space left")

    served = Service()
    served.app = SavedApp(served._answer, save=full_disk, save_everything=lambda: None, release_bodies=lambda: None)
    with pytest.raises(OSError, match="no space left"):
        asyncio.run(served.request(PUT))
    assert served.happened == ["change"]


def test_everything_is_saved_on_request() -> None:
    served = Service()
    asyncio.run(served.request(path=emulator.SAVE_PATH))
    assert served.happened == ["save everything", "answer 204"]


def test_after_a_kill_a_message_that_somebody_had_taken_is_seen_again_on_whatever_port(tmp_path: Path) -> None:
    saved = tmp_path / "sqs.json"
    message = {"sent_at": 5.0, "visible_at": 9999999999.0}
    queue = {"url": "http://127.0.0.1:4570/0/q", "messages": [message]}
    saved.write_text(json.dumps({"payload": {"queues": {"data": {"http://127.0.0.1:4570/0/q": queue}}}}))
    emulator._mend_queues(saved, "4600")
    queues = json.loads(saved.read_text())["payload"]["queues"]["data"]
    assert queues["http://127.0.0.1:4600/0/q"]["messages"][0]["visible_at"] == 5.0


def test_what_a_killed_emulator_left_is_cleared_and_its_state_is_not(tmp_path: Path) -> None:
    temporary, state = tmp_path / "tmp", tmp_path / "state"
    (temporary / "ministack-lambda-x").mkdir(parents=True)
    state.mkdir()
    for name in ("sqs.json", "sqs.json.7.tmp", "s3.json.tmp"):
        (state / name).touch()
    emulator._clear_leftovers(temporary, state)
    assert list(temporary.iterdir()) == []
    assert [path.name for path in state.iterdir()] == ["sqs.json"]
