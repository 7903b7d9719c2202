from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.planner.layouts import SPREADS
from spotune.planner.memory import (
    BUCKET_ELEMENTS,
    CONTEXT_BYTES,
    MOMENT_BYTES,
    estimate_memory,
    host_bytes,
    weight_bytes,
)
from spotune.planner.workload import Layout
from tests.planner.cases import workload_of

GIB = 1024**3
SMALL, LLAMA, MIXTURE = "HuggingFaceTB/SmolLM2-135M", "meta-llama/Llama-3.1-8B", "mistralai/Mixtral-8x7B-v0.1"
METHODS = ("full", "lora", "qlora", "dora", "rslora", "ia3", "prefix", "bottleneck")
ONE = Layout(micro_batch=1, checkpointing=False)


def memory(work, layout=ONE):
    return estimate_memory(work, layout, usable=24 * GIB)


def spread(sharding, gpus=8, *, offload=False, micro_batch=1):
    return Layout(micro_batch, True, gpus=gpus, sharding=sharding, offload=offload)


def test_static_parts_of_lora_are_those_worked_out_by_hand():
    work = workload_of(SMALL)
    trainable = 30 * 16 * (4 * 576 + 2 * (576 + 192) + 2 * (576 + 1536) + (1536 + 576))
    found = memory(work)
    assert work.trainable_parameters == trainable
    assert found.weights == 134_515_008 * 2
    assert found.adapters == trainable * 4
    assert found.gradients == trainable * 4
    assert found.optimizer == trainable * 8
    assert found.sharding == 0


def test_activations_are_what_a_block_saves_times_the_blocks():
    work = workload_of(SMALL, length=100)
    block = 2 * 4 * 576 + 4 * (576 + 192) + 6 * 1536
    adapters = 2 * (5 * 576 + 576 + 1536 + 7 * 16)
    plain, recomputed = memory(work), memory(work, Layout(1, checkpointing=True))
    scale = plain.activations / (100 * 30 * (block + adapters))
    assert 1 <= scale <= 1.3
    assert recomputed.activations == pytest.approx(100 * (30 * 2 * 576 + scale * (block + adapters)))


def test_the_parts_sum_to_the_mid_value_and_the_stated_estimate_is_the_same():
    found = memory(workload_of(LLAMA))
    stated = found.stated()
    assert sum(stated.parts.values()) == stated.mid == pytest.approx(found.mid, abs=8)
    assert stated.p95 == pytest.approx(found.p95, abs=1)
    assert found.counted == found.mid - CONTEXT_BYTES
    assert set(stated.parts) == {
        "weights",
        "adapters",
        "gradients",
        "optimizer",
        "activations",
        "logits",
        "sharding",
        "context",
    }


def test_quantized_llama_3_8b_has_the_published_weight():
    assert weight_bytes(workload_of(LLAMA, "qlora")) == pytest.approx(5.7e9, rel=0.02)


def test_experts_are_not_quantized():
    work = workload_of(MIXTURE, "qlora")
    assert weight_bytes(work) > 2 * work.architecture.experts.parameters


def test_full_training_holds_16_bytes_a_parameter_and_its_16_bit_copy():
    work = workload_of(LLAMA, "full", batch=64)
    found = memory(work)
    states = found.weights + found.gradients + found.optimizer
    assert states == pytest.approx(18 * 8_030_261_248)
    halves = memory(replace(work, master_weights=False))
    assert halves.weights + halves.gradients + halves.optimizer == pytest.approx(8 * 8_030_261_248)


def test_without_accumulation_gradients_hide_behind_activations():
    once, twice = workload_of(SMALL, "full", batch=1), workload_of(SMALL, "full", batch=2)
    assert memory(once).gradients == 0 < memory(twice).gradients
    short = replace(once, sequence_length=16)
    assert 0 < memory(short).gradients < memory(twice).gradients


def test_zero_shards_one_thing_more_at_each_stage():
    work = workload_of(LLAMA, "full")
    ddp, one, two, three, fsdp = (memory(work, spread(name)) for name in ("ddp", "zero1", "zero2", "zero3", "fsdp"))
    assert one.optimizer == two.optimizer == three.optimizer == fsdp.optimizer == ddp.optimizer / 8
    assert (one.gradients, two.gradients) == (ddp.gradients, ddp.gradients / 8)
    assert three.weights < two.weights / 5
    assert fsdp.weights == pytest.approx(4 * 8_030_261_248 / 8)
    assert ddp.sharding == ddp.gradients
    assert one.sharding == BUCKET_ELEMENTS * 4


