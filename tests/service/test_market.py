"""The refresh and what plans see of it, in process."""

import pytest

from spotune.aws.base import AwsRefused, ObjectMissing
from spotune.contracts.errors import Unavailable
from spotune.contracts.layout import market_uri
from spotune.contracts.market import Quotas
from spotune.planner import load_catalog
from spotune.service.market import SnapshotUnreadable, current_market, read_snapshot, refresh
from tests import in_process

NAME = "ml.g5.xlarge"
LATEST = market_uri("models", "us-east-1", "latest")
HALF_AN_HOUR = 1800


@pytest.fixture
def world():
    return in_process.world()


def test_without_a_refresh_plans_use_the_bundle_and_say_so(world):
    market = current_market(world.here)
    assert market.quotes == load_catalog().market().quotes
    assert "No prices were fetched yet" in market.warnings[-1]


def test_a_refresh_is_kept_under_its_time_and_as_the_one_in_force(world):
    world.market.values = {"sagemaker_prices": {NAME: 1_500_000}, "quotas": {NAME: Quotas(spot=2, on_demand=1)}}
    refresh(world.here)
    kept = [info.uri for info in world.objects.list(market_uri("models", "us-east-1", "").removesuffix(".json"))]
    assert kept == sorted([LATEST, market_uri("models", "us-east-1", str(int(world.clock())))])
    world.clock.now += HALF_AN_HOUR
    market = current_market(world.here)
    assert market.quotes[NAME].on_demand == 1_500_000
    assert market.quotes[NAME].quota("spot") == 2
    assert not [warning for warning in market.warnings if warning.startswith(("sagemaker_prices", "No prices"))]


def test_a_second_refresh_starts_from_the_first_ones_values(world):
    world.market.values = {"sagemaker_prices": {NAME: 1_500_000}}
    first = refresh(world.here)
    world.clock.now += 6 * 3600
    world.market.values = {
        "sagemaker_prices": Unavailable("no answer", code="aws_unavailable"),
        "advisor": AwsRefused("AccessDenied", "no"),
    }
    second = refresh(world.here)
    ages = {source.name: source for source in second.sources}
    assert second.quotes[NAME].on_demand == 1_500_000
    assert second.as_of == first.as_of
    assert ages["sagemaker_prices"].error == "no answer"
    assert ages["advisor"].error


def test_an_answer_that_cannot_be_read_is_a_failed_source_and_not_a_failed_refresh(world):
    world.market.values = {"spot_prices": KeyError("SpotPrice"), "quotas": {NAME: Quotas(spot=1)}}
    snapshot = refresh(world.here)
    assert snapshot.quotes[NAME].quotas.spot == 1
    assert "cannot be read" in next(source.error for source in snapshot.sources if source.name == "spot_prices")


@pytest.mark.parametrize("body", [b"", b"{", b'{"version": 1}', b'{"version": 3, "region": "us-east-1"}', b"[]"])
def test_a_snapshot_that_does_not_parse_is_named_and_plans_fall_back(world, body):
    world.objects.write(LATEST, body)
    with pytest.raises(SnapshotUnreadable, match=r"s3://models/market/us-east-1/latest.json is no market snapshot"):
        read_snapshot(world.here)
    market = current_market(world.here)
    assert market.quotes == load_catalog().market().quotes
    assert "cannot be used" in market.warnings[-1]
    world.market.values = {"sagemaker_prices": {NAME: 1_500_000}}
    assert refresh(world.here).quotes[NAME].on_demand == 1_500_000
    read_snapshot(world.here)


def test_what_was_read_is_kept_for_five_minutes_and_no_longer(world):
    world.market.values = {"sagemaker_prices": {NAME: 1_500_000}}
    refresh(world.here)
    world.clock.now = world.clock.now // 300 * 300 + 300
    assert current_market(world.here).quotes[NAME].on_demand == 1_500_000
    world.objects.delete(LATEST)
    world.clock.now += 299
    assert current_market(world.here).quotes[NAME].on_demand == 1_500_000
    world.clock.now += 2
    assert current_market(world.here).quotes[NAME].on_demand != 1_500_000
    with pytest.raises(ObjectMissing):
        read_snapshot(world.here)
