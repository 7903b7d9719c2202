"""What happens at which step: learning rate, evaluations; and the optimizer that they drive."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from spotune.contracts.training import OptimizationConfig
from training_container.corpus import DataOrder


def learning_rate(step: int, total: int, config: OptimizationConfig) -> float:
    """The rate of step `step` (from 0) of `total`: a linear warm-up, then a cosine that would reach 0 at `total`."""
    warmup = math.ceil(config.warmup_ratio * total)
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, total - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def evaluation_steps(order: DataOrder, per_epoch: int) -> frozenset[int]:
    """Steps after which the held-out loss is taken: after each share of each epoch."""
    epochs = order.total_steps // order.steps_per_epoch
    shares = (share / per_epoch for share in range(1, epochs * per_epoch + 1))
    return frozenset(round(order.steps_per_epoch * share) for share in shares) - {0}


def make_optimizer(parameters: Iterable[torch.nn.Parameter], config: OptimizationConfig) -> torch.optim.Optimizer:
    """AdamW, or bitsandbytes' paged one with 8-bit states. Norms and biases (one dimension) do not decay."""
    listed = list(parameters)
    groups = [
        {"params": [p for p in listed if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in listed if p.ndim < 2], "weight_decay": 0.0},
    ]
    filled = [group for group in groups if group["params"]]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(filled, lr=config.learning_rate)
    from training_container.paging import PagedAdamW

    optimizer: torch.optim.Optimizer = PagedAdamW(filled, lr=config.learning_rate)
    return optimizer
