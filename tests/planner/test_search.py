"""The whole search, with a trainer that can do everything: several GPUs, machines and shardings."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotune.contracts.errors import PlanRefused, RequestRefused
from spotune.contracts.history import Corrections, SpotHistory
from spotune.contracts.market import Quotas
from spotune.planner import load_catalog
from spotune.planner.layouts import Layouts, Machines
from tests.planner.cases import DOLLAR, EVERY_TRAINER, LARGE, ONE_GPU, SMALL, dataset, plan_for, workload_of

SEVENTY = "meta-llama/Llama-3.1-70B-Instruct"
CORPUS = dataset(rows=20_000, mean=700, longest=2000)
SPEND = 100_000 * DOLLAR


def plan(model=LARGE, **request):
    return plan_for(model, training=CORPUS, trainer=EVERY_TRAINER, cap=request.pop("cap", SPEND), **request).plan


def test_a_model_that_no_single_gpu_holds_is_sharded_over_several():
    chosen = plan(SEVENTY, adapter={"type": "full"}).chosen
    assert chosen.gpus > 1
    assert chosen.sharding in ("fsdp", "zero2", "zero3")
    assert chosen.memory.p95 <= chosen.memory.usable
    with pytest.raises(PlanRefused) as refused:
        plan_for(SEVENTY, training=CORPUS, cap=SPEND, adapter={"type": "full"}, trainer=ONE_GPU)
    assert refused.value.code == "model_does_not_fit"


def test_a_short_deadline_is_met_with_more_gpus_at_a_higher_price():
    slow = plan().chosen
    hours = slow.wall_hours.high / 2
    fast = plan(constraints={"finish_within_hours": hours}).chosen
    assert fast.wall_hours.high <= hours
    assert fast.cost.mid > slow.cost.mid


def test_the_global_batch_is_the_same_on_any_number_of_gpus():
    for candidate in (plan().chosen, *plan().alternatives):
        batch = candidate.micro_batch_size * candidate.gradient_accumulation * candidate.gpus
        assert batch == plan_for(LARGE, training=CORPUS).config.optimization.global_batch_size


def test_a_batch_that_cannot_be_shared_out_evenly_rules_machines_out():
    prepared = plan(hyperparameters={"batch_size": 6})
    reasons = {item.instance_type: item.reason for item in prepared.rejections if item.rule == "capability"}
    assert "global batch of 6 cannot be shared out evenly" in reasons["ml.g5.48xlarge"]


def test_the_front_holds_what_nothing_else_beats_in_cost_and_time():
    front = plan().front
    costs, hours = [point.cost.mid for point in front], [point.wall_hours.mid for point in front]
    assert costs == sorted(costs)
    assert hours == sorted(hours, reverse=True)
    assert len(front) >= 4
    assert any(point.instance_type == plan().chosen.instance_type for point in front)


def test_the_front_shows_what_another_deadline_would_buy():
    limited = plan(constraints={"finish_within_hours": plan().chosen.wall_hours.high / 2})
    assert {point.meets for point in limited.front} == {True, False}
    assert limited.front[0].cost.mid < limited.chosen.cost.mid
    assert not limited.front[0].meets


@pytest.mark.parametrize(
    ("model", "method", "machine", "hosts", "sharding", "offload"),
    [
        (LARGE, "qlora", "ml.g5.xlarge", 1, "none", False),
        (LARGE, "qlora", "ml.g5.12xlarge", 1, "ddp", False),
        (LARGE, "lora", "ml.g5.12xlarge", 1, "fsdp", False),
        (LARGE, "full", "ml.g5.12xlarge", 1, "zero3", True),
        (SEVENTY, "qlora", "ml.p4d.24xlarge", 1, "fsdp", False),
        (SEVENTY, "full", "ml.p4d.24xlarge", 2, "zero3", True),
        (LARGE, "full", "ml.p5.48xlarge", 1, "fsdp", False),
        (SEVENTY, "full", "ml.p5.48xlarge", 4, "fsdp", False),
    ],
)
def test_single_gpu_multi_gpu_and_multi_host_configs_are_made_from_the_plan(
    model, method, machine, hosts, sharding, offload
):
    prepared = plan_for(
        model,
        training=CORPUS,
        trainer=EVERY_TRAINER,
        cap=SPEND,
        adapter={"type": method},
        constraints={"instance_types": [machine], "market": "on_demand"},
    )
    chosen, hardware = prepared.plan.chosen, prepared.config.hardware
    assert (chosen.instance_count, hardware.sharding, hardware.offload) == (hosts, sharding, offload)
    assert chosen.gpus == hosts * load_catalog().instances[machine].gpus
    assert prepared.plan.rungs[0].instance_count == hosts
    assert prepared.plan.rungs[0].hardware == hardware
    assert prepared.config.optimization.global_batch_size % (hardware.micro_batch_size * chosen.gpus) == 0


def shares(rung, batch):
    """Each of the rung's types must get whole micro-batches of its share."""
    catalog = load_catalog().instances
    return {
        batch % (rung.hardware.micro_batch_size * rung.instance_count * catalog[name].gpus)
        for name in rung.instance_types
    }


