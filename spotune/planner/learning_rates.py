"""The learning rate that is usual for a method, a size of model and an objective."""

from __future__ import annotations

from math import inf

from spotune.contracts.request import JobRequest, Method, Objective
from spotune.planner.architecture import Architecture

Rates = tuple[tuple[float, float], ...]
"""Up to this many parameters: the rate."""

_LORA: Rates = ((1e9, 5e-4), (10e9, 2e-4), (inf, 1e-4))
_WHOLE: Rates = ((1e9, 5e-5), (10e9, 2e-5), (inf, 1e-5))

LEARNING_RATES: dict[Method, Rates] = {
    "full": _WHOLE,
    "freeze": _WHOLE,
    "lora": _LORA,
    "qlora": _LORA,
    "dora": _LORA,
    "rslora": _LORA,
    "pissa": _WHOLE,
    "ia3": ((inf, 3e-3),),
    "prefix": ((inf, 5e-3),),
    "prompt": ((inf, 3e-2),),
    "bottleneck": ((inf, 3e-4),),
}
"""Of supervised training. LoRA's kin: the QLoRA paper's 2e-4 at 7B and 1e-4 from 33B, which is DoRA's range too; rsLoRA
has LoRA's scale by its default alpha. Whole weights, and PiSSA, which trains a weight's largest components: a tenth
(the PiSSA paper's 2e-5 at 7B). IA3: 3e-3 (T-Few). Prefix tuning without reparametrisation: 5e-3 (P-Tuning v2). Prompt
tuning: 3e-2 (PEFT's guide; the paper's 0.3 is of Adafactor). Bottleneck adapters: 3e-4 (LLM-Adapters, Houlsby et al.).
"""

PREFERENCE_SHARE: dict[Objective, float] = {"supervised": 1.0, "dpo": 1 / 40, "orpo": 0.4, "kto": 1 / 40}
"""Of the supervised rate. DPO: Zephyr's 5e-7 for whole models and its recipe's 5e-6 for QLoRA, against 2e-5 and 2e-4;
KTO's paper takes DPO's. ORPO, whose loss has the supervised one in it: its paper's 8e-6 against 2e-5."""


def choose_learning_rate(request: JobRequest, architecture: Architecture, method: Method) -> float:
    """The request's, else the table's for this objective times the request's multiplier."""
    if request.training.learning_rate is not None:
        return request.training.learning_rate
    multiplier = request.chosen_hyperparameters.learning_rate_multiplier
    base = next(rate for limit, rate in LEARNING_RATES[method] if architecture.parameters <= limit)
    rate = base * PREFERENCE_SHARE[request.objective] * (1.0 if multiplier == "auto" else multiplier)
    return float(f"{rate:.4g}")
