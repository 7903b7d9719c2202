"""The condition keys that a guarded emulator adds to ministack's own."""

from __future__ import annotations

import json

import pytest

from spotune.local.guard import condition_keys, stream_named


def key(name: str) -> dict[str, object]:
    return {"pk": {"S": name}, "sk": {"S": "x"}}


@pytest.mark.parametrize(
    ("action", "request_", "keys"),
    [
        ("dynamodb:GetItem", {"Key": key("A")}, ["A"]),
        ("dynamodb:PutItem", {"Item": key("B")}, ["B"]),
        (
            "dynamodb:PutItem",
            {"TransactItems": [{"Put": {"Item": key("A")}}, {"Delete": {"Key": key("B")}}]},
            ["A", "B"],
        ),
    ],
)
def test_items_are_known_by_their_partitions(action: str, request_: dict[str, object], keys: list[str]) -> None:
    assert condition_keys(action, json.dumps(request_).encode()) == {"dynamodb:LeadingKeys": keys}


@pytest.mark.parametrize(
    "request_",
    [
        {"KeyConditionExpression": "pk = :pk"},
        {"TransactItems": [{"Put": {"Item": key("A")}}, {"Put": {"Item": {"pk": {"N": "1"}}}}]},
    ],
)
def test_a_request_whose_items_are_not_all_known_has_no_partitions(request_: dict[str, object]) -> None:
    assert condition_keys("dynamodb:PutItem", json.dumps(request_).encode()) == {}


def test_a_measurement_has_its_namespace_and_other_services_have_nothing() -> None:
    assert condition_keys("cloudwatch:PutMetricData", b'{"Namespace": "N"}') == {"cloudwatch:namespace": "N"}
    assert condition_keys("s3:PutObject", b"{}") == {}
    for body in (b"\x00", b"{", b'{"Key": 1}', b'{"TransactItems": 7}'):
        assert condition_keys("dynamodb:GetItem", body) == {}


def test_a_stream_is_known_by_its_name() -> None:
    assert stream_named(b'{"logGroupName": "g", "logStreamName": "s/1"}') == "s/1"
    assert [stream_named(body) for body in (b"{}", b"[]", b"\x00", b"")] == [""] * 4
