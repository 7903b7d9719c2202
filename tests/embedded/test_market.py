"""The deployed refresh, against the double's Pricing, EC2, Service Quotas and advisor, into S3 and into plans."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from spotune.contracts.market import MarketSnapshot
from spotune.local.deployment import client
from spotune.local.state import StackState
from tests.polling import wait_for

pytestmark = pytest.mark.embedded


def market(stack: StackState) -> MarketSnapshot:
    answer = httpx.get(f"{stack.api_url}/v1/market", headers={"Authorization": f"Bearer {stack.api_key}"}, timeout=30)
    answer.raise_for_status()
    return MarketSnapshot.model_validate(answer.json())


def refresh(stack: StackState) -> dict[str, dict[str, object]]:
    functions = client("lambda", stack.emulator_url)
    name = next(
        one["FunctionName"] for one in functions.list_functions()["Functions"] if "RefreshMarket" in one["FunctionName"]
    )
    answer = json.loads(functions.invoke(FunctionName=name, Payload="{}")["Payload"].read())
    assert "errorMessage" not in answer, answer
    return {source["name"]: source for source in answer["sources"]}


def latest(stack: StackState) -> MarketSnapshot:
    body = client("s3", stack.emulator_url).get_object(Bucket=stack.models_bucket, Key="market/us-east-1/latest.json")
    return MarketSnapshot.model_validate_json(body["Body"].read())


def test_the_stack_refreshes_its_market_when_it_comes_up(stack: StackState) -> None:
    wait_for(lambda: market(stack) if time.time() - market(stack).as_of < 3600 else None, "fresh prices in the API")
    found = latest(stack)
    assert all(source.as_of is not None and not source.error for source in found.sources), found.sources
    quote = found.quotes["ml.g5.xlarge"]
    assert quote.spot is not None
    assert quote.on_demand is not None
    assert 0 < quote.spot < quote.on_demand
    assert quote.quota("spot") == 20
    assert quote.placement_score == 9


def test_absurd_prices_and_broken_sources_leave_the_last_good_values(stack: StackState) -> None:
    refresh(stack)
    before = latest(stack)
    door = f"{stack.double_url}/_double/market"
    httpx.post(door, json={"prices": {"ml.g5.xlarge": 99.0}, "broken": ["advisor", "quotas"]}).raise_for_status()
    try:
        sources = refresh(stack)
    finally:
        httpx.post(door, json={"prices": {"ml.g5.xlarge": 1.4084}, "broken": []}).raise_for_status()
    after = latest(stack)
    assert after.quotes["ml.g5.xlarge"].on_demand == before.quotes["ml.g5.xlarge"].on_demand
    assert after.quotes["ml.g5.xlarge"].quotas == before.quotes["ml.g5.xlarge"].quotas
    assert "HTTP Error 500" in str(sources["advisor"]["error"])
    assert sources["quotas"]["as_of"] == next(one.as_of for one in before.sources if one.name == "quotas")
    assert sources["sagemaker_prices"]["error"] == ""
