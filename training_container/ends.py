"""Which tokens end a model's turn, for everybody who lets it answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def ends_of(eos: int | None, generation: Any) -> list[int]:
    """The tokenizer's end of text, then the other tokens that the model itself ends turns with: some families' differ.

    Args:
        eos: the tokenizer's; None where it has none.
        generation: the model's `GenerationConfig`.
    """
    own = generation.eos_token_id
    listed = own if isinstance(own, list) else [own]
    return list(dict.fromkeys(number for number in (eos, *listed) if number is not None))


def generation_of(folder: Path) -> Any:
    """The `GenerationConfig` of a model folder, as transformers gives it to the loaded model."""
    from transformers import AutoConfig, GenerationConfig

    if (folder / "generation_config.json").exists():
        return GenerationConfig.from_pretrained(folder, local_files_only=True)
    return GenerationConfig.from_model_config(AutoConfig.from_pretrained(folder, local_files_only=True))
