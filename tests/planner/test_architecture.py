import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.contracts.errors import RequestRefused
from spotune.planner import known_config, known_names, read_architecture

PUBLISHED = {
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "HuggingFaceTB/SmolLM2-1.7B": 1_711_376_384,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.1-70B": 70_553_706_496,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "google/gemma-2-9b-it": 9_241_705_984,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "openai-community/gpt2": 124_439_808,
    "openai-community/gpt2-xl": 1_557_611_200,
    "meta-llama/Llama-2-70b-hf": 68_976_648_192,
    "meta-llama/Llama-3.1-405B": 405_853_388_800,
    "mistralai/Mistral-Nemo-Base-2407": 12_247_782_400,
    "mistralai/Mistral-Small-24B-Base-2501": 23_572_403_200,
    "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
    "mistralai/Mixtral-8x22B-v0.1": 140_620_634_112,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "Qwen/Qwen3-235B-A22B": 235_093_634_560,
    "Qwen/Qwen1.5-MoE-A2.7B": 14_315_784_192,
    "google/gemma-3-1b-it": 999_885_952,
    "google/gemma-3-4b-it": 4_300_079_472,
    "google/gemma-3-27b-it": 27_432_406_640,
    "microsoft/phi-2": 2_779_683_840,
    "tiiuae/falcon-7b": 6_921_720_704,
    "EleutherAI/pythia-6.9b": 6_857_302_016,
    "EleutherAI/pythia-12b": 11_846_072_320,
    "facebook/opt-6.7b": 6_658_473_984,
    "mosaicml/mpt-7b": 6_649_286_656,
    "HuggingFaceTB/SmolLM3-3B": 3_075_098_624,
    "stabilityai/stablelm-3b-4e1t": 2_795_443_200,
    "allenai/OLMo-2-1124-7B": 7_298_617_344,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": 1_777_088_000,
}


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_a_well_known_model_has_its_published_parameter_count(name, parameters):
    assert read_architecture(known_config(name)).parameters == parameters


ACTIVE = {
    "mistralai/Mixtral-8x7B-v0.1": 12.9e9,
    "Qwen/Qwen3-30B-A3B": 3.3e9,
    "Qwen/Qwen1.5-MoE-A2.7B": 2.7e9,
    "allenai/OLMoE-1B-7B-0924": 1.3e9,
}


@pytest.mark.parametrize(("name", "active"), ACTIVE.items())
def test_a_mixture_has_its_published_active_parameters(name, active):
    assert read_architecture(known_config(name)).active_parameters == pytest.approx(active, rel=0.03)


def test_a_dense_model_of_text_is_active_as_a_whole():
    for name in ("meta-llama/Llama-3.1-8B", "openai-community/gpt2"):
        architecture = read_architecture(known_config(name))
        assert architecture.active_parameters == architecture.parameters


def test_experts_are_no_linear_modules_and_so_are_neither_targets_nor_quantized():
    architecture = read_architecture(known_config("mistralai/Mixtral-8x7B-v0.1"))
    assert [linear.name for linear in architecture.targets("all-linear")] == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert architecture.quantizable_parameters == architecture.attention


def test_blocks_named_as_dense_have_no_experts():
    config = known_config("Qwen/Qwen3-30B-A3B")
    dense = read_architecture({**config, "mlp_only_layers": [0, 1]})
    every_second = read_architecture({**config, "decoder_sparse_step": 2})
    assert (dense.experts.layers, every_second.experts.layers) == (46, 24)
    assert {linear.layers for linear in dense.targets(("gate_proj",))} == {2}


def test_every_bundled_name_is_read():
    for name in known_names():
        assert read_architecture(known_config(name)).parameters > 1e7
    assert len(known_names()) == len({name.lower() for name in known_names()}) >= 120


@given(
    config=st.sampled_from([known_config(name) for name in known_names()]),
    data=st.data(),
    wrong=st.one_of(st.none(), st.integers(-3, 0), st.floats(), st.text(max_size=4), st.just([]), st.just({})),
)
def test_a_damaged_config_is_read_or_refused_by_name_and_never_anything_else(config, data, wrong):
    key = data.draw(st.sampled_from(sorted(config)))
    refusal = None
    try:
        assert read_architecture({**config, key: wrong}).parameters > 0
    except RequestRefused as refused:
        refusal = refused
    if refusal is not None:
        assert refusal.code == "unknown_architecture"
        assert key in str(refusal) or key == "model_type"


def test_smollm2_counts_are_those_worked_out_by_hand():
    architecture = read_architecture(known_config("HuggingFaceTB/SmolLM2-135M"))
    attention = 576 * 576 + 2 * 576 * 192 + 576 * 576
    mlp = 3 * 576 * 1536
    assert architecture.embedding == 49152 * 576
    assert architecture.attention == 30 * attention
    assert architecture.mlp == 30 * mlp
    assert architecture.norms == 30 * 2 * 576 + 576
    assert architecture.head == 0
    assert architecture.matmul_parameters == 30 * (attention + mlp) + 49152 * 576


def test_names_are_found_whatever_their_case_and_an_unknown_one_is_none():
    assert known_config("qwen/qwen2.5-7B-INSTRUCT") == known_config("Qwen/Qwen2.5-7B-Instruct")
    assert known_config("nobody/nothing") is None


def test_the_bundled_facts_cannot_be_changed_through_an_answer():
    known_config("openai-community/gpt2")["n_embd"] = 1
    assert known_config("openai-community/gpt2")["n_embd"] == 768


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "has no `model_type`"),
        ({"model_type": "mamba"}, "'mamba'"),
        ({"model_type": "llama", "hidden_size": 64}, "lacks `num_attention_heads`"),
        ({**known_config("Qwen/Qwen3-8B"), "vocab_size": 0}, "vocab_size = 0"),
        ({**known_config("Qwen/Qwen3-8B"), "vocab_size": True}, "vocab_size = True"),
        ({**known_config("Qwen/Qwen3-8B"), "num_hidden_layers": "36"}, "num_hidden_layers = '36'"),
        ({**known_config("Qwen/Qwen3-8B"), "tie_word_embeddings": "no"}, "tie_word_embeddings = 'no'"),
        ({**known_config("facebook/opt-125m"), "word_embed_proj_dim": 512}, "OPT"),
    ],
)
def test_a_config_that_cannot_be_counted_is_refused_saying_what_is_missing(config, said):
    with pytest.raises(RequestRefused, match=said.replace("[", r"\[")) as refused:
        read_architecture(config)
    assert refused.value.code == "unknown_architecture"


def test_targets_are_found_by_kind_or_by_name():
    architecture = read_architecture(known_config("meta-llama/Llama-3.1-8B"))
    assert [linear.name for linear in architecture.targets("attention")] == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert len(architecture.targets("all-linear")) == 7
    assert [linear.name for linear in architecture.targets(("down_proj",))] == ["down_proj"]


def test_an_unknown_target_is_refused_with_those_that_exist():
    with pytest.raises(RequestRefused, match=r"qkv.*Choose among down_proj") as refused:
        read_architecture(known_config("meta-llama/Llama-3.1-8B")).targets(("qkv", "o_proj"))
    assert refused.value.param == "adapter.target_modules"
