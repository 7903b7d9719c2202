"""Which linear layers carry an adapter: by name, or by group, in any architecture."""

from __future__ import annotations

from typing import Any

from spotune.contracts.training import AdapterConfig
from training_container.faults import TrainingFault
from training_container.methods.blocks import Layer, linear_layers


def target_modules(model: Any, adapter: AdapterConfig) -> list[str]:
    """Endings of paths that select the layers that carry the adapter, and no other linear layer; sorted.

    An ending is a layer's name alone where that is enough (`q_proj`), else with what it lies in (`attn.c_proj`).

    Raises:
        TrainingFault: a name that was asked for is no linear layer's, the group is empty, or the rank is larger than a
            layer; the evidence lists those that exist.
    """
    layers = linear_layers(model)
    redirected = _redirected(model)
    chosen = _chosen([layer for layer in layers if layer.name not in redirected], adapter)
    _check_rank(chosen, adapter.rank)
    return endings(chosen, layers)


def endings(chosen: list[Layer], layers: list[Layer]) -> list[str]:
    """The shortest endings that select these of all layers."""
    others = [layer.path for layer in layers if layer not in chosen]
    return sorted({_ending(layer, others) for layer in chosen})


def _redirected(model: Any) -> frozenset[str]:
    """Names that PEFT takes for those of experts, which transformers 5 keeps in one tensor a block.

    In these families a dense layer of such a name cannot be addressed: the adapter would land on the experts, here and
    wherever it is loaded. Experts themselves stay frozen.
    """
    from peft.utils.transformers_weight_conversion import _MODEL_TO_CONVERSION_PATTERN, _MOE_TARGET_MODULE_MAPPING

    pattern = _MODEL_TO_CONVERSION_PATTERN.get(model.config.model_type)
    return frozenset(_MOE_TARGET_MODULE_MAPPING.get(pattern, ()))


def _chosen(layers: list[Layer], adapter: AdapterConfig) -> list[Layer]:
    asked = adapter.target_modules
    if asked == "all-linear":
        return _some(layers, layers, "has no linear layers")
    if asked == "attention":
        return _some([layer for layer in layers if layer.attention], layers, "has no attention layers")
    unknown = [name for name in asked if not any(_ends(layer, name) for layer in layers)]
    if unknown:
        raise _unknown(f"has no linear layer named {', '.join(unknown)}", layers)
    return [layer for layer in layers if any(_ends(layer, name) for name in asked)]


def _ends(layer: Layer, name: str) -> bool:
    return f".{layer.path}".endswith(f".{name}")


def _some(found: list[Layer], layers: list[Layer], otherwise: str) -> list[Layer]:
    if not found:
        raise _unknown(otherwise, layers)
    return found


def _unknown(what: str, layers: list[Layer]) -> TrainingFault:
    return TrainingFault(
        "unknown_target_modules",
        f"The model {what}.",
        evidence=f"it has {', '.join(sorted({layer.name for layer in layers}))}",
        remedy="Name layers from the evidence in adapter.target_modules, or say attention or all-linear.",
    )


def _check_rank(chosen: list[Layer], rank: int) -> None:
    """A gate of one output takes any rank: it is one number, and stands among layers that are asked for as a group."""
    small = {layer.name: layer.narrow for layer in chosen if 1 < layer.narrow < rank}
    if small:
        raise TrainingFault(
            "rank_above_layer",
            f"The rank is {rank}; that is more than some layers are wide.",
            evidence=", ".join(f"{name}: {size}" for name, size in sorted(small.items())),
            remedy=f"Set adapter.rank to {min(small.values())} or less, or leave these layers out.",
        )


def _ending(layer: Layer, others: list[str]) -> str:
    """The shortest ending of the layer's path inside its block that no other layer shares."""
    parts = layer.within.split(".")
    for length in range(1, len(parts) + 1):
        ending = ".".join(parts[-length:])
        if not any(f".{path}".endswith(f".{ending}") for path in others):
            return ending
    return layer.path
