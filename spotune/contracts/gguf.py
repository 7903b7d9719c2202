"""Which base models are written as GGUF: asked before a GPU is paid for, and again in the container."""

from __future__ import annotations

from collections.abc import Mapping

FAMILIES: dict[str, str] = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""GGUF's word for each `model_type` that is written."""
QWENS_HEAD = 128
"""Of every published Qwen3; transformers' reader, by which a file is checked, takes it for granted."""


def obstacle(config: Mapping[str, object]) -> str:
    """What keeps a model from being written; empty where nothing does.

    Args:
        config: its `config.json`, of any version of transformers.
    """
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        return f"it is of the family {family}; written are {', '.join(FAMILIES)}"
    if (kind := _positions(config)) != "default":
        return f"its positions are {kind}; written are default ones"
    if window := _window(family, config):
        return f"it attends within a window of {window}; written are models without one"
    if family == "qwen3" and config.get("head_dim", QWENS_HEAD) != QWENS_HEAD:
        return f"its heads have {config['head_dim']} values; written are Qwen3's own {QWENS_HEAD}"
    return ""


def _window(family: str, config: Mapping[str, object]) -> object:
    """Tokens that a layer looks back; falsy where it looks back to the beginning."""
    return config.get("sliding_window") if family == "mistral" or config.get("use_sliding_window") else None


def _positions(config: Mapping[str, object]) -> str:
    scaled = config.get("rope_parameters") or config.get("rope_scaling")
    if not isinstance(scaled, Mapping):
        return "default"
    return str(scaled.get("rope_type") or scaled.get("type") or "default")
