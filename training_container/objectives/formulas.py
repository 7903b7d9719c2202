"""TRL's losses without its training loop.

Each class is one of TRL's trainers that was never set up: it has the attributes that the loss reads and nothing else.
The forward passes are ours, so the loss is handed log-probabilities where it would ask a model: one summed up value a
row, as if it were the row's only token. TRL's version is pinned, and tests compare with its whole trainers.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import torch
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_trainer import KTOTrainer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says that this part of TRL may change; its version is pinned
    from trl.experimental.orpo.orpo_trainer import ORPOTrainer


class _Alone:
    """Stands for accelerate's object in one process: means over ranks are ours to take."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        return values

    gather_for_metrics = gather


def _set_up(formula: Any, device: torch.device) -> None:
    formula.accelerator = _Alone(device)
    formula.model = SimpleNamespace(training=True)
    formula._metrics = defaultdict(lambda: defaultdict(list))
    formula._total_train_tokens, formula._tp_size = 0, 1
    formula.aux_loss_enabled, formula.precompute_ref_logps = False, True


def _rows_of_one_token(logps: torch.Tensor) -> tuple[Any, dict[str, torch.Tensor]]:
    """A model that gives these log-probabilities, and the inputs that it is asked with."""
    values = logps[:, None]
    nothing = torch.zeros_like(values)
    output = SimpleNamespace(
        log_probs=values, entropy=nothing, mean_logits=nothing, is_top1=torch.zeros_like(values, dtype=torch.bool)
    )
    ones = torch.ones(len(logps), 2, dtype=torch.long, device=logps.device)
    return lambda **_: output, {"input_ids": ones, "attention_mask": ones, "completion_mask": ones}


def _loss_of(formula: Any, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    loss: torch.Tensor = formula.compute_loss(model, inputs)
    return loss


class DPOFormula(DPOTrainer):
    """The sigmoid loss of DPO (Rafailov et al., 2023)."""

    def __init__(self, beta: float, device: torch.device) -> None:
        _set_up(self, device)
        self.beta = beta
        self.loss_types, self.loss_weights = ["sigmoid"], [1.0]
        self.f_divergence_type, self.ld_alpha, self.use_weighting, self.label_smoothing = "reverse_kl", None, False, 0.0

    def mean(self, logps: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """Mean loss of pairs; both arguments (2 x pairs,), the preferred rows first."""
        model, inputs = _rows_of_one_token(logps)
        chosen, rejected = references.chunk(2)
        return _loss_of(self, model, {**inputs, "ref_chosen_logps": chosen, "ref_rejected_logps": rejected})


class KTOFormula(KTOTrainer):
    """The loss of KTO (Ethayarajh et al., 2024)."""

    def __init__(self, beta: float, device: torch.device) -> None:
        _set_up(self, device)
        self.beta = beta
        self.calculate_KL, self.loss_type = True, "kto"
        self.desirable_weight = self.undesirable_weight = 1.0

    def mean(
        self, logps: torch.Tensor, references: torch.Tensor, desirable: torch.Tensor, divergence: torch.Tensor
    ) -> torch.Tensor:
        """Mean loss of rows (rows,); `divergence` (a scalar) is how far the model is from its reference."""
        model, inputs = _rows_of_one_token(logps)
        judged = {"label": desirable, "ref_logps": references, "ref_KL_logps": torch.zeros_like(divergence)}
        return _loss_of(self, model, {**inputs, **judged, "divergence": divergence})

    def _compute_kl_logps(self, model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Taken over the whole global batch already, which one micro-batch does not know."""
        return batch["divergence"]


class ORPOFormula(ORPOTrainer):
    """The odds ratio of ORPO (Hong et al., 2024)."""

    def __init__(self, beta: float, device: torch.device) -> None:
        _set_up(self, device)
        self.beta = beta

    def sum(self, chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        """Summed loss of pairs; the arguments (pairs,) are mean log-probabilities of the answers' tokens."""
        formula: Any = self
        gains: torch.Tensor = formula.odds_ratio_loss(chosen, rejected)[0]
        return -gains.sum()
