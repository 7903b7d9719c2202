import pytest
from pydantic import ValidationError

from spotune.contracts.market import HAZARDS, MarketSnapshot, Quote
from spotune.planner import load_catalog


def test_prices_are_whole_micro_dollars_an_hour():
    assert load_catalog().instances["ml.g5.2xlarge"].on_demand == 1_515_000


def test_a_spot_price_is_on_demand_less_the_advisors_savings():
    catalog = load_catalog()
    assert catalog.spot_price("ml.g5.2xlarge") == 1_515_000 * 42 // 100
    assert catalog.hazard("ml.g5.2xlarge") == HAZARDS[3]
    assert catalog.spot_price("ml.g5.2xlarge", "us-west-2") == 1_515_000 * 41 // 100


def test_a_type_without_a_public_price_is_listed_and_quoted_nowhere():
    quote = load_catalog().market().quotes["ml.p6-b300.48xlarge"]
    assert (quote.on_demand, quote.spot, quote.certainty) == (None, None, "none")


def test_a_type_that_the_advisor_does_not_know_has_the_worst_hazard_and_no_spot_price():
    catalog = load_catalog()
    assert catalog.spot_price("ml.g7e.2xlarge") is None
    assert catalog.hazard("ml.g7e.2xlarge") == HAZARDS[-1]


def test_every_spot_price_is_positive_and_below_on_demand():
    for region in load_catalog().advisor:
        for quote in load_catalog().market(region).quotes.values():
            assert quote.spot is None or 0 < quote.spot < quote.on_demand


def test_another_region_says_that_its_on_demand_prices_are_borrowed():
    assert any("us-east-1" in warning for warning in load_catalog().market("eu-west-1").warnings)
    unknown = load_catalog().market("sa-east-1")
    assert any("No spot data" in warning for warning in unknown.warnings)
    assert all(quote.spot is None for quote in unknown.quotes.values())


def test_cards_without_bf16_are_the_turing_and_volta_ones():
    assert {spec.gpu.name for spec in load_catalog() if not spec.gpu.bf16} == {"T4", "V100-16", "V100-32"}


def test_a_snapshot_survives_being_written_and_read():
    snapshot = load_catalog().market()
    assert MarketSnapshot.model_validate_json(snapshot.model_dump_json()) == snapshot


@pytest.mark.parametrize("wrong", [{"on_demand": 0}, {"spot": -1}, {"interruption_bucket": 5}])
def test_an_absurd_quote_does_not_parse(wrong):
    with pytest.raises(ValidationError):
        Quote.model_validate({"on_demand": 100, "certainty": "confirmed", **wrong})
