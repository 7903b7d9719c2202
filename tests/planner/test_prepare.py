import dataclasses
import importlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotune.contracts.errors import PlanRefused, RequestRefused
from spotune.contracts.market import Quotas
from spotune.contracts.money import longest_runtime
from spotune.planner import Done, load_catalog
from tests.planner.cases import DOLLAR, LARGE, NOW, ONE_GPU, SMALL, dataset, plan_for

WEEK = 7 * 24 * 3600
MODELS = (SMALL, "Qwen/Qwen2.5-1.5B-Instruct", LARGE, "google/gemma-2-9b-it", "Qwen/Qwen2.5-32B-Instruct")
HOUSE = dataset(rows=3000, mean=400, longest=1000)


def change_quote(name, **changes):
    """The bundled market with one type's quote changed."""
    market = load_catalog().market()
    return market.with_(quotes={**market.quotes, name: market.quotes[name].with_(**changes)})


def rejection(prepared, name):
    return next(item for item in prepared.plan.rejections if item.instance_type == name)


def test_a_small_model_goes_to_the_cheapest_spot_gpu():
    plan = plan_for().plan
    assert (plan.chosen.instance_type, plan.chosen.market) == ("ml.g4dn.xlarge", "spot")
    assert plan.chosen.price == 265_104
    assert plan.chosen.precision == "fp16"
    assert any("no bf16" in warning for warning in plan.warnings)


def test_every_other_type_is_rejected_once_with_a_reason():
    prepared = plan_for(LARGE, training=HOUSE)
    rejected = [item.instance_type for item in prepared.plan.rejections]
    assert sorted([*rejected, prepared.plan.chosen.instance_type]) == sorted(load_catalog().instances)
    assert rejection(prepared, "ml.p4d.24xlarge").rule == "cost"
    assert rejection(prepared, "ml.p5.4xlarge").rule == "cost"
    assert re.search(r"\d\.\d\dx the chosen", rejection(prepared, "ml.p5.4xlarge").reason)


def test_memory_rejects_with_what_is_needed_and_what_there_is():
    prepared = plan_for("Qwen/Qwen2.5-32B-Instruct", training=HOUSE)
    assert rejection(prepared, "ml.g5.xlarge").rule == "memory"
    assert re.search(r"qlora.* needs up to [\d.]+ GiB .* A10G has 22.4", rejection(prepared, "ml.g5.xlarge").reason)


def test_quantization_is_chosen_only_where_it_is_the_cheaper_way_to_fit():
    assert plan_for(SMALL).config.method == "lora"
    assert plan_for("Qwen/Qwen2.5-32B-Instruct", training=HOUSE).config.method == "qlora"


def test_a_family_that_overflows_fp16_gets_no_card_without_bf16():
    prepared = plan_for("google/gemma-2-2b-it")
    assert prepared.plan.chosen.precision == "bf16"
    assert rejection(prepared, "ml.g4dn.xlarge").rule == "capability"


def test_the_forecast_of_cost_is_price_times_billed_hours():
    chosen = plan_for(LARGE, training=HOUSE).plan.chosen
    assert chosen.cost.mid == pytest.approx(chosen.price * chosen.billed_hours.mid)
    assert chosen.memory.p95 <= chosen.memory.usable
    assert (
        chosen.micro_batch_size * chosen.gradient_accumulation
        == plan_for(LARGE, training=HOUSE).config.optimization.global_batch_size
    )


def test_the_time_limit_comes_from_the_cap_and_not_from_the_forecast():
    prepared = plan_for(cap=5 * DOLLAR)
    limit = prepared.config.limits.max_runtime_seconds
    assert limit == longest_runtime(prepared.plan.on_demand_price, 1, 5 * DOLLAR)
    assert limit > 20 * prepared.plan.chosen.billed_hours.high * 3600
    assert prepared.plan.chosen.worst_case_cost <= 5 * DOLLAR


