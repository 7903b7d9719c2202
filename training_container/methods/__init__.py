"""How the base model is made trainable: one module a method or kin of methods, behind one mapping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from spotune.contracts.request import Method
from spotune.contracts.training import TrainingConfig
from training_container.methods import bottleneck
from training_container.methods.bottleneck import add_bottlenecks
from training_container.methods.ia3 import add_ia3
from training_container.methods.lora import add_lora, add_pissa
from training_container.methods.virtual_tokens import add_prefix, add_prompt
from training_container.methods.weights import train_all, train_last_blocks
from training_container.quantization import WHOLE_WEIGHTS

METHODS: Mapping[Method, Callable[[Any, TrainingConfig], Any]] = {
    "full": train_all,
    "freeze": train_last_blocks,
    "lora": add_lora,
    "qlora": add_lora,
    "dora": add_lora,
    "rslora": add_lora,
    "pissa": add_pissa,
    "ia3": add_ia3,
    "prefix": add_prefix,
    "prompt": add_prompt,
    "bottleneck": add_bottlenecks,
}
"""Each takes the base model and makes it the model that is trained."""


def adapt(model: Any, config: TrainingConfig) -> Any:
    """The model as it is trained: with an fp32 adapter over frozen weights, or with weights of its own that are free.

    The adapter's first weights follow from torch's random state.

    Raises:
        TrainingFault: the method does not fit the model or the config.
    """
    adapted = METHODS[config.method](model, config)
    if config.hardware.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for settings in getattr(adapted, "peft_config", {}).values():
        settings.base_model_name_or_path = config.model.name
        settings.revision = config.model.revision or None
    return adapted.train()


def has_adapter(method: Method) -> bool:
    """True where what is published stands beside the base model; else it is a whole model."""
    return method not in WHOLE_WEIGHTS


def base_of(model: Any) -> AbstractContextManager[object]:
    """Inside, an adapted model answers as its base. A model without adapter is its own base until it is trained."""
    if any(True for _ in bottleneck.bottlenecks(model)):
        return bottleneck.without_bottlenecks(model)
    context: AbstractContextManager[object] = (
        model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext()
    )
    return context
