"""Which outputs can be made of which method: asked before a GPU is paid for, and again in the container."""

from __future__ import annotations

from typing import Literal

from spotune.contracts.errors import RequestRefused
from spotune.contracts.request import GGUFType, Method

UNMERGED: frozenset[Method] = frozenset({"prefix", "prompt", "bottleneck"})
"""What these add is no sum with a weight."""


def check_mergeable(method: Method | Literal["auto"], *, merged: bool, gguf: GGUFType | None) -> None:
    """Refuse whole weights of a method that cannot be merged.

    Raises:
        RequestRefused: `output_not_possible`.
    """
    if method in UNMERGED and (merged or gguf is not None):
        raise RequestRefused(
            f"What {method} trains cannot be merged into the model's weights.",
            code="output_not_possible",
            param="outputs.merged" if merged else "outputs.gguf",
            remedy="Leave outputs out, or take lora.",
        )