def test_the_time_limit_ends_at_the_deadline_and_at_28_days():
    assert plan_for(constraints={"finish_within_hours": 3}).config.limits.max_runtime_seconds == 3 * 3600
    assert plan_for(cap=10**12).config.limits.max_runtime_seconds == 28 * 24 * 3600


def test_the_requests_budget_holds_under_a_larger_cap():
    prepared = plan_for(cap=500 * DOLLAR, constraints={"budget_usd": 2})
    assert prepared.plan.chosen.worst_case_cost <= 2 * DOLLAR


def test_the_publication_reserve_grows_with_the_model_within_a_minute_and_ten():
    reserves = [plan_for(model, training=HOUSE).config.limits.publication_reserve_seconds for model in MODELS]
    assert reserves == sorted(reserves)
    assert 60 <= reserves[0] < reserves[-1] == 600


def test_the_save_interval_of_the_config_is_the_plans():
    prepared = plan_for(LARGE, training=HOUSE)
    assert prepared.config.checkpoint.interval_seconds == prepared.plan.chosen.save_interval
    assert 120 <= prepared.plan.chosen.save_interval <= 1810


def test_the_ladder_tries_spot_types_and_ends_on_demand():
    rungs = plan_for(LARGE, training=HOUSE).plan.rungs
    assert [rung.market for rung in rungs] == ["spot", "spot", "spot", "on_demand"]
    assert len({rung.instance_types for rung in rungs[:-1]}) == 3
    assert 1 <= len(rungs[-1].instance_types) <= 5
    prices = {name: load_catalog().instances[name].on_demand for name in rungs[-1].instance_types}
    assert rungs[-1].price == max(prices.values())


@pytest.mark.parametrize("hours", [1.8, 2, 5, 24])
def test_spot_patience_leaves_time_for_on_demand_before_the_deadline(hours):
    plan = plan_for(constraints={"finish_within_hours": hours}).plan
    *spot, last = plan.rungs
    assert last.market == "on_demand"
    waited = sum(rung.patience for rung in spot)
    on_demand = plan_for(constraints={"market": "on_demand", "instance_types": last.instance_types}).plan.chosen
    assert waited / 3600 + on_demand.wall_hours.high <= hours + 0.001
    assert waited <= plan.fallback.by - NOW


def test_the_last_spot_rung_waits_for_what_a_far_deadline_leaves():
    plan = plan_for(LARGE, training=HOUSE, constraints={"finish_within_hours": 48}).plan
    *spot, _ = plan.rungs
    assert [rung.patience for rung in spot[:-1]] == [1800] * (len(spot) - 1)
    assert spot[-1].patience > 1800
    assert plan.chosen.on_time_probability > 0.95


def test_without_a_deadline_there_is_no_last_safe_moment():
    plan = plan_for().plan
    assert plan.fallback is None
    assert plan.chosen.on_time_probability is None
    assert {rung.patience for rung in plan.rungs[:-1]} == {1800}


def test_a_deadline_is_met_with_the_confidence_that_was_asked_for():
    spot = plan_for(constraints={"market": "spot"}).plan.chosen
    tight = {
        "market": "spot",
        "instance_types": [spot.instance_type],
        "finish_within_hours": spot.wall_hours.high * 0.98,
    }
    with pytest.raises(PlanRefused, match="is sure to finish within"):
        plan_for(constraints=tight)
    relaxed = plan_for(constraints={**tight, "deadline_confidence": 0.6}).plan
    assert 0.6 <= relaxed.chosen.on_time_probability < 0.95
    assert relaxed.confidence == 0.6


def test_a_market_that_the_user_fixes_is_the_only_one_in_the_ladder():
    spot = plan_for(constraints={"market": "spot"}).plan
    assert {rung.market for rung in spot.rungs} == {"spot"}
    on_demand = plan_for(constraints={"market": "on_demand"}).plan
    assert [rung.market for rung in on_demand.rungs] == ["on_demand"]
    assert on_demand.chosen.market == "on_demand"
    assert any("Your choice of on-demand costs" in warning for warning in on_demand.warnings)


