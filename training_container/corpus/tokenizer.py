"""The base model's tokenizer, from its folder."""

from __future__ import annotations

from pathlib import Path

from spotune.data.tokens import RowTokenizer
from training_container.faults import TrainingFault


def load_tokenizer(folder: Path) -> RowTokenizer:
    """The base model's tokenizer and chat template.

    Raises:
        TrainingFault: a file is missing.
        RequestRefused: a file is broken.
    """
    tokenizer, config, template = tokenizer_files(folder)
    return RowTokenizer.from_files(tokenizer, config, template or None)


def tokenizer_files(folder: Path) -> tuple[bytes, bytes, bytes]:
    """tokenizer.json, tokenizer_config.json and chat_template.jinja, the last one empty where there is none.

    Raises:
        TrainingFault: a file is missing.
    """
    template = folder / "chat_template.jinja"
    try:
        return (
            (folder / "tokenizer.json").read_bytes(),
            (folder / "tokenizer_config.json").read_bytes(),
            template.read_bytes() if template.exists() else b"",
        )
    except FileNotFoundError as error:
        raise TrainingFault(
            "tokenizer_missing",
            f"The base model has no {Path(error.filename).name}.",
            remedy="Save the tokenizer beside the model's weights with save_pretrained.",
        ) from error
