"""A GGUF file is read back by transformers, which knows nothing of how it was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from gguf import GGUFReader
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from spotune.contracts.errors import RequestRefused
from spotune.contracts.request import GGUFType
from spotune.data.cutting import PATTERNS, cut_of
from tests.training_container.building import SPECIAL
from training_container.publication.gguf_file import load_gguf, write_gguf
from training_container.publication.probe import difference

pytestmark = pytest.mark.torch

CPU = torch.device("cpu")
IDS = torch.arange(0, 250, 7)[None]
GROUPED = {"num_attention_heads": 4, "num_key_value_heads": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "llama of one head a group": {"num_attention_heads": 4, "num_key_value_heads": 4},
    "llama untied, other theta": {**GROUPED, "tie_word_embeddings": False, "rope_theta": 500000.0},
    "mistral": {**GROUPED, "sliding_window": None, "tie_word_embeddings": False},
    "qwen2": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 128},
}
TEXTS = ["What is 12345 + 6?", "  Whatever\n\n\tWhat's  it?", "naïve – 你好 🙂", "<|im_start|>user\nWhat<|im_end|>\n"]


@pytest.fixture
def made(tmp_path: Path, model: Path) -> Callable[..., Path]:
    """A random model of a family with the tiny tokenizer."""

    def make(family: str) -> Path:
        folder = tmp_path / "source"
        shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 512}
        settings = {"tie_word_embeddings": True, **shape, **FAMILIES[family]}
        vocabulary = AutoConfig.from_pretrained(model).vocab_size
        config = AutoConfig.for_model(family.split()[0], vocab_size=vocabulary + 3, **settings)
        torch.manual_seed(0)
        built = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for name, weights in built.named_parameters():
            if "norm" in name or name.endswith("bias"):
                torch.nn.init.normal_(weights, 1.0, 0.3)
            elif "_proj" in name:
                weights.data *= 10  # attention that is not uniform shows where heads were mixed up
        built.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            (folder / name).write_bytes((model / name).read_bytes())
        return folder

    return make


def written(source: Path, kind: GGUFType) -> Path:
    path = source.parent / "written" / f"{kind}.gguf"
    path.parent.mkdir(exist_ok=True)
    write_gguf(path, source, kind, "tiny", lambda: None)
    return path


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits[0].float()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_says_the_same_from_its_gguf_file(made: Callable[..., Path], family: str) -> None:
    source = made(family)
    expected = logits(AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32))
    read = load_gguf(written(source, "f32"), torch.float32, CPU)
    assert torch.allclose(logits(read), expected, atol=1e-4)
    tied = FAMILIES[family].get("tie_word_embeddings", True)
    assert (read.lm_head.weight.data_ptr() == read.model.embed_tokens.weight.data_ptr()) == tied


@pytest.mark.parametrize(("kind", "bound"), [("f16", 1e-3), ("bf16", 0.02), ("q8_0", 0.05)])
def test_each_type_is_as_near_as_its_bits_allow(made: Callable[..., Path], kind: GGUFType, bound: float) -> None:
    assert kind in get_args(GGUFType)
    source = made("llama")
    expected = logits(AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32))
    assert difference(logits(load_gguf(written(source, kind), torch.float32, CPU)), expected) < bound


def test_the_tokenizer_in_the_file_makes_the_same_tokens(made: Callable[..., Path]) -> None:
    source = made("llama")
    path = written(source, "f16")
    ours = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    theirs = AutoTokenizer.from_pretrained(source)
    for text in TEXTS:
        assert ours(text, add_special_tokens=False)["input_ids"] == theirs(text, add_special_tokens=False)["input_ids"]
    assert (ours.eos_token, ours.pad_token) == (theirs.eos_token, theirs.pad_token) == (SPECIAL[1], SPECIAL[1])
    chat = [{"role": "user", "content": "What?"}]
    assert ours.apply_chat_template(chat, tokenize=False) == theirs.apply_chat_template(chat, tokenize=False)


def test_the_file_names_every_token_that_the_model_ends_its_turns_with(made: Callable[..., Path]) -> None:
    source = made("llama")
    eos = AutoTokenizer.from_pretrained(source).eos_token_id
    GenerationConfig(eos_token_id=[7, eos, 9]).save_pretrained(source)
    fields = GGUFReader(written(source, "f16")).fields
    named = [fields[f"tokenizer.ggml.{name}_token_id"].contents() for name in ("eos", "eot", "eom")]
    assert named == [eos, 7, 9]


def cutting(pre_tokenizer: Any, **model: Any) -> dict[str, Any]:
    return {"model": {"type": "BPE", "merges": [["a", "b"]], **model}, "pre_tokenizer": pre_tokenizer}


BYTES = {"type": "ByteLevel", "use_regex": False}


def test_known_cuts_have_llama_cpps_names() -> None:
    digits = {"type": "Digits", "individual_digits": True}
    assert cut_of(cutting({"type": "ByteLevel"})) == "gpt-2"
    assert cut_of(cutting({"type": "Sequence", "pretokenizers": [digits, {"type": "ByteLevel"}]})) == "smollm"
    for pattern, name in PATTERNS.items():
        split = {"type": "Split", "pattern": {"Regex": pattern}}
        assert cut_of(cutting({"type": "Sequence", "pretokenizers": [split, BYTES]})) == name


@pytest.mark.parametrize(
    "tokenizer",
    [
        cutting(None, byte_fallback=True),
        cutting({"type": "ByteLevel"}, merges=[]),
        cutting({"type": "Split", "pattern": {"Regex": r"\d"}}),
        {"model": {"type": "Unigram"}, "pre_tokenizer": {"type": "Metaspace"}},
    ],
    ids=["sentencepiece", "no merges", "another pattern", "unigram"],
)
def test_a_tokenizer_that_llama_cpp_would_cut_otherwise_is_refused_by_name(tokenizer: dict[str, Any]) -> None:
    with pytest.raises(RequestRefused, match="not written as GGUF") as refused:
        cut_of(json.loads(json.dumps(tokenizer)))
    assert (refused.value.code, refused.value.param) == ("gguf_tokenizer_unknown", "outputs.gguf")
