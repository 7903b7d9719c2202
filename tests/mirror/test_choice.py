"""Which files make a base model, and which repositories are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune import planner
from spotune.contracts.base_model import PICKLED_SUFFIXES
from spotune.contracts.errors import RequestRefused
from spotune.mirror.choice import (
    LARGEST_FILE,
    SMALL_BYTES,
    check_config,
    is_licence,
    small_files,
    weight_files,
    weight_map,
)
from spotune.mirror.hub import HubFile
from tests import tiny_model
from tests.mirror.models import sharded, single


def files(*names: str, size: int = 1) -> tuple[HubFile, ...]:
    return tuple(HubFile(name, size, None, "0" * 40) for name in names)


def names(found: tuple[HubFile, ...]) -> list[str]:
    return [file.name for file in found]


def code(refused: Any) -> str:
    return str(refused.value.code)


NEEDED = ("config.json", "tokenizer.json", "tokenizer_config.json")


def test_config_tokenizer_and_licence_are_taken_and_nothing_that_is_code_or_pickled() -> None:
    assert names(small_files(files(*single()))) == ["LICENSE", "README.md", *NEEDED]


def test_one_whole_file_is_taken_before_its_shards_as_transformers_does() -> None:
    assert names(weight_files(files(*single()), None)) == ["model.safetensors"]
    assert names(weight_files(files(*sharded(), "model.safetensors"), b"")) == ["model.safetensors"]


def test_of_shards_those_are_taken_that_the_index_names() -> None:
    index = sharded()["model.safetensors.index.json"]
    assert names(weight_files(files(*sharded()), index)) == [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]


def test_a_file_that_the_hub_would_not_serve_is_refused_before_it_is_asked_for() -> None:
    assert weight_files(files("model.safetensors", size=LARGEST_FILE), None)
    with pytest.raises(RequestRefused) as refused:
        weight_files(files("model.safetensors", size=LARGEST_FILE + 1), None)
    assert code(refused) == "model_files_too_large"


@pytest.mark.torch
def test_the_largest_file_is_the_largest_that_the_hubs_own_client_asks_for() -> None:
    from huggingface_hub.constants import MAX_HTTP_DOWNLOAD_SIZE

    assert LARGEST_FILE == MAX_HTTP_DOWNLOAD_SIZE


def test_a_shard_that_is_not_there_is_told() -> None:
    there = [name for name in sharded() if "00002" not in name]
    with pytest.raises(RequestRefused, match="00002-of-00003") as refused:
        weight_files(files(*there), sharded()["model.safetensors.index.json"])
    assert code(refused) == "model_files_missing"


@pytest.mark.parametrize("suffix", sorted(PICKLED_SUFFIXES))
def test_pickled_weights_are_refused_by_name(suffix: str) -> None:
    with pytest.raises(RequestRefused, match=f"pytorch_model{suffix}") as refused:
        small_files(files(*NEEDED, f"pytorch_model{suffix}"))
    assert code(refused) == "pickled_weights"


def test_a_repository_without_weights_is_refused() -> None:
    with pytest.raises(RequestRefused) as refused:
        small_files(files(*NEEDED, "model.gguf"))
    assert code(refused) == "model_without_weights"


@pytest.mark.parametrize("missing", NEEDED)
def test_a_file_that_every_model_needs_is_named(missing: str) -> None:
    with pytest.raises(RequestRefused, match=missing) as refused:
        small_files(files(*(name for name in single() if name != missing)))
    assert code(refused) == "model_files_missing"


def test_small_files_are_small() -> None:
    with pytest.raises(RequestRefused) as refused:
        small_files(files(*NEEDED, "model.safetensors", size=SMALL_BYTES // 2))
    assert code(refused) == "model_files_too_large"


@given(st.lists(st.text(st.characters(codec="ascii"), max_size=30)))
def test_no_file_of_a_folder_is_taken_and_none_that_leads_out_of_its_own(odd: list[str]) -> None:
    taken = names(small_files(files(*NEEDED, "model.safetensors", *odd)))
    assert not [name for name in taken if "/" in name or name.startswith(".")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"weight_map": {}}',
        b'{"weight_map": []}',
        b'{"weight_map": {"a": "../../config.safetensors"}}',
        b'{"weight_map": {"a": "sub/model.safetensors"}}',
        b'{"weight_map": {"a": "pytorch_model.bin"}}',
        b"[" * 100_000,
    ],
)
def test_an_index_that_leads_elsewhere_or_nowhere_is_refused(body: bytes) -> None:
    with pytest.raises(RequestRefused) as refused:
        weight_map(body)
    assert code(refused) == "model_index_unreadable"


@pytest.mark.parametrize(
    "name",
    ["LICENSE", "LICENCE.md", "License.txt", "LICENSE-MODEL", "NOTICE", "USE_POLICY.md", "COPYING", "Notice.txt"],
)
def test_texts_that_bind_users_are_licences(name: str) -> None:
    assert is_licence(name)


@pytest.mark.parametrize(
    "name", ["LICENSE.py", "license.bin", "docs/LICENSE", "licensed.json", "LICENSE/x", "NOTICE.exe"]
)
def test_other_files_are_none(name: str) -> None:
    assert not is_licence(name)


def config(**changes: object) -> bytes:
    return json.dumps(tiny_model.CONFIG | changes).encode()


def test_a_model_that_can_be_planned_for_passes() -> None:
    check_config(config())
    check_config(config(auto_map={"AutoModelForCausalLM": "modeling.Tiny"}))  # its code is not needed, and not taken


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (config(model_type="unheard_of"), "unknown_architecture"),
        (config(model_type="qwen"), "model_needs_code"),
        (config(quantization_config={"quant_method": "gptq"}), "model_quantized"),
        (b"[]", "config_unreadable"),
        (b"{", "config_unreadable"),
        (b"[" * 100_000, "config_unreadable"),
    ],
)
def test_a_model_that_cannot_be_tuned_is_refused_before_anything_large_moves(body: bytes, expected: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        check_config(body)
    assert code(refused) == expected


@pytest.mark.torch
def test_families_with_code_are_those_that_transformers_lacks() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    from spotune.planner.architecture.families import _READERS

    assert {family for family in _READERS if family not in CONFIG_MAPPING_NAMES} == planner.FAMILIES_WITH_CODE
