"""Where a job runs if it may run in several regions: by its price there, with what carrying it there costs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from spotune.contracts.market import MarketSnapshot
from spotune.contracts.money import worst_case
from spotune.planner import load_catalog, transfer
from spotune.planner.transfer import carriage, gigabyte_price
from tests.planner.cases import DOLLAR, LARGE, SMALL, dataset, plan_for

GIGABYTE = 10**9
CORPUS = dataset(rows=20_000, mean=400, longest=900)


def market_in(region: str, share: float = 1.0) -> MarketSnapshot:
    """Home's prices times this share, read in the region itself."""
    home = load_catalog().market()
    quotes = {
        name: quote.with_(
            on_demand=quote.on_demand and max(round(quote.on_demand * share), 1),
            spot=quote.spot and max(round(quote.spot * share), 1),
            certainty="confirmed",
        )
        for name, quote in home.quotes.items()
    }
    return home.with_(region=region, quotes=quotes)


HOME = market_in("us-east-1")


def test_the_price_list_has_a_source_for_each_price_and_one_for_what_it_does_not_list():
    path = Path(transfer.__file__).with_name("data") / "transfer.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert all(row["source"] and 0 < float(row["usd_per_gb"]) < 1 for row in rows)
    dearest = max(round(float(row["usd_per_gb"]) * DOLLAR) for row in rows)
    assert gigabyte_price("xx-new-1", "us-east-1") == dearest


@pytest.mark.parametrize(
    ("source", "target", "price"),
    [
        ("us-east-1", "us-east-2", 10_000),
        ("us-east-2", "us-east-1", 10_000),
        ("us-east-1", "eu-west-1", 20_000),
        ("eu-west-1", "us-east-1", 20_000),
        ("sa-east-1", "us-east-1", 138_000),
        ("us-east-1", "sa-east-1", 20_000),
    ],
)
def test_a_gigabyte_is_paid_for_in_the_region_that_it_leaves(source, target, price):
    assert gigabyte_price(source, target) == price


def test_both_ways_are_paid_for_and_nothing_at_home():
    away = carriage("us-east-1", "sa-east-1", inward=5 * GIGABYTE, back=GIGABYTE)
    assert away.cost == 5 * 20_000 + 138_000
    assert away.hours > 0
    assert carriage("us-east-1", "us-east-1", inward=5 * GIGABYTE, back=GIGABYTE).cost == 0


def test_a_cheaper_region_is_chosen_and_the_plan_names_what_the_copy_costs():
    plan = plan_for(LARGE, training=CORPUS, markets=(HOME, market_in("us-west-2", 0.5))).plan
    home = plan_for(LARGE, training=CORPUS, markets=(HOME,)).plan
    chosen = plan.chosen
    assert chosen.region == "us-west-2"
    assert 16 * GIGABYTE * 20_000 / GIGABYTE < chosen.transfer < 17 * GIGABYTE * 20_000 / GIGABYTE
    assert chosen.transfer_bytes > 16 * GIGABYTE
    assert chosen.cost.mid == pytest.approx(home.chosen.cost.mid / 2 + chosen.transfer, rel=2e-3)
    assert chosen.wall_hours.mid > home.chosen.wall_hours.mid
    assert (home.chosen.transfer, home.chosen.transfer_bytes) == (0, 0)
    assert any("Runs in us-west-2: 16.1 GB are copied there first" in warning for warning in plan.warnings)
    assert not any("are copied there first" in warning for warning in home.warnings)


def test_a_region_that_is_cheaper_by_less_than_the_copy_is_not_chosen():
    home = plan_for(LARGE, training=CORPUS, markets=(HOME,)).plan.chosen
    transfer_of = plan_for(
        LARGE, training=CORPUS, markets=(HOME, market_in("us-west-2")), constraints={"regions": ["us-west-2"]}
    ).plan.chosen.transfer
    even = 1 - transfer_of / home.cost.mid
    below, above = market_in("us-west-2", even - 0.02), market_in("us-west-2", even + 0.02)
    assert plan_for(LARGE, training=CORPUS, markets=(HOME, below)).plan.chosen.region == "us-west-2"
    assert plan_for(LARGE, training=CORPUS, markets=(HOME, above)).plan.chosen.region == "us-east-1"


def test_what_lies_in_the_region_already_is_not_paid_for_again():
    markets = (HOME, market_in("us-west-2", 0.97))
    assert plan_for(LARGE, training=CORPUS, markets=markets).plan.chosen.region == "us-east-1"
    there = plan_for(LARGE, training=CORPUS, markets=markets, to_copy={"us-west-2": 0}).plan.chosen
    assert (there.region, there.transfer_bytes) == ("us-west-2", 0)
    assert 0 < there.transfer < 10_000, "the results' way back"


def test_the_cap_covers_the_transfer_before_any_second_on_an_instance():
    markets = (HOME, market_in("us-west-2", 0.5))
    plan = plan_for(LARGE, training=CORPUS, markets=markets, cap=40 * DOLLAR)
    chosen = plan.plan.chosen
    runtime = plan.config.limits.max_runtime_seconds
    assert chosen.worst_case_cost == worst_case(plan.plan.on_demand_price, 1, runtime) + chosen.transfer <= 40 * DOLLAR
    assert worst_case(plan.plan.on_demand_price, 1, runtime + 2) + chosen.transfer > 40 * DOLLAR


def test_every_rung_of_the_ladder_is_in_the_chosen_region():
    prices = market_in("us-west-2", 0.5)
    plan = plan_for(LARGE, training=CORPUS, markets=(HOME, prices)).plan
    for rung in plan.rungs:
        for name, price in zip(rung.instance_types, rung.on_demand_prices, strict=True):
            assert price == prices.quotes[name].on_demand


def test_a_region_whose_own_prices_were_never_read_competes_only_where_the_user_names_it():
    bundled = load_catalog().market("us-west-2")
    assert not [quote for quote in bundled.quotes.values() if quote.certainty == "confirmed"]
    free = {name: quote.with_(spot=1) for name, quote in bundled.quotes.items()}
    markets = (HOME, bundled.with_(quotes=free))
    assert plan_for(SMALL, markets=markets).plan.chosen.region == "us-east-1"
    named = plan_for(SMALL, markets=markets, constraints={"regions": ["us-west-2"]}).plan
    assert named.chosen.region == "us-west-2"
    assert any("not confirmed" in warning for warning in named.warnings)
