"""A model's byte-level BPE tokenizer as GGUF describes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spotune.data.cutting import cut_of
from spotune.data.template import special_tokens


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
        RequestRefused: it is of a kind that is not written.
    """
    written = json.loads((folder / "tokenizer.json").read_bytes())
    config = json.loads((folder / "tokenizer_config.json").read_bytes())
    cut = cut_of(written)
    tokens, types = _tokens(written, size)
    ids = {token: number for number, token in enumerate(tokens)}
    bos, eos, pad = (ids.get(special_tokens(config).get(f"{name}_token", "")) for name in ("bos", "eos", "pad"))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in written["model"]["merges"]]
    return Vocabulary(tokens, types, merges, cut, bos, eos, pad, _template(folder, config))


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
