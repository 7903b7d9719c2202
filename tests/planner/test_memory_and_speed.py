import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.planner import known_config, load_catalog, read_architecture
from spotune.planner.memory import CONTEXT_BYTES, estimate_memory
from spotune.planner.throughput import estimate_speed, flops_per_token
from spotune.planner.workload import Layout, Workload

GIB, GB = 1024**3, 1e9
GPUS = {spec.gpu.name: spec.gpu for spec in load_catalog()}
QWEN_7B = {
    "model_type": "qwen2",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 151936,
    "max_position_embeddings": 8192,
}
"""The first Qwen has the shape of the second with full attention heads."""


def work(config, method="lora", *, rank=16, targets="all-linear", length=512, optimizer="adamw"):
    architecture = read_architecture(config if isinstance(config, dict) else known_config(config))
    return Workload(
        architecture=architecture,
        method=method,
        targets=architecture.targets(targets),
        rank=rank,
        optimizer=optimizer,
        quantization="nf4" if method == "qlora" else "none",
        sequence_length=length,
        typical_length=length,
        global_batch=8,
    )


def memory(workload, *, micro_batch=1, checkpointing=False):
    return estimate_memory(workload, Layout(micro_batch, checkpointing), usable=24 * GIB)


def test_lora_memory_is_the_sum_worked_out_by_hand():
    estimate = memory(work("HuggingFaceTB/SmolLM2-135M", targets="attention", rank=8, length=100), checkpointing=True)
    trainable = 30 * 8 * ((576 + 576) + 2 * (576 + 192) + (576 + 576))
    assert estimate.parts == {
        "weights": 134_515_008 * 2,
        "adapters": trainable * 4,
        "gradients": trainable * 4,
        "optimizer": trainable * 8,
        "activations": 100 * (2 * 576 * 30 + 20 * 576 + 13056),
        "logits": 100 * 49152 * 12,
        "context": CONTEXT_BYTES,
    }
    assert estimate.mid == sum(estimate.parts.values()) < estimate.p95


def test_quantized_llama_3_8b_has_the_published_weight():
    parts = memory(work("meta-llama/Llama-3.1-8B", "qlora")).parts
    assert parts["weights"] == pytest.approx(5.7e9, rel=0.02)


def test_activations_of_swiglu_models_are_in_the_published_band():
    estimate = memory(work("meta-llama/Llama-2-7b-hf", length=1))
    assert 42 <= estimate.parts["activations"] / (4096 * 32) <= 45


MEASURED_MEMORY = [
    ("Qwen-7B LoRA r64, 256 tokens", work(QWEN_7B, rank=64, length=256), 1, True, 20.1 * GB),
    ("Qwen-7B LoRA r64, 1024 tokens", work(QWEN_7B, rank=64, length=1024), 1, True, 21.5 * GB),
    ("Qwen-7B LoRA r64, 2048 tokens", work(QWEN_7B, rank=64, length=2048), 1, True, 23.8 * GB),
    (
        "litgpt, Llama 2 7B LoRA",
        work("meta-llama/Llama-2-7b-hf", rank=8, targets=("q_proj", "v_proj"), length=1304),
        2,
        False,
        29.07 * GB,
    ),
    (
        "litgpt, Llama 2 13B QLoRA",
        work("meta-llama/Llama-2-13b-hf", "qlora", rank=8, targets=("q_proj", "v_proj"), length=1304),
        1,
        False,
        22.55 * GB,
    ),
    ("PEFT, Llama 3.2 3B LoRA r64", work("meta-llama/Llama-3.2-3B", rank=64, length=768), 4, False, 21.0 * GIB),
]


@pytest.mark.parametrize(("name", "workload", "micro", "checkpointing", "peak"), MEASURED_MEMORY)
def test_memory_is_near_published_peaks_and_its_upper_value_covers_them(name, workload, micro, checkpointing, peak):
    estimate = memory(workload, micro_batch=micro, checkpointing=checkpointing)
    assert peak <= estimate.p95
    assert estimate.mid <= peak * 1.6


