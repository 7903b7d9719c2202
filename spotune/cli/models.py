"""A model's `config.json`, from wherever this machine has it."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path

from spotune.cli.data import cached_model
from spotune.contracts.errors import RequestRefused


def model_config(model: str) -> dict[str, object]:
    """The `config.json` of a folder, of a cached base model, or the bundled facts of a well-known name.

    Raises:
        RequestRefused: it is none of these, or the file is no JSON object.
    """
    from spotune import planner

    for folder in (Path(model), cached_model(model)):
        if (folder / "config.json").is_file():
            return _read(folder / "config.json")
    config = planner.known_config(model)
    if config is None:
        near = get_close_matches(model, planner.known_names(), n=3, cutoff=0.4)
        raise RequestRefused(
            f"{model!r} is no folder with a config.json and no well-known model.",
            code="unknown_model",
            param="model",
            remedy=f"Did you mean {', '.join(near)}?" if near else "Give the folder of the model.",
        )
    return config


def _read(path: Path) -> dict[str, object]:
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RequestRefused(f"Cannot read {path}: {error}.", code="config_unreadable", param="model") from None
    if not isinstance(config, dict):
        raise RequestRefused(f"{path} is no JSON object.", code="config_unreadable", param="model")
    return config
