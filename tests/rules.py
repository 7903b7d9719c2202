"""Rules, arrivals and retrainings as the tests need them: small, valid, and changed by keyword."""

from __future__ import annotations

from spotune.contracts.rules import Arrival, Retraining, RuleRecord, RuleRequest
from tests.factories import NOW


def rule_request(**changes: object) -> RuleRequest:
    values: dict[str, object] = {
        "name": "support",
        "source": {"uri": "s3://data/acme/support/**"},
        "job": {"model": "tiny", "constraints": {"budget_usd": 5}},
        "trigger": {"min_rows": 100},
    }
    return RuleRequest.model_validate({**values, **changes})


def rule(**changes: object) -> RuleRecord:
    values: dict[str, object] = {
        "id": "rule-support",
        "tenant": "acme",
        "request": rule_request(),
        "created_at": NOW,
        "updated_at": NOW,
    }
    return RuleRecord.model_validate({**values, **changes})


def arrival(name: str = "a.jsonl", version_id: str = "v1", **changes: object) -> Arrival:
    values: dict[str, object] = {
        "rule_id": "rule-support",
        "tenant": "acme",
        "uri": f"s3://data/acme/support/{name}",
        "version_id": version_id,
        "etag": "e" * 32,
        "sequencer": "0055AED6DCD90281E5",
        "bytes": 1000,
        "arrived_at": NOW,
        "state": "arrived",
    }
    return Arrival.model_validate({**values, **changes})


def retraining(**changes: object) -> Retraining:
    values: dict[str, object] = {
        "rule_id": "rule-support",
        "tenant": "acme",
        "number": 1,
        "state": "preparing",
        "request": rule_request(),
        "cause": "rows",
        "after": 0,
        "through": 3,
        "created_at": NOW,
        "updated_at": NOW,
        "cap": 5_000_000,
    }
    return Retraining.model_validate({**values, **changes})