def test_a_budget_that_holds_only_while_the_discount_does_is_refused():
    forecast = plan_for(LARGE, training=HOUSE, constraints={"market": "spot"}).plan.chosen
    with pytest.raises(PlanRefused) as refused:
        plan_for(LARGE, training=HOUSE, cap=round(forecast.cost.high * 1.1))
    assert refused.value.code == "budget_too_small"


def test_a_plan_without_an_on_demand_rung_keeps_to_spot_as_asked():
    plan = plan_for(LARGE, training=HOUSE, constraints={"market": "spot"}).plan
    assert {rung.market for rung in plan.rungs} == {"spot"}
    assert not any("No on-demand rung" in warning for warning in plan.warnings)


def test_a_users_type_is_respected_and_priced_against_the_cheapest():
    prepared = plan_for(constraints={"instance_types": ["ml.p5.4xlarge"]})
    assert prepared.plan.chosen.instance_type == "ml.p5.4xlarge"
    assert any(
        re.match(r"Your choice of ml\.p5\.4xlarge costs \d+\.\dx", warning) for warning in prepared.plan.warnings
    )
    assert rejection(prepared, "ml.g5.xlarge").rule == "not_allowed"


def test_old_prices_are_said_to_be_old_and_fresh_ones_are_not():
    old = plan_for(now=NOW + 2 * WEEK)
    assert any("On-demand prices are 14 days old" in warning for warning in old.plan.warnings)
    assert any("Spot savings" in warning for warning in old.plan.warnings)
    fresh = load_catalog().market().with_(as_of=NOW, spot_as_of=NOW)
    assert not any("days old" in warning for warning in plan_for(now=NOW + 3600, market=fresh).plan.warnings)
    assert plan_for(now=NOW, market=fresh).plan.market_as_of == NOW


def test_a_price_that_was_computed_is_said_to_be_unconfirmed():
    prepared = plan_for(constraints={"instance_types": ["ml.g6e.xlarge"]})
    assert any("not confirmed" in warning for warning in prepared.plan.warnings)


def test_prices_come_from_the_snapshot_that_is_given():
    dear = change_quote("ml.g4dn.xlarge", on_demand=90 * DOLLAR, spot=80 * DOLLAR)
    assert plan_for(market=dear).plan.chosen.instance_type != "ml.g4dn.xlarge"


def test_a_budget_that_nothing_meets_names_the_cheapest_that_would_do_and_it_does():
    with pytest.raises(PlanRefused) as refused:
        plan_for(LARGE, training=HOUSE, constraints={"budget_usd": 0.01})
    cheapest = refused.value.details["cheapest"]
    assert refused.value.code == "budget_too_small"
    assert refused.value.param == "constraints.budget_usd"
    assert cheapest["instance_type"] in str(refused.value)
    assert plan_for(LARGE, training=HOUSE, constraints={"budget_usd": cheapest["needed_budget_usd"]})


def test_a_deadline_that_nothing_meets_names_the_fastest_that_would_do_and_it_does():
    with pytest.raises(PlanRefused) as refused:
        plan_for(LARGE, training=HOUSE, constraints={"finish_within_hours": 0.2})
    fastest = refused.value.details["fastest"]
    assert refused.value.code == "deadline_too_short"
    assert plan_for(LARGE, training=HOUSE, constraints={"finish_within_hours": fastest["needed_hours"]})


def test_where_both_are_too_tight_both_are_said():
    with pytest.raises(PlanRefused) as refused:
        plan_for(LARGE, training=HOUSE, constraints={"finish_within_hours": 0.2, "budget_usd": 0.01})
    assert refused.value.code == "constraints_unmet"
    assert {"cheapest", "fastest"} <= set(refused.value.details)


def test_a_model_that_fits_nowhere_gets_the_nearest_miss_and_what_would_help():
    with pytest.raises(PlanRefused, match=r"nearest is ml\..*lora needs up to") as refused:
        plan_for("meta-llama/Llama-3.3-70B-Instruct", training=HOUSE, adapter={"type": "lora"}, trainer=ONE_GPU)
    assert refused.value.code == "model_does_not_fit"
    assert "qlora" in refused.value.remedy


