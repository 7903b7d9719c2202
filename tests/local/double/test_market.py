"""The neighbours of SageMaker, asked by the real client library through our own edge."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from spotune.aws import clients
from spotune.aws.base import AwsRefused
from spotune.aws.market import MarketSources
from spotune.contracts.errors import Unavailable
from spotune.contracts.market import Quotas
from spotune.planner import load_catalog
from tests.local.double.conftest import Site

TYPES = list(load_catalog().instances)
PRICED = [spec.instance_type for spec in load_catalog() if spec.on_demand is not None]


@pytest.fixture
def sources(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[MarketSources]:
    for service in ("PRICING", "EC2", "SERVICE_QUOTAS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", site.server.url)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    clients.client.cache_clear()
    yield MarketSources("us-east-1", f"{site.server.url}/_double/spot-advisor-data.json")
    clients.client.cache_clear()


def tell(site: Site, **body: object) -> httpx.Response:
    return httpx.post(f"{site.server.url}/_double/market", json=body)


def test_every_price_of_the_catalog_comes_through_the_pages(sources: MarketSources) -> None:
    found = sources.sagemaker_prices(TYPES)
    assert found == {name: load_catalog().instances[name].on_demand for name in PRICED}


def test_ec2s_prices_are_below_sagemakers_and_spot_below_both(sources: MarketSources) -> None:
    sagemaker, ec2, spot = sources.sagemaker_prices(TYPES), sources.ec2_prices(PRICED), sources.spot_prices(TYPES)
    assert set(ec2) == set(PRICED)
    assert len(spot) > 30
    assert all(spot[name] < ec2[name] < sagemaker[name] for name in spot)


def test_the_spot_price_is_the_median_of_the_zones(site: Site, sources: MarketSources) -> None:
    tell(site, spot={"ml.g5.xlarge": 0.5})
    assert sources.spot_prices(["ml.g5.xlarge"]) == {"ml.g5.xlarge": 500_000}


def test_the_advisor_says_what_the_bundle_says(sources: MarketSources) -> None:
    assert sources.advisor() == load_catalog().advisor["us-east-1"]


def test_placement_is_scored_for_groups_of_three_and_more(sources: MarketSources) -> None:
    found = sources.placement_scores([["ml.g5.xlarge", "ml.g5.2xlarge", "ml.g5.4xlarge"], ["ml.p5.48xlarge"]])
    assert found == {"ml.g5.xlarge": 9, "ml.g5.2xlarge": 9, "ml.g5.4xlarge": 9}


def test_quotas_are_those_that_training_jobs_are_held_to(site: Site, sources: MarketSources) -> None:
    httpx.post(
        f"{site.server.url}/_double/quota", json={"InstanceType": "ml.g5.xlarge", "market": "spot", "limit": 0}
    ).raise_for_status()
    found = sources.quotas(TYPES)
    assert found["ml.g5.xlarge"] == Quotas(spot=0, on_demand=20)
    assert all(quotas.spot is not None and quotas.on_demand is not None for quotas in found.values())


def test_a_broken_source_fails_and_the_others_do_not(site: Site, sources: MarketSources) -> None:
    tell(site, broken=["pricing", "advisor", "spot_prices"]).raise_for_status()
    for ask in (lambda: sources.sagemaker_prices(TYPES), sources.advisor, lambda: sources.spot_prices(TYPES)):
        with pytest.raises((Unavailable, AwsRefused)):
            ask()
    assert sources.quotas(["ml.g5.xlarge"])
    refused = tell(site, broken=["weather"])
    assert refused.status_code == 400
    assert "weather" in refused.text
