"""The audit log over the deployed functions, table and roles, and what none of their logs may hold."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from spotune.local.deployment import client
from spotune.local.state import StackState
from spotune.service.access.keys import id_of
from tests.embedded.test_callers import order
from tests.polling import wait_for

pytestmark = pytest.mark.embedded

JOBS = "/v1/fine_tuning/jobs"
CANARY = "canary-of-a-deployed-row"


def api(stack: StackState, key: str) -> httpx.Client:
    return httpx.Client(base_url=stack.api_url, headers={"authorization": f"Bearer {key}"}, timeout=60)


def everything_logged(stack: StackState) -> str:
    """Every line of every log group."""
    logs = client("logs", stack.emulator_url)
    groups = [one["logGroupName"] for one in logs.describe_log_groups()["logGroups"]]
    pages = (page for group in groups for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group))
    return "\n".join(event["message"] for page in pages for event in page["events"])


def rows(*, broken: bool) -> bytes:
    turns = [{"role": "user", "content": f"{CANARY} ask"}, {"role": "assistant", "content": f"{CANARY} say"}]
    row = json.dumps({"messages": turns}).encode() + b"\n"
    return row * 20 + (b'{"messages": "%s"\n' % CANARY.encode() if broken else b"")


def test_what_a_key_did_is_in_its_tenant_s_log_and_none_of_what_it_sent_is_in_any(stack: StackState) -> None:
    key = order(stack, tenant="audited", name="first")["key"]
    with api(stack, key) as http:
        files = [
            http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", rows(broken=broken))})
            for broken in (False, True)
        ]
        assert [answer.status_code for answer in files] == [200, 200]
        job = {"model": "nobody/nothing", "training_file": files[1].json()["id"], "suffix": CANARY}
        refused = http.post(JOBS, json=job)
        assert refused.status_code in (400, 404)
        assert http.post(JOBS, content=b'{"%s"' % CANARY.encode()).status_code == 400
        hook = {"name": "chat", "url": f"http://127.0.0.1:1024/{CANARY}"}
        made = http.post("/v1/webhook_endpoints", json=hook).json()
        tried = http.post(f"/v1/webhook_endpoints/{made['id']}/test", json={"event_type": "webhook.test"})
        assert tried.is_error
        record: list[dict[str, Any]] = http.get("/v1/audit_log").json()["data"]
    actor = id_of(key)
    assert [(one["action"], one["status"], one["actor"]) for one in reversed(record)] == [
        ("issue key first", 200, "operator"),
        ("POST /v1/files", 200, actor),
        ("POST /v1/files", 200, actor),
        (f"POST {JOBS}", refused.status_code, actor),
        (f"POST {JOBS}", 400, actor),
        ("POST /v1/webhook_endpoints", 200, actor),
        (f"POST /v1/webhook_endpoints/{made['id']}/test", tried.status_code, actor),
    ]
    codes = [answer.json()["error"]["code"] for answer in (refused, tried)]
    assert [record[3]["code"], record[0]["code"]] == codes
    assert record[-2]["target"] == files[0].json()["id"]
    logged = wait_for(lambda: text if actor in (text := everything_logged(stack)) else None, "the audit in the log")
    for secret in (CANARY, key, made["signing_secret"]):
        assert secret not in logged + json.dumps(record)
