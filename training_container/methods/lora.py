"""LoRA and its kin, by PEFT: QLoRA, DoRA, rsLoRA, and PiSSA's start."""

from __future__ import annotations

from typing import Any

from spotune.contracts.training import AdapterConfig, TrainingConfig
from training_container.methods.pissa import begin_at_principal_components
from training_container.methods.targets import target_modules


def add_lora(model: Any, config: TrainingConfig) -> Any:
    """An fp32 adapter over frozen weights. QLoRA differs in how the base model was loaded.

    Raises:
        TrainingFault: a target module does not exist, or is narrower than the rank.
    """
    from peft import LoraConfig, get_peft_model

    adapter = config.adapter or AdapterConfig()
    settings = LoraConfig(
        task_type="CAUSAL_LM",
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=target_modules(model, adapter),
        use_dora=config.method == "dora",
        use_rslora=config.method == "rslora",
        bias="none",
    )
    return get_peft_model(model, settings)


def add_pissa(model: Any, config: TrainingConfig) -> Any:
    """A LoRA adapter that begins as the layers' principal components, which the base model does without.

    Raises:
        TrainingFault: as `add_lora`.
    """
    adapted = add_lora(model, config)
    begin_at_principal_components(adapted, config.seed)
    return adapted
