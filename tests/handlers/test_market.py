"""The market through the API and through the scheduled handler."""

import json

import pytest

import handlers.refresh_market
from spotune.contracts.market import Quotas
from spotune.planner import load_catalog
from tests.handlers.test_jobs import body_for
from tests.in_process import Client, Context
from tests.tiny_model import chat_rows

TYPES = [spec.instance_type for spec in load_catalog() if spec.gpus == 1]


def test_a_refresh_answers_with_the_age_of_each_source(world):
    world.market.values = {"sagemaker_prices": {"ml.g5.xlarge": 1_500_000}, "advisor": {"ml.g5.xlarge": (60, 1)}}
    answer = handlers.refresh_market.handler({}, Context())
    assert json.loads(json.dumps(answer)) == answer
    ages = {source["name"]: source for source in answer["sources"]}
    assert ages["sagemaker_prices"]["as_of"] == world.clock()
    assert ages["quotas"]["error"] == "gave no answer"


def test_the_market_is_shown_with_its_sources(client):
    answer = client.call("GET", "/v1/market")
    assert answer.status == 200
    assert answer.body["quotes"].keys() == load_catalog().instances.keys()
    assert {source["name"] for source in answer.body["sources"]} >= {"sagemaker_prices", "quotas"}


def test_the_market_is_not_shown_without_a_key(world):
    assert Client(None).call("GET", "/v1/market").status == 401


@pytest.mark.parametrize("spot_quota", [0, 3])
def test_a_plan_keeps_to_the_accounts_quotas(world, client, spot_quota):
    world.market.values = {"quotas": {name: Quotas(spot=spot_quota, on_demand=1) for name in TYPES}}
    handlers.refresh_market.handler({}, Context())
    world.clock.now += 301
    plan = client.call("POST", "/v1/fine_tuning/plans", body_for(client.upload(chat_rows(40)))).body["plan"]
    assert plan["chosen"]["market"] == ("spot" if spot_quota else "on_demand")
