"""Rules through the deployed API, on S3's own events: from a file that lands to a plan of what would be trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from spotune.local.deployment import TENANT, client
from spotune.local.state import StackState
from tests import tiny_model
from tests.landings import rows
from tests.polling import wait_for

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def api(trainable: StackState) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {trainable.api_key}"}
    with httpx.Client(base_url=f"{trainable.api_url}/v1/", headers=headers, timeout=60) as made:
        yield made


def asked(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_rule_is_made_fed_changed_fired_and_deleted(stack: StackState, api: httpx.Client) -> None:
    wanted = {
        "name": "embedded-rule",
        "source": {"uri": f"s3://{stack.data_bucket}/{TENANT}/landing/**"},
        "job": {"model": tiny_model.NAME, "constraints": {"budget_usd": 5}},
        "trigger": {"min_rows": 10_000, "quiet_seconds": 0, "min_interval_seconds": 0},
        "frozen": {"fraction": 0.2},
        "dry_run": True,
    }
    s3 = client("s3", stack.emulator_url)
    s3.put_object(Bucket=stack.data_bucket, Key=f"{TENANT}/landing/before.jsonl", Body=rows(*range(20)))
    rule = asked(api.post("rules", json=wanted))
    assert asked(api.post("rules", json=wanted))["id"] == rule["id"]
    s3.put_object(Bucket=stack.data_bucket, Key=f"{TENANT}/landing/after.jsonl", Body=rows(*range(20, 60)))

    def pending() -> int:
        return int(asked(api.get("rules/embedded-rule"))["pending"]["rows"])

    wait_for(lambda: pending() > 20 or None, "both files are taken in: the one that was there, and the one that came")
    assert asked(api.patch("rules/embedded-rule", json={"trigger": {"max_per_day": 9}}))["trigger"]["max_per_day"] == 9
    fired = asked(api.post("rules/embedded-rule/fire"))
    assert (fired["number"], fired["dry_run"]) == (1, True)

    def planned() -> dict[str, Any] | None:
        (one,) = asked(api.get("rules/embedded-rule/retrainings"))["data"]
        return one if one["state"] not in ("preparing", "submitted") else None

    one = wait_for(planned, "the retraining is planned")
    assert (one["state"], one["billed"], one["job_id"]) == ("planned", 0, None), one
    assert "dry run" in one["reason"]
    assert pending() > 20, "a plan takes no data away"
    refused = api.delete("rules/embedded-rule/fire")
    assert refused.status_code == 404
    assert asked(api.delete("rules/embedded-rule"))["deleted"]
    assert api.get("rules/embedded-rule").status_code == 404
