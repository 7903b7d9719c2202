from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.planner import load_catalog
from spotune.planner.throughput import ATTENTION_COST, estimate_speed, flops_per_token
from spotune.planner.workload import Layout
from tests.planner.cases import workload_of

GPUS = {spec.gpu.name: spec.gpu for spec in load_catalog()}
SMALL, LLAMA = "Qwen/Qwen2.5-0.5B", "meta-llama/Llama-3.1-8B"


def speed(work, layout=None, gpu="A100-80", *, link=300e9, network=50e9):
    return estimate_speed(work, layout or Layout(1, True), GPUS[gpu], link=link, network=network).training.mid


@pytest.mark.parametrize(
    ("method", "checkpointing", "times"),
    [("full", False, 6), ("full", True, 8), ("lora", False, 4), ("qlora", True, 6)],
)
def test_flops_a_token_are_the_usual_multiples_of_the_parameters(method, checkpointing, times):
    work = workload_of(LLAMA, method, length=1)
    flops = flops_per_token(work, checkpointing=checkpointing)
    assert flops == pytest.approx(times * work.architecture.matmul_parameters, rel=0.001)


def test_attention_adds_operations_in_proportion_to_the_length():
    short, long = (workload_of(LLAMA, length=length) for length in (1000, 3000))
    added = flops_per_token(long, checkpointing=False) - flops_per_token(short, checkpointing=False)
    assert added == pytest.approx(2 * 2 * ATTENTION_COST * 32 * 4096 * 2000)


def test_a_mixture_is_as_fast_as_its_active_parameters():
    mixture, dense = workload_of("Qwen/Qwen3-30B-A3B"), workload_of("Qwen/Qwen3-32B")
    assert speed(mixture, Layout(8, True)) > 3 * speed(dense, Layout(8, True))


def test_quantized_training_is_slower_and_most_so_at_short_sequences():
    def ratio(length):
        return speed(workload_of(LLAMA, "qlora", length=length)) / speed(workload_of(LLAMA, length=length))

    assert ratio(256) < ratio(4096) < 1


def test_fp32_and_eager_attention_are_slower():
    work = workload_of(LLAMA)
    assert speed(replace(work, precision="fp32")) < speed(work) / 3
    assert speed(replace(work, attention="eager")) < speed(work)


def test_the_interval_holds_the_mid_value_and_a_forward_pass_alone_is_faster():
    found = estimate_speed(workload_of(LLAMA), Layout(1, False), GPUS["A10G"])
    assert found.training.low < found.training.mid < found.training.high < found.forward * 2
    assert found.forward > found.training.mid


def test_offloading_and_gathering_cost_time():
    work = workload_of(LLAMA, "full")
    layouts = {name: Layout(1, True, 8, 1, name) for name in ("ddp", "zero2", "zero3", "fsdp")}
    found = {name: speed(work, layout, link=12e9) for name, layout in layouts.items()}
    assert found["zero3"] < found["fsdp"] < found["zero2"]
    assert speed(work, replace(layouts["zero3"], offload=True), link=12e9) < found["zero3"]


works = st.builds(
    workload_of,
    st.sampled_from([SMALL, LLAMA]),
    st.sampled_from(["full", "lora", "qlora", "dora"]),
    length=st.integers(16, 4096),
    batch=st.just(64),
)


@given(works, st.sampled_from([1, 2, 4]), st.booleans(), st.sampled_from(sorted(GPUS)))
def test_larger_micro_batches_are_never_slower(work, micro, checkpointing, gpu):
    one, two = (speed(work, Layout(size, checkpointing), gpu) for size in (micro, 2 * micro))
    assert two >= one * 0.999999


@given(works, st.sampled_from(["ddp", "zero1", "zero2", "zero3", "fsdp"]), st.floats(1e9, 1e12), st.floats(1, 10))
def test_a_faster_link_never_slows_training(work, sharding, link, factor):
    layout = Layout(1, True, 8, 1, sharding)
    assert speed(work, layout, link=link * factor) >= speed(work, layout, link=link) * 0.999999


@given(works, st.sampled_from(["ddp", "fsdp"]), st.floats(1e9, 1e12))
def test_a_network_between_machines_never_speeds_training(work, sharding, network):
    together, apart = (Layout(1, True, 8, hosts, sharding) for hosts in (1, 2))
    assert speed(work, apart, network=network) <= speed(work, together) * 1.000001


@given(works, st.sampled_from([1, 2, 4]))
def test_more_gpus_are_faster_but_never_more_than_in_proportion(work, gpus):
    one, more = (speed(work, Layout(1, True, count, 1, "ddp" if count > 1 else "none")) for count in (gpus, 2 * gpus))
    assert more <= 2 * one * 1.000001
