import pytest

from spotune.contracts.errors import RequestRefused
from spotune.planner import known_config, read_architecture

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
}


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_a_well_known_model_has_its_published_parameter_count(name, parameters):
    assert read_architecture(known_config(name)).parameters == parameters


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