@pytest.mark.parametrize("hours", [1.5, 4, 12, None])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_every_rung_goes_on_from_the_same_checkpoints_with_the_same_global_batch(hours, method):
    constraints = {"finish_within_hours": hours} if hours else {}
    prepared = plan_for(
        LARGE, training=CORPUS, trainer=EVERY_TRAINER, cap=SPEND, adapter={"type": method}, constraints=constraints
    )
    catalog = load_catalog().instances
    for rung in prepared.plan.rungs:
        assert shares(rung, prepared.config.optimization.global_batch_size) == {0}
        if prepared.config.hardware.sharding not in ("none", "ddp"):
            assert {rung.instance_count * catalog[name].gpus for name in rung.instance_types} == {
                prepared.plan.chosen.gpus
            }
            assert rung.hardware.sharding == prepared.config.hardware.sharding


def test_states_that_are_shared_out_are_not_in_8_bit():
    limits = {"constraints": {"instance_types": ["ml.g5.12xlarge"], "market": "on_demand"}}
    free = plan_for(LARGE, training=CORPUS, trainer=EVERY_TRAINER, cap=SPEND, adapter={"type": "lora"}, **limits)
    assert (free.config.hardware.sharding, free.config.optimization.optimizer) == ("fsdp", "adamw")
    alone = plan_for(LARGE, training=CORPUS, trainer=EVERY_TRAINER, cap=SPEND, adapter={"type": "qlora"}, **limits)
    assert (alone.config.hardware.sharding, alone.config.optimization.optimizer) == ("ddp", "paged_adamw_8bit")
    asked = {"optimizer": "paged_adamw_8bit"}
    with pytest.raises(PlanRefused) as refused:
        plan_for(
            LARGE, training=CORPUS, trainer=EVERY_TRAINER, cap=SPEND, adapter={"type": "lora"}, choice=asked, **limits
        )
    assert refused.value.code == "model_does_not_fit"


def test_a_job_that_has_the_whole_model_on_each_gpu_climbs_over_machines_with_any_number_of_them():
    types = ("ml.g6.xlarge", "ml.g6.12xlarge")
    prepared = plan(SMALL, adapter={"type": "lora"}, constraints={"instance_types": types})
    hardware = {name: rung.hardware for rung in prepared.rungs for name in rung.instance_types}
    assert hardware.keys() == set(types)
    assert hardware["ml.g6.12xlarge"].sharding == "ddp"
    assert {rung.hardware.sharding for rung in prepared.rungs if rung.instance_types == ("ml.g6.xlarge",)} == {"none"}


def test_a_quota_that_is_too_small_rejects_and_an_unknown_one_does_not():
    free = plan_for(LARGE, training=CORPUS).plan
    name = free.chosen.instance_type
    market = load_catalog().market()
    none = market.quotes[name].with_(quotas=Quotas(spot=0, on_demand=0))
    prepared = plan_for(LARGE, training=CORPUS, market=market.with_(quotes={**market.quotes, name: none}))
    rejection = next(one for one in prepared.plan.rejections if one.instance_type == name)
    assert prepared.plan.chosen.instance_type != name
    assert rejection.rule == "quota"
    assert f"{name} for spot training job usage is 0, 1 needed" in rejection.reason