def test_types_with_several_gpus_alone_leave_no_candidate():
    with pytest.raises(PlanRefused, match="one GPU at present") as refused:
        plan_for(constraints={"instance_types": ["ml.p4d.24xlarge"]}, trainer=ONE_GPU)
    assert refused.value.code == "no_candidate"


def test_spot_of_a_type_without_spot_prices_is_refused():
    with pytest.raises(PlanRefused, match="no spot price is known in us-east-1"):
        plan_for(constraints={"instance_types": ["ml.p5.4xlarge"], "market": "spot"})


def test_an_unknown_type_is_refused_with_near_ones():
    with pytest.raises(RequestRefused, match=r"Did you mean .*ml\.g5\.2xlarge") as refused:
        plan_for(constraints={"instance_types": ["ml.g5.2xlrage"]})
    assert refused.value.code == "unknown_instance_type"


def test_an_unknown_architecture_is_refused():
    with pytest.raises(RequestRefused) as refused:
        plan_for(config={"model_type": "mixtral"})
    assert refused.value.code == "unknown_architecture"


def test_an_empty_market_leaves_no_candidate():
    with pytest.raises(PlanRefused) as refused:
        plan_for(market=load_catalog().market().with_(quotes={}))
    assert refused.value.code == "no_candidate"


requests = st.fixed_dictionaries(
    {},
    optional={
        "budget_usd": st.floats(0.05, 200),
        "finish_within_hours": st.floats(0.5, 48),
        "market": st.sampled_from(["auto", "spot", "on_demand"]),
        "instance_types": st.lists(st.sampled_from(sorted(load_catalog().instances)), min_size=1, max_size=12),
    },
)


def attempt(model, constraints, **more):
    try:
        return plan_for(model, training=HOUSE, constraints=constraints, **more)
    except PlanRefused:
        return None


@settings(max_examples=60)
@given(model=st.sampled_from(MODELS), constraints=requests)
def test_every_chosen_plan_satisfies_every_constraint(model, constraints):
    prepared = attempt(model, constraints)
    if prepared is None:
        return
    for candidate in (prepared.plan.chosen, *prepared.plan.alternatives):
        assert candidate.memory.p95 <= candidate.memory.usable
        assert candidate.worst_case_cost <= constraints.get("budget_usd", 1000) * DOLLAR + 1
        assert candidate.cost.mid <= constraints.get("budget_usd", 1000) * DOLLAR
        assert candidate.wall_hours.high <= constraints.get("finish_within_hours", 1e9)
        assert candidate.instance_type in constraints.get("instance_types", load_catalog().instances)
        assert constraints.get("market", "auto") in ("auto", candidate.market)
    allowed = constraints.get("instance_types", load_catalog().instances)
    assert all(name in allowed for rung in prepared.plan.rungs for name in rung.instance_types)
    assert prepared.plan.rungs[0].instance_types[0] == prepared.plan.chosen.instance_type
    assert all(prepared.plan.chosen.cost.mid <= candidate.cost.mid for candidate in prepared.plan.alternatives)


@settings(max_examples=40)
@given(
    model=st.sampled_from(MODELS),
    constraints=requests,
    more_money=st.floats(1, 10),
    more_time=st.floats(1, 10),
)
def test_more_money_or_time_never_refuses_and_never_costs_more(model, constraints, more_money, more_time):
    tight = attempt(model, constraints)
    looser = dict(constraints)
    if "budget_usd" in looser:
        looser["budget_usd"] *= more_money
    if "finish_within_hours" in looser:
        looser["finish_within_hours"] *= more_time
    loose = attempt(model, looser)
    if tight is not None:
        assert loose is not None
        assert loose.plan.chosen.cost.mid <= tight.plan.chosen.cost.mid


