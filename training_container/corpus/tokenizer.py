"""The base model's tokenizer, from its folder."""

from __future__ import annotations

from pathlib import Path

from spotune.data.tokens import RowTokenizer
from training_container.faults import TrainingFault


def load_tokenizer(folder: Path) -> RowTokenizer:
    """The base model's tokenizer and chat template.

    Raises:
        TrainingFault: a file is missing or unreadable.
    """
    template = folder / "chat_template.jinja"
    try:
        return RowTokenizer.from_files(
            (folder / "tokenizer.json").read_bytes(),
            (folder / "tokenizer_config.json").read_bytes(),
            template.read_bytes() if template.exists() else None,
        )
    except FileNotFoundError as error:
        raise TrainingFault(
            "tokenizer_missing",
            f"The base model has no {Path(error.filename).name}.",
            remedy="Save the tokenizer beside the model's weights with save_pretrained.",
        ) from error