def test_a_region_is_chosen_for_its_price_when_the_transfer_is_worth_it():
    home = load_catalog().market()
    cheap = {name: quote.with_(spot=quote.spot and quote.spot // 3) for name, quote in home.quotes.items()}
    far = home.with_(region="us-west-2", quotes=cheap)
    everywhere = plan_for(LARGE, training=CORPUS, markets=(home, far)).plan.chosen
    stay = plan_for(LARGE, training=CORPUS, markets=(home, far), constraints={"regions": ["us-east-1"]}).plan
    assert (everywhere.region, stay.chosen.region) == ("us-west-2", "us-east-1")
    assert everywhere.cost.mid < stay.chosen.cost.mid
    assert any("Your choice of us-east-1 costs" in warning for warning in stay.warnings)
    same = home.with_(region="us-west-2")
    assert plan_for(LARGE, training=CORPUS, markets=(home, same)).plan.chosen.region == "us-east-1"


def test_a_region_without_prices_is_refused():
    with pytest.raises(RequestRefused, match="eu-west-9") as refused:
        plan_for(SMALL, constraints={"regions": ["eu-west-9"]})
    assert refused.value.code == "unknown_region"


def test_what_the_user_fixes_in_memory_is_respected_and_its_price_is_said():
    small_batches = dataset(rows=20_000, mean=700, longest=4000)
    forced = plan_for(LARGE, training=small_batches, cap=SPEND, choice={"gradient_checkpointing": True}).plan
    free = plan_for(LARGE, training=small_batches, cap=SPEND).plan
    assert forced.chosen.gradient_checkpointing
    ratio = forced.chosen.cost.mid / free.chosen.cost.mid
    said = any("Your choice of gradient_checkpointing costs" in warning for warning in forced.warnings)
    assert said == (ratio >= 1.05)


@settings(max_examples=25)
@given(
    budget=st.floats(0.5, 500),
    hours=st.floats(1.5, 200),
    more=st.floats(1, 3),
    model=st.sampled_from([SMALL, LARGE, SEVENTY]),
)
def test_with_every_trainer_more_money_or_time_never_costs_more(budget, hours, more, model):
    def cost(budget, hours):
        try:
            chosen = plan(model, constraints={"budget_usd": budget, "finish_within_hours": hours}).chosen
        except PlanRefused:
            return float("inf")
        assert chosen.worst_case_cost <= budget * DOLLAR
        assert chosen.wall_hours.high <= hours
        assert chosen.memory.p95 <= chosen.memory.usable
        return chosen.cost.mid

    tight = cost(budget, hours)
    assert cost(budget * more, hours) <= tight
    assert cost(budget, hours * more) <= tight


@settings(max_examples=15)
@given(more=st.floats(1, 2), model=st.sampled_from([SMALL, LARGE, SEVENTY]))
def test_more_memory_never_makes_a_fitting_plan_unfit(more, model):
    from spotune.planner.layouts import Layouts, Machines
    from spotune.planner.settings import CHECKPOINTING
    from tests.planner.cases import workload_of

    for spec in load_catalog():
        larger = replace(spec, gpu=replace(spec.gpu, usable_memory=round(spec.gpu.usable_memory * more)))
        work = workload_of(model)
        if work.global_batch % spec.gpus:
            continue
        small, large = (Layouts((work,), CHECKPOINTING, Machines(one, 1), EVERY_TRAINER).best for one in (spec, larger))
        assert len(large) >= len(small)
        for before, after in zip(small, large, strict=False):
            assert after.speed.training.mid >= before.speed.training.mid * 0.98


def test_types_that_interruptions_keep_from_ending_are_rejected_by_name():
    rough = Corrections(
        runs=1,
        spot=tuple(
            SpotHistory(instance_type=spec.instance_type, region="us-east-1", interruptions=1000, hours=1.0)
            for spec in load_catalog()
        ),
    )
    assert plan_for(corrections=rough).plan.chosen.market == "on_demand"
    with pytest.raises(PlanRefused, match="interrupted so often that a run would never end"):
        plan_for(corrections=rough, constraints={"market": "spot"}, trainer=ONE_GPU)
    with pytest.raises(PlanRefused, match="is sure to finish within"):
        plan_for(corrections=rough, constraints={"finish_within_hours": 0.1}, trainer=ONE_GPU)


def test_a_type_that_only_another_region_has_is_rejected_for_its_price():
    home = load_catalog().market()
    name = "ml.g4dn.xlarge"
    bare = home.with_(quotes={one: quote for one, quote in home.quotes.items() if one != name})
    far = home.with_(region="us-west-2")
    plan = plan_for(markets=(bare, far), constraints={"regions": ["us-east-1"]}).plan
    (rejection,) = [one for one in plan.rejections if one.instance_type == name]
    assert (rejection.rule, rejection.reason) == ("market", "no on-demand or spot price is known in us-east-1")


def test_int8_weights_are_not_cut_into_parts():
    def spreads(quantization):
        work = replace(workload_of(LARGE, "qlora"), quantization=quantization, optimizer_open=True)
        machines = Machines(load_catalog().instances["ml.g5.12xlarge"], 1)
        return {sharding for sharding, _ in Layouts((work,), (True,), machines, EVERY_TRAINER)._spreads(work)}

    assert "fsdp" in spreads("nf4")
    assert spreads("int8") == spreads("nf4") - {"fsdp"}
