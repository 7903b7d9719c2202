"""A model's byte-level BPE tokenizer as GGUF describes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spotune.data.template import special_tokens
from training_container.faults import TrainingFault

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST: "qwen2",
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST: "llama-bpe",
}
"""llama.cpp's name of the way in which a text is cut before the merges, by the pattern that the tokenizer cuts with."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Shapes: `tokens` and `types` have an entry for each row of the embedding."""

    tokens: list[str]
    types: list[int]
    merges: list[str]
    cut: str
    bos: int | None
    eos: int | None
    pad: int | None
    template: str | None


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """The vocabulary of a model folder; `size` is the number of rows of the embedding, which may be padded.

    Raises:
        TrainingFault: it is of a kind that is not written.
    """
    written = json.loads((folder / "tokenizer.json").read_bytes())
    config = json.loads((folder / "tokenizer_config.json").read_bytes())
    cut = cut_of(written)
    tokens, types = _tokens(written, size)
    ids = {token: number for number, token in enumerate(tokens)}
    bos, eos, pad = (ids.get(special_tokens(config).get(f"{name}_token", "")) for name in ("bos", "eos", "pad"))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in written["model"]["merges"]]
    return Vocabulary(tokens, types, merges, cut, bos, eos, pad, _template(folder, config))


def cut_of(written: dict[str, Any]) -> str:
    """llama.cpp's name for what a tokenizer.json does before the merges.

    Raises:
        TrainingFault: llama.cpp is not known to cut texts in that way.
    """
    model, steps = written["model"], _steps(written.get("pre_tokenizer"))
    kinds = [step["type"] for step in steps]
    if model.get("type") == "BPE" and not model.get("byte_fallback"):
        if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and steps[1].get("use_regex", True):
            return "smollm"
        if kinds == ["Split", "ByteLevel"] and steps[0]["pattern"].get("Regex") in PATTERNS:
            return PATTERNS[steps[0]["pattern"]["Regex"]]
    raise TrainingFault(
        "gguf_tokenizer_unknown",
        "The model's tokenizer is of a kind that is not written as GGUF.",
        evidence=f"model {model.get('type')}, byte fallback {model.get('byte_fallback')}, cut by {', '.join(kinds)}",
        remedy="Leave outputs.gguf out; llama.cpp's own script converts the merged weights (outputs.merged).",
    )


def _steps(step: dict[str, Any] | None) -> list[dict[str, Any]]:
    if step is None:
        return []
    return step["pretokenizers"] if step["type"] == "Sequence" else [step]


def _tokens(written: dict[str, Any], size: int) -> tuple[list[str], list[int]]:
    """Each row's token and its type; rows of the embedding that no token has are unused."""
    from gguf import TokenType

    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [int(TokenType.UNUSED)] * size
    for token, number in written["model"]["vocab"].items():
        tokens[number], types[number] = token, int(TokenType.NORMAL)
    for added in written.get("added_tokens", ()):
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], int(kind)
    return tokens, types


def _template(folder: Path, config: dict[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    found = path.read_text() if path.exists() else config.get("chat_template")
    return found if isinstance(found, str) else None