@settings(max_examples=40)
@given(
    model=st.sampled_from(MODELS),
    name=st.sampled_from(["ml.g4dn.xlarge", "ml.g5.xlarge", "ml.g6e.2xlarge"]),
    factor=st.floats(1, 20),
    bucket=st.integers(0, 4),
)
def test_dearer_or_rougher_markets_never_lower_the_chosen_cost(model, name, factor, bucket):
    market = load_catalog().market()
    quote = market.quotes[name]
    worse = change_quote(
        name, spot=int(quote.spot * factor), interruption_bucket=max(bucket, quote.interruption_bucket)
    )
    before = plan_for(model, training=HOUSE, market=market).plan.chosen
    after = plan_for(model, training=HOUSE, market=worse).plan.chosen
    assert after.cost.mid >= before.cost.mid * (1 - 1e-4)


def test_a_market_without_prices_says_so_and_how_to_get_them():
    with pytest.raises(PlanRefused) as refused:
        plan_for(market=load_catalog().market().with_(quotes={}))
    assert "No instance type can be used" in str(refused.value)
    assert "no on-demand or spot price is known in us-east-1" in str(refused.value)
    assert "Refresh the market" in refused.value.remedy


def test_a_quota_of_nothing_names_the_quota():
    market = load_catalog().market()
    none = Quotas(spot=0, on_demand=0)
    quotes = {name: quote.with_(quotas=none) for name, quote in market.quotes.items()}
    with pytest.raises(PlanRefused) as refused:
        plan_for(market=market.with_(quotes=quotes))
    assert "training job usage is 0, 1 needed" in str(refused.value)
    assert "Service Quotas" in refused.value.remedy


def test_an_empty_catalog_is_a_refusal(monkeypatch):
    module = importlib.import_module("spotune.planner.prepare")
    empty = dataclasses.replace(load_catalog(), instances={})
    monkeypatch.setattr(module, "load_catalog", lambda: empty)
    with pytest.raises(PlanRefused, match="The catalog is empty"):
        plan_for()


@given(share=st.floats(0, 1), scored=st.booleans())
@settings(max_examples=30)
def test_what_is_done_already_is_not_paid_again_and_changes_nothing_that_is_learnt(share, scored):
    """The method has to be given: the search may prefer another one for a shorter run."""
    lora = {"type": "lora"}
    whole = plan_for(LARGE, training=HOUSE, adapter=lora)
    rest = plan_for(LARGE, training=HOUSE, adapter=lora, done=Done(share=share, base_scored=scored))
    assert rest.plan.chosen.cost.mid <= whole.plan.chosen.cost.mid
    assert rest.config.optimization == whole.config.optimization


def test_a_run_of_which_all_steps_are_done_still_starts_scores_and_publishes():
    chosen = plan_for(LARGE, training=HOUSE, done=Done(share=1.0, base_scored=True)).plan.chosen
    assert chosen.billed_hours.mid * 3600 > chosen.start_seconds + 60


def test_half_of_the_steps_take_half_of_the_training_time():
    choice = {"constraints": {"instance_types": ["ml.g5.xlarge"], "market": "on_demand"}}
    hours = [
        plan_for(LARGE, training=HOUSE, done=Done(share=share, base_scored=True), **choice).plan.chosen.billed_hours.mid
        for share in (0.0, 0.25, 0.5)
    ]
    assert hours[0] - hours[1] == pytest.approx(hours[1] - hours[2], rel=0.02)


def test_a_deadline_that_the_whole_run_misses_is_met_by_the_rest():
    constraints = {"finish_within_hours": 3}
    with pytest.raises(PlanRefused):
        plan_for(LARGE, training=HOUSE, constraints={**constraints, "instance_types": ["ml.g5.xlarge"]})
    rest = plan_for(
        LARGE,
        training=HOUSE,
        constraints={**constraints, "instance_types": ["ml.g5.xlarge"]},
        done=Done(share=0.9, base_scored=True),
    )
    assert rest.plan.chosen.instance_type == "ml.g5.xlarge"
