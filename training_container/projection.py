"""The projection onto the vocabulary with the cross-entropy behind it, in chunks: the logits never exist at once.

It happens inside the model's own output layer, so that whatever wraps the model (an adapter, DDP) sees one forward
pass. The gradient is computed along with the loss, with the products that the plain loss needs and none besides; for
that the output layer has to be frozen, as adapters leave it: a gradient of its own would need as much memory again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from training_container.corpus import Batch
from training_container.device import evaluating

CHUNK_LOGITS = 1 << 25
"""Logits that may exist at once (128 MiB in fp32). Fewer in all are computed as ever."""


@dataclass(slots=True)
class Asked:
    """What the output layer is to answer with; `answered` says that it did."""

    batch: Batch
    answered: bool = False


_asked: ContextVar[Asked | None] = ContextVar("asked", default=None)


@contextlib.contextmanager
def asking(batch: Batch) -> Iterator[Asked]:
    """In a forward pass inside, an output layer that can gives log-probabilities of the batch's targets, not logits.

    They are (targets, 1, 1), in fp32, where they are many enough to be worth it; look at `answered`.
    """
    asked = Asked(batch)
    token = _asked.set(asked)
    try:
        yield asked
    finally:
        _asked.reset(token)


def chunk_projection(model: Any) -> bool:
    """Let the model's output layer answer in chunks; False where it cannot.

    It has to be a plain frozen layer, and the model has to hand on what the layer gives: some cap or scale it.
    """
    head: Any = model.get_output_embeddings()
    frozen = type(head) is nn.Linear and not head.weight.requires_grad
    if not frozen or not _hands_on(model, head):
        return False
    vars(head)["forward"] = partial(_project, head)
    return True


def _hands_on(model: Any, head: Any) -> bool:
    """True where the model answers with the very values that its output layer gave."""
    ids = torch.arange(4, device=head.weight.device)[None]
    known = torch.tensor([-1000.0, -2.0, 50.0, 1000.0], device=ids.device).view(4, 1, 1)
    head.forward = lambda hidden: known
    try:
        with evaluating(model):
            output = model(input_ids=ids, position_ids=ids, use_cache=False).logits
    except (IndexError, RuntimeError, ValueError):  # it reckons with the shape
        return False
    finally:
        del head.forward
    return output.shape == known.shape and torch.equal(output.float(), known)


def _project(head: nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
    asked = _asked.get()
    if asked is None or len(asked.batch.targets) * head.out_features <= CHUNK_LOGITS:
        return nn.Linear.forward(head, hidden)
    batch, asked.answered = asked.batch, True
    if hidden.shape[1] != len(batch.kept):  # an architecture that takes no positions
        hidden = hidden[:, batch.kept]
    wanted = hidden.flatten(0, 1).index_select(0, batch.places)
    compute: Any = _Logps.apply
    logps: torch.Tensor = compute(wanted, head.weight, head.bias, batch.targets)
    return logps.view(-1, 1, 1)


class _Logps(torch.autograd.Function):
    """Log-probability of each target, (n,) in fp32, from hidden states (n, width)."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
    ) -> torch.Tensor:
        size = max(1, CHUNK_LOGITS // len(weight))
        logps, slopes = [], []
        for part, wanted in zip(torch.split(hidden, size), torch.split(targets[:, None], size), strict=True):
            logits = functional.linear(part, weight, bias)
            kind, logits = logits.dtype, logits.float()
            norm = logits.logsumexp(1, keepdim=True)
            logps.append((logits.gather(1, wanted) - norm).squeeze(1))
            if ctx.needs_input_grad[0]:
                slope = logits.sub_(norm).exp_().neg_()
                slope.scatter_add_(1, wanted, torch.ones_like(norm))
                slopes.append((slope.to(kind) @ weight).to(hidden.dtype))
        if slopes:
            ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(logps)

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (slopes,) = ctx.saved_tensors
        return slopes * given[0][:, None].to(slopes.dtype), None, None, None
