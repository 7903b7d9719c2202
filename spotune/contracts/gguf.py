"""Which base models are written as GGUF: asked before a GPU is paid for, and again in the container."""

from __future__ import annotations

from collections.abc import Mapping

FAMILIES: dict[str, str] = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""GGUF's word for each `model_type` that is written."""


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
    if family == "mistral" and config.get("sliding_window"):
        return f"it attends within a window of {config['sliding_window']}; written are models without one"
    return ""


def _positions(config: Mapping[str, object]) -> str:
    scaled = config.get("rope_parameters") or config.get("rope_scaling")
    if not isinstance(scaled, Mapping):
        return "default"
    return str(scaled.get("rope_type") or scaled.get("type") or "default")
