"""What a request may not ask for together, and what a model has no room for: each rule one function, with its remedy.

Nothing that a request names is left out silently: what has no effect is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from spotune.contracts import gguf
from spotune.contracts.errors import RequestRefused
from spotune.contracts.outputs import check_mergeable
from spotune.contracts.request import AdapterChoice, JobRequest, Method
from spotune.planner.architecture import Architecture
from spotune.planner.gate import check_gate
from spotune.planner.workload import LORA_KIN

LORA_FIELDS = frozenset({"rank", "alpha", "dropout", "target_modules"})
METHOD_FIELDS: dict[Method, frozenset[str]] = {
    "full": frozenset(),
    "freeze": frozenset({"trained_layers"}),
    "lora": LORA_FIELDS,
    "qlora": LORA_FIELDS,
    "dora": LORA_FIELDS,
    "rslora": LORA_FIELDS,
    "pissa": LORA_FIELDS,
    "ia3": frozenset(),
    "prefix": frozenset({"virtual_tokens"}),
    "prompt": frozenset({"virtual_tokens"}),
    "bottleneck": frozenset({"rank"}),
}
"""Of `adapter`, what each method has use for."""
UNQUANTIZED = frozenset[Method]({"full", "freeze"})
"""They train the weights that would be quantized."""


def check_combinations(request: JobRequest) -> None:
    """Refuse what does not go together.

    Raises:
        RequestRefused: names the field, the rule and the way out.
    """
    _check_quantization(request)
    _check_checkpointing(request)
    _check_adapter_fields(request)
    check_mergeable(request.adapter.type, merged=request.outputs.merged, gguf=request.outputs.gguf)
    check_gate(request)
    _check_loss_on(request)
    _check_learning_rate(request)


def check_convertible(request: JobRequest, architecture_config: Mapping[str, object]) -> None:
    """Refuse GGUF of a model that the container does not write as such.

    Raises:
        RequestRefused: says what stands in the way.
    """
    found = gguf.obstacle(architecture_config) if request.outputs.gguf is not None else ""
    if found:
        raise RequestRefused(
            f"The model cannot be written as GGUF: {found}.",
            code="output_not_possible",
            param="outputs.gguf",
            remedy="Leave it out; llama.cpp's own script converts the merged weights (outputs.merged).",
        )


def check_against_model(request: JobRequest, architecture: Architecture) -> None:
    """Refuse sizes that the model has no room for.

    Raises:
        RequestRefused: names the field and the largest value, or the modules that there are.
    """
    _check_rank(request, architecture)
    _check_trained_layers(request, architecture)


def _check_quantization(request: JobRequest) -> None:
    method, quantization = request.adapter.type, request.adapter.quantization
    if method == "qlora" and quantization == "none":
        raise RequestRefused(
            "adapter.type qlora is LoRA over a quantized model; adapter.quantization is none.",
            code="conflicting_settings",
            param="adapter.quantization",
            remedy="Say nf4, fp4 or int8, or take lora.",
        )
    if method == "dora" and quantization == "int8":
        raise RequestRefused(
            "adapter.type dora cannot read weights in int8.",
            code="conflicting_settings",
            param="adapter.quantization",
            remedy="Say nf4, or take lora.",
        )
    if method in UNQUANTIZED and quantization not in ("auto", "none"):
        raise RequestRefused(
            f"adapter.type {method} works on the weights themselves; they cannot be {quantization}.",
            code="conflicting_settings",
            param="adapter.quantization",
            remedy="Leave it out, or take qlora.",
        )


def _check_checkpointing(request: JobRequest) -> None:
    if request.adapter.type == "prefix" and request.training.gradient_checkpointing is True:
        raise RequestRefused(
            "adapter.type prefix lies in attention's memory, which gradient checkpointing drops.",
            code="conflicting_settings",
            param="training.gradient_checkpointing",
            remedy="Leave it out, or take another method.",
        )


def _check_adapter_fields(request: JobRequest) -> None:
    choice, default = request.adapter, AdapterChoice()
    if choice.type == "auto":
        used, name = LORA_FIELDS, "auto, which chooses between lora and qlora,"
    else:
        used, name = METHOD_FIELDS[choice.type], choice.type
    for field in sorted(set(AdapterChoice.model_fields) - used - {"type", "quantization"}):
        if getattr(choice, field) != getattr(default, field):
            raise RequestRefused(
                f"adapter.type {name} has no use for adapter.{field}.",
                code="setting_without_use",
                param=f"adapter.{field}",
                remedy=f"Leave it out; it uses {', '.join(sorted(used)) or 'none of them'}.",
            )


def _check_loss_on(request: JobRequest) -> None:
    if request.objective != "supervised" and request.training.loss_on != "assistant":
        raise RequestRefused(
            f"method.type {request.objective} compares answers: its loss is on the answers' tokens alone.",
            code="conflicting_settings",
            param="training.loss_on",
            remedy="Leave it out.",
        )


def _check_learning_rate(request: JobRequest) -> None:
    multiplier = request.chosen_hyperparameters.learning_rate_multiplier
    if request.training.learning_rate is not None and multiplier != "auto":
        raise RequestRefused(
            "training.learning_rate and learning_rate_multiplier are both given.",
            code="conflicting_settings",
            param="training.learning_rate",
            remedy="Give one of them.",
        )


def _check_rank(request: JobRequest, architecture: Architecture) -> None:
    """A layer of one output, as an expert's gate, takes any rank."""
    method, choice = request.adapter.type, request.adapter
    if method == "bottleneck":
        widest = architecture.hidden
    elif method == "auto" or method in LORA_KIN:
        targets = architecture.targets("all-linear" if choice.target_modules == "auto" else choice.target_modules)
        sizes = [min(linear.inputs, linear.outputs) for linear in targets]
        widest = min((size for size in sizes if size > 1), default=choice.rank)
    else:
        return
    if choice.rank > widest:
        raise RequestRefused(
            f"adapter.rank is {choice.rank}; the narrowest layer that it is for is {widest} wide.",
            code="rank_above_layer",
            param="adapter.rank",
            remedy=f"Set it to {widest} or less.",
        )


def _check_trained_layers(request: JobRequest, architecture: Architecture) -> None:
    if request.adapter.type == "freeze" and request.adapter.trained_layers > architecture.layers:
        raise RequestRefused(
            f"adapter.trained_layers is {request.adapter.trained_layers}; the model has {architecture.layers} blocks.",
            code="too_many_trained_layers",
            param="adapter.trained_layers",
            remedy=f"Set it to {architecture.layers} or less, or take full.",
        )