def test_offloading_moves_states_into_the_hosts_memory():
    work = workload_of(LLAMA, "full")
    kept, offloaded = memory(work, spread("zero3")), memory(work, spread("zero3", offload=True))
    assert offloaded.optimizer == offloaded.gradients == 0
    assert offloaded.mid < kept.mid
    assert host_bytes(work, spread("zero3")) == 0
    whole, states = (host_bytes(work, spread(name, offload=True)) for name in ("zero3", "zero2"))
    assert whole == states + 4 * 8_030_261_248


def test_a_soft_cap_costs_memory_that_grows_with_the_square_of_the_length():
    def extra(length):
        capped = memory(workload_of("google/gemma-2-2b", length=length))
        plain = workload_of("google/gemma-2-2b", length=length)
        plain = replace(plain, architecture=replace(plain.architecture, softcapped=False))
        return capped.activations - memory(plain).activations

    assert extra(2048) == pytest.approx(4 * extra(1024))


works = st.builds(
    workload_of,
    st.sampled_from([SMALL, LLAMA, MIXTURE, "google/gemma-2-9b", "openai-community/gpt2"]),
    st.sampled_from(METHODS),
    length=st.integers(16, 4096),
    batch=st.sampled_from([8, 16, 64]),
)
layouts = st.builds(
    lambda spread, micro, checkpointing: Layout(micro, checkpointing, 8, 1, *spread),
    st.sampled_from(SPREADS[1:]),
    st.integers(1, 8),
    st.booleans(),
)


@given(works, layouts, st.integers(1, 64), st.integers(1, 4096))
def test_more_sequences_or_longer_ones_never_take_less(work, layout, more, longer):
    work = replace(work, global_batch=10**6)
    found = memory(work, layout)
    assert found.mid <= memory(work, replace(layout, micro_batch=layout.micro_batch + more)).mid
    assert found.mid <= memory(replace(work, sequence_length=work.sequence_length + longer), layout).mid
    assert found.mid < found.p95


@given(works, layouts)
def test_each_option_that_saves_memory_saves_memory(work, layout):
    work = replace(work, global_batch=10**6)
    found = memory(work, replace(layout, checkpointing=False)).mid
    assert memory(work, replace(layout, checkpointing=True)).mid <= found
    assert memory(replace(work, fused_cross_entropy=True), replace(layout, checkpointing=False)).mid <= found
    assert memory(replace(work, attention="eager"), replace(layout, checkpointing=False)).mid >= found
    if work.method != "full":
        assert memory(replace(work, precision="fp32"), layout).mid >= memory(work, layout).mid
    assert MOMENT_BYTES["adamw_8bit"] < MOMENT_BYTES["adamw"]
    assert memory(replace(work, optimizer="adamw_8bit"), layout).mid <= memory(work, layout).mid


@given(works.filter(lambda work: work.method not in ("full", "qlora")))
def test_fewer_bits_never_take_more_weight(work):
    plain, eight, four = (weight_bytes(replace(work, quantization=kind)) for kind in ("none", "int8", "nf4"))
    assert plain >= eight >= four


@given(works, st.sampled_from(["zero1", "zero2", "zero3", "fsdp"]), st.sampled_from([(2, 4), (4, 8), (8, 64)]))
def test_more_gpus_never_hold_more_each(work, sharding, counts):
    work = replace(work, global_batch=64 * 64)
    few, many = (memory(work, spread(sharding, gpus)).mid for gpus in counts)
    assert many <= few


@given(works.filter(lambda work: work.method == "full"), st.sampled_from([4, 8, 64]))
def test_the_stages_of_zero_never_hold_more_than_the_one_before(work, gpus):
    work = replace(work, global_batch=64 * 64)
    ddp, one, two, fsdp = (memory(work, spread(name, gpus)).mid for name in ("ddp", "zero1", "zero2", "fsdp"))
    assert two <= one
    assert one <= ddp or work.trainable_parameters < BUCKET_ELEMENTS
    assert fsdp <= two


@given(works, layouts, st.integers(4, 80), st.integers(0, 80))
def test_more_memory_never_makes_a_fitting_layout_unfit(work, layout, less, more):
    tight, roomy = (estimate_memory(work, layout, usable=gib * GIB).fits for gib in (less, less + more))
    assert roomy or not tight
