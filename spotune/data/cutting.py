"""How a tokenizer cuts a text before it merges bytes, by llama.cpp's name for it."""

from __future__ import annotations

from typing import Any

from spotune.contracts.errors import RequestRefused

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST: "qwen2",
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST: "llama-bpe",
}
"""By the pattern that the tokenizer cuts with."""


def cut_of(written: dict[str, Any]) -> str:
    """llama.cpp's name for what a tokenizer.json does before the merges.

    Raises:
        RequestRefused: llama.cpp is not known to cut texts in that way (`gguf_tokenizer_unknown`).
    """
    model, steps = written["model"], _steps(written.get("pre_tokenizer"))
    kinds = [step["type"] for step in steps]
    if model.get("type") == "BPE" and model.get("merges") and not model.get("byte_fallback"):
        if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and steps[1].get("use_regex", True):
            return "smollm"
        if kinds == ["Split", "ByteLevel"] and steps[0]["pattern"].get("Regex") in PATTERNS:
            return PATTERNS[steps[0]["pattern"]["Regex"]]
    raise RequestRefused(
        f"The model's tokenizer is of a kind that is not written as GGUF: {model.get('type')} of "
        f"{len(model.get('merges') or ())} merges{' with byte fallback' if model.get('byte_fallback') else ''}, "
        f"cutting by {', '.join(kinds) or 'nothing'}.",
        code="gguf_tokenizer_unknown",
        param="outputs.gguf",
        remedy="Leave outputs.gguf out; llama.cpp's own script converts the merged weights (outputs.merged).",
    )


def _steps(step: dict[str, Any] | None) -> list[dict[str, Any]]:
    if step is None:
        return []
    return step["pretokenizers"] if step["type"] == "Sequence" else [step]