def test_a_soft_cap_costs_memory_that_grows_with_the_square_of_the_length():
    capped, plain = (
        {**known_config("google/gemma-2-2b"), "model_type": family, "head_dim": 256} for family in ("gemma2", "gemma")
    )

    def extra(length):
        parts = [memory(work(config, length=length)).parts for config in (capped, plain)]
        return parts[0]["activations"] - parts[1]["activations"]

    assert extra(2048) == pytest.approx(4 * extra(1024))


MEASURED_SPEED = [
    ("Qwen-7B LoRA", work(QWEN_7B, rank=64, length=256), "A100-80", 1, True, 1707),
    ("Qwen-7B LoRA", work(QWEN_7B, rank=64, length=2048), "A100-80", 1, True, 3151),
    ("PEFT, Llama 3.2 3B LoRA", work("meta-llama/Llama-3.2-3B", rank=64, length=210), "L40S", 4, False, 7062),
]


@pytest.mark.parametrize(("name", "workload", "gpu", "micro", "checkpointing", "tokens"), MEASURED_SPEED)
def test_published_speeds_lie_within_the_interval(name, workload, gpu, micro, checkpointing, tokens):
    speed = estimate_speed(workload, Layout(micro, checkpointing), GPUS[gpu])
    assert speed.training.low <= tokens <= speed.training.high


@pytest.mark.parametrize(
    ("method", "checkpointing", "times"),
    [("full", False, 6), ("full", True, 8), ("lora", False, 4), ("qlora", True, 6)],
)
def test_flops_a_token_are_the_usual_multiples_of_the_parameters(method, checkpointing, times):
    short = work("meta-llama/Llama-3.1-8B", method, length=1)
    flops = flops_per_token(short, checkpointing=checkpointing)
    assert flops == pytest.approx(times * short.architecture.matmul_parameters, rel=0.001)


def test_quantized_training_is_slower_and_most_so_at_short_sequences():
    def ratio(length):
        pair = [
            estimate_speed(work("meta-llama/Llama-3.1-8B", method, length=length), Layout(1, True), GPUS["A100-80"])
            for method in ("qlora", "lora")
        ]
        return pair[0].training.mid / pair[1].training.mid

    assert ratio(256) < ratio(4096) < 1


@given(
    micro=st.integers(1, 32),
    more=st.integers(1, 32),
    method=st.sampled_from(["lora", "qlora", "full"]),
    length=st.integers(16, 4096),
)
def test_memory_grows_with_the_micro_batch_and_shrinks_with_checkpointing(micro, more, method, length):
    workload = work("Qwen/Qwen2.5-0.5B", method, length=length)
    small = memory(workload, micro_batch=micro)
    assert small.p95 < memory(workload, micro_batch=micro + more).p95
    assert memory(workload, micro_batch=micro, checkpointing=True).p95 < small.p95


@given(micro=st.integers(1, 32), length=st.integers(16, 4096), checkpointing=st.booleans())
def test_larger_micro_batches_are_never_slower(micro, length, checkpointing):
    workload = work("Qwen/Qwen2.5-0.5B", length=length)
    one, two = (
        estimate_speed(workload, Layout(size, checkpointing), GPUS["L4"]).training.mid for size in (micro, 2 * micro)
    )
    assert two >= one * 0.999999


@given(less=st.integers(4, 80), more=st.integers(0, 80), micro=st.integers(1, 8), checkpointing=st.booleans())
def test_more_memory_never_makes_a_fitting_configuration_unfit(less, more, micro, checkpointing):
    fits = []
    for gib in (less, less + more):
        estimate = estimate_memory(work("Qwen/Qwen2.5-1.5B"), Layout(micro, checkpointing), usable=gib * GIB)
        fits.append(estimate.p95 <= estimate.usable)
    assert fits != [True, False]
