from hypothesis import given, settings
from hypothesis import strategies as st

from spotune.contracts.market import Quotas
from spotune.planner import load_catalog
from spotune.planner.market import Fetched, merge

BUNDLED = load_catalog().market()
NOW = BUNDLED.as_of + 3600
NAME = "ml.g5.xlarge"
OLD = BUNDLED.quotes[NAME]


def merged(previous=BUNDLED, now=NOW, **fetched):
    return merge(previous, Fetched(**fetched), now)


def test_a_fresh_price_is_taken_and_is_confirmed_as_of_now():
    found = merged(sagemaker_prices={"ml.g6.8xlarge": 2_600_000})
    quote = found.snapshot.quotes["ml.g6.8xlarge"]
    assert (quote.on_demand, quote.certainty) == (2_600_000, "confirmed")
    assert found.snapshot.as_of == NOW
    assert found.refused == ()


def test_spot_follows_ec2s_discount_and_else_the_advisors():
    by_ec2 = merged(ec2_prices={NAME: 1_000_000}, spot_prices={NAME: 400_000}, advisor={NAME: (10, 2)}).snapshot
    assert by_ec2.quotes[NAME].spot == OLD.on_demand * 4 // 10
    assert by_ec2.spot_as_of == NOW
    by_advisor = merged(advisor={NAME: (10, 2)}).snapshot.quotes[NAME]
    assert (by_advisor.spot, by_advisor.interruption_bucket) == (OLD.on_demand * 9 // 10, 2)


def test_absurd_values_are_refused_and_the_old_ones_stay():
    found = merged(
        sagemaker_prices={NAME: 0, "ml.g5.2xlarge": 10**9},
        ec2_prices={NAME: 1_000_000},
        spot_prices={NAME: 1_000_001},
        advisor={NAME: (150, 9)},
        placement_scores={NAME: 11},
    )
    quote = found.snapshot.quotes[NAME]
    assert (quote.on_demand, quote.spot, quote.interruption_bucket) == (
        OLD.on_demand,
        OLD.spot,
        OLD.interruption_bucket,
    )
    assert quote.placement_score is None
    assert found.snapshot.quotes["ml.g5.2xlarge"] == BUNDLED.quotes["ml.g5.2xlarge"]
    assert len(found.refused) == 6
    assert any("jumped more than tenfold" in words for words in found.refused)
    assert any("above on-demand" in words for words in found.refused)


def test_a_failed_source_keeps_its_values_and_their_age_and_says_so():
    first = merged(quotas={NAME: Quotas(spot=3, on_demand=1)}).snapshot
    week = NOW + 8 * 24 * 3600
    later = merge(first, Fetched(sagemaker_prices={NAME: 1_500_000}, errors={"quotas": "access denied"}), week).snapshot
    source = next(source for source in later.sources if source.name == "quotas")
    assert later.quotes[NAME].quotas.spot == 3
    assert (source.as_of, source.error) == (NOW, "access denied")
    assert "quotas could not be refreshed: access denied." in later.warnings


def test_a_source_that_answers_again_loses_its_error():
    failed = merge(BUNDLED, Fetched(errors={"advisor": "no answer"}), NOW).snapshot
    mended = merge(failed, Fetched(advisor={NAME: (50, 1)}), NOW + 60).snapshot
    assert next(source for source in mended.sources if source.name == "advisor").error == ""


prices = st.dictionaries(st.sampled_from(sorted(BUNDLED.quotes)), st.integers(-(10**9), 10**9), max_size=6)


@settings(max_examples=150)
@given(
    sagemaker=prices,
    ec2=prices,
    spot=prices,
    advisor=st.dictionaries(
        st.sampled_from(sorted(BUNDLED.quotes)), st.tuples(st.integers(-50, 200), st.integers(-2, 8)), max_size=6
    ),
    scores=st.dictionaries(st.sampled_from(sorted(BUNDLED.quotes)), st.integers(-2, 20), max_size=6),
)
def test_whatever_is_fetched_spot_is_never_above_on_demand_and_no_price_jumps(sagemaker, ec2, spot, advisor, scores):
    found = merged(
        sagemaker_prices=sagemaker, ec2_prices=ec2, spot_prices=spot, advisor=advisor, placement_scores=scores
    ).snapshot
    for name, quote in found.quotes.items():
        old = BUNDLED.quotes[name]
        assert quote.spot is None or 0 < quote.spot <= quote.on_demand
        assert (quote.on_demand is None) <= (old.on_demand is None)
        if old.on_demand is not None:
            assert old.on_demand / 10 <= quote.on_demand <= old.on_demand * 10
        assert quote.placement_score is None or 1 <= quote.placement_score <= 10
        assert quote.interruption_bucket is None or 0 <= quote.interruption_bucket <= 4
