"""New data as it lands in an installation of this process, and the events that S3 makes of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

import handlers.data_arrived
from spotune.contracts.layout import split_uri
from spotune.contracts.rules import Arrival, RuleRecord
from tests import rules
from tests.in_process import Context, World

Event = dict[str, Any]


def rows(*numbers: int) -> bytes:
    """A file of chat rows that are known by their numbers."""
    return b"".join(_row(number) for number in numbers)


def _row(number: int) -> bytes:
    turns = [
        {"role": "user", "content": f"Say the number {number} twice."},
        {"role": "assistant", "content": f"{number} {number}"},
    ]
    return json.dumps({"messages": turns}).encode() + b"\n"


@dataclass
class Landings:
    """Writes and deletes objects, and tells the event of each change, which is not sent by itself."""

    world: World
    _sequencers: count[int] = field(default_factory=lambda: count(0x617F08299329D189))

    def put(self, uri: str, body: bytes) -> Event:
        """An object, or its next version."""
        self.world.objects.write(uri, body)
        info = self.world.objects.head(uri)
        assert info is not None
        found = {"size": info.bytes, "etag": info.etag, **self._version(info.version_id)}
        return self._event(uri, "Object Created", found, reason="PutObject")

    def delete(self, uri: str) -> Event:
        """By a marker, where the bucket keeps versions."""
        self.world.objects.delete(uri)
        marker = next((one for one in self.world.objects.versions(uri) if one.info.uri == uri and one.latest), None)
        kind = "Permanently Deleted" if marker is None else "Delete Marker Created"
        version = "" if marker is None else marker.info.version_id
        return self._event(uri, "Object Deleted", self._version(version), **{"deletion-type": kind})

    def delete_version(self, uri: str, version_id: str) -> Event:
        """For good."""
        self.world.objects.delete_version(uri, version_id)
        kind = {"deletion-type": "Permanently Deleted"}
        return self._event(uri, "Object Deleted", self._version(version_id), **kind)

    def send(self, *events: Event) -> list[int]:
        """One batch of the queue; the numbers of those that are to come again."""
        records = [{"messageId": str(number), "body": json.dumps(event)} for number, event in enumerate(events)]
        answer = handlers.data_arrived.handler({"Records": records}, Context())
        return [int(failed["itemIdentifier"]) for failed in answer["batchItemFailures"]]

    def land(self, uri: str, body: bytes) -> None:
        """An object, and its event."""
        assert self.send(self.put(uri, body)) == []

    def _event(self, uri: str, kind: str, found: dict[str, object], **more: str) -> Event:
        bucket, key = split_uri(uri)
        sequencer = f"{next(self._sequencers):X}"
        self.world.clock.now += 1
        at = datetime.fromtimestamp(self.world.clock(), UTC)
        return {
            "version": "0",
            "id": f"event-{sequencer}",
            "detail-type": kind,
            "source": "aws.s3",
            "account": "123456789012",
            "time": f"{at:%Y-%m-%dT%H:%M:%SZ}",
            "region": "us-east-1",
            "resources": [f"arn:aws:s3:::{bucket}"],
            "detail": {
                "version": "0",
                "bucket": {"name": bucket},
                "object": {"key": key, "sequencer": sequencer, **found},
                "request-id": "N4N7GDK58NMKJ12R",
                "requester": "123456789012",
                **more,
            },
        }

    def _version(self, version_id: str) -> dict[str, object]:
        return {"version-id": version_id} if version_id else {}


def made_rule(world: World, **changes: object) -> RuleRecord:
    """A rule that is kept, of acme's `in/` unless it is said otherwise."""
    request = {"source": {"uri": "s3://data/acme/in/**"}, **dict(changes.pop("request", {}))}  # type: ignore[call-overload]
    rule = rules.rule(created_at=world.clock(), request=rules.rule_request(**request), **changes)
    assert world.store.create_rule(rule)
    return stored(world, rule.id)


def stored(world: World, rule_id: str = "rule-support") -> RuleRecord:
    """The rule as it is kept."""
    found = world.store.find_rule(rule_id)
    assert found is not None
    return found


def arrivals(world: World, rule_id: str = "rule-support", tenant: str = "acme") -> list[Arrival]:
    """The rule's, oldest first."""
    return list(reversed(world.store.list_arrivals(tenant, rule_id, after=None, limit=100_000).items))


def states(world: World, rule_id: str = "rule-support", tenant: str = "acme") -> list[str]:
    """Of the rule's arrivals, oldest first."""
    return [one.state for one in arrivals(world, rule_id, tenant)]
