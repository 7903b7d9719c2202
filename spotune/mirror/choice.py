"""Pure: which files of a repository make a base model, and which repositories are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from spotune import planner
from spotune.contracts.base_model import PICKLED_SUFFIXES
from spotune.contracts.errors import RequestRefused
from spotune.mirror.hub import HubFile

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
NEEDED = ("config.json", "tokenizer.json", "tokenizer_config.json")
WELCOME = frozenset(
    {
        "README.md",
        "added_tokens.json",
        "chat_template.jinja",
        "generation_config.json",
        "merges.txt",
        "special_tokens_map.json",
        "tokenizer.model",
        "vocab.json",
    }
)
SMALL_BYTES = 256 * 10**6
"""Of all files that are no weights; the largest tokenizers have 35 MB."""

LARGEST_FILE = 50 * 10**9
"""Bytes. The hub serves larger ones through its own transfer protocol alone: `MAX_HTTP_DOWNLOAD_SIZE` of its client."""

_LICENCE = re.compile(r"(licen[cs]e|notice|copying|use_policy|usage_policy)([-_ ][\w-]+)*(\.(txt|md))?", re.I)
_SHARD = re.compile(r"[\w.-]+\.safetensors", re.ASCII)


def small_files(files: Iterable[HubFile]) -> tuple[HubFile, ...]:
    """Config, tokenizer, licence and the weights' index: all that is looked at before the weights are brought.

    Raises:
        RequestRefused: the repository has no weights that can be read without running code, or lacks a file.
    """
    held = {file.name: file for file in files}
    _check_weights(held)
    missing = [name for name in NEEDED if name not in held]
    if missing:
        raise RequestRefused(
            f"The repository has no {' and no '.join(missing)}.",
            code="model_files_missing",
            param="model",
            remedy="Take a causal language model with its tokenizer as transformers saves them.",
        )
    wanted = tuple(file for name, file in sorted(held.items()) if _is_small(name))
    if (size := sum(file.bytes for file in wanted)) > SMALL_BYTES:
        raise RequestRefused(
            f"The repository's files beside the weights have {size:,} bytes; {SMALL_BYTES:,} are taken at most.",
            code="model_files_too_large",
            param="model",
            remedy="Take another revision, or tell the model's author.",
        )
    return wanted


def is_licence(name: str) -> bool:
    """True for the text of a licence, or of what else binds its users."""
    return _LICENCE.fullmatch(name) is not None


def weight_files(files: Iterable[HubFile], index: bytes | None) -> tuple[HubFile, ...]:
    """The safetensors files that transformers would load: one whole file, else those that the index names.

    Others in the repository (the same weights in another cut, other precisions) are left where they are.

    Raises:
        RequestRefused: the index cannot be read, or names a file that is not there.
    """
    held = {file.name: file for file in files}
    names = [WEIGHTS] if WEIGHTS in held else sorted(set(weight_map(index or b"").values()))
    missing = [name for name in names if name not in held]
    if missing:
        raise RequestRefused(
            f"{INDEX} names {', '.join(missing)}, which the repository lacks.",
            code="model_files_missing",
            param="model",
            remedy="Take another revision, or tell the model's author.",
        )
    wanted = tuple(held[name] for name in names)
    for file in wanted:
        if file.bytes > LARGEST_FILE:
            raise RequestRefused(
                f"{file.name} has {file.bytes:,} bytes; files of up to {LARGEST_FILE:,} can be downloaded.",
                code="model_files_too_large",
                param="model",
                remedy="Take a revision whose weights lie in smaller files.",
            )
    return wanted


def weight_map(index: bytes) -> dict[str, str]:
    """Which file of the folder holds a tensor, by the tensor's name.

    Raises:
        RequestRefused: the index cannot be read, or leads out of the folder.
    """
    try:
        found = json.loads(index)["weight_map"]
        names = {str(tensor): str(file) for tensor, file in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        names = {}
    if not names or not all(_SHARD.fullmatch(name) for name in names.values()):
        raise RequestRefused(
            f"{INDEX} names no safetensors files of its folder, or others beside them.",
            code="model_index_unreadable",
            param="model",
            remedy="Take another revision, or tell the model's author.",
        )
    return names


def check_config(config: bytes) -> None:
    """Refuse a model that Spotune cannot plan for, one that needs code of its own, and one that is quantized.

    Raises:
        RequestRefused: as said; `unknown_architecture` where its parameters cannot be counted.
    """
    try:
        facts = json.loads(config)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, Mapping):
        raise RequestRefused(
            "The repository's config.json is no JSON object.",
            code="config_unreadable",
            param="model",
            remedy="Take another revision, or tell the model's author.",
        )
    family = str(facts.get("model_type"))
    if family in planner.FAMILIES_WITH_CODE:
        raise RequestRefused(
            f"Models of the family {family!r} are built by Python code of their repository, which would have to run.",
            code="model_needs_code",
            param="model",
            remedy="Take a family that transformers has.",
        )
    planner.read_architecture(facts)
    if facts.get("quantization_config"):
        raise RequestRefused(
            "The weights are quantized already; there is nothing in full precision to train over or to merge into.",
            code="model_quantized",
            param="model",
            remedy="Add the model that it was made from; QLoRA quantizes as it loads.",
        )


def _is_small(name: str) -> bool:
    return name in NEEDED or name in WELCOME or name == INDEX or is_licence(name)


def _check_weights(held: Mapping[str, HubFile]) -> None:
    if WEIGHTS in held or INDEX in held:
        return
    pickled = sorted(_pickled(held))
    if pickled:
        raise RequestRefused(
            f"The repository has pickled weights only ({', '.join(pickled[:3])}); loading them can run foreign code.",
            code="pickled_weights",
            param="model",
            remedy="Take a revision or a copy with model.safetensors; many repositories have one under refs/pr/.",
        )
    raise RequestRefused(
        f"The repository has no {WEIGHTS} and no {INDEX}.",
        code="model_without_weights",
        param="model",
        remedy="Take a repository with the model's weights as transformers saves them.",
    )


def _pickled(names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if PurePosixPath(name).suffix in PICKLED_SUFFIXES)
