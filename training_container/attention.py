"""How attention is computed on the machine that was found, and proof that packed rows do not see each other.

On a GPU by flash-attention where it is installed, else by torch's own kernels under a mask. On a CPU row by row: there
torch's kernel computes the whole square of a packed line, masked or not. A pass over 512 tokens of SmolLM2-135M, forth
and back, took 1.96 s of CPU so, and 1.31 s row by row (bf16, one thread).
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import torch
from torch.nn import functional

from training_container.corpus import Batch, Row, collate
from training_container.device import Machine, evaluating
from training_container.faults import TrainingFault
from training_container.health import FLASH, flash_problem

ROW_BY_ROW = "row_by_row"
SQUARE_TOKENS = 256
"""Rows up to this long are computed by matrix products that keep the square of probabilities; longer ones by a kernel
that keeps none."""
SEPARATION = 0.02
"""Rows are apart where another neighbour changes their logits by less than this share of the logits' deviation."""


def choose_attention(model: Any, machine: Machine) -> str:
    """Give the model the fastest exact attention that the machine has; returns its name.

    A model that its authors wrote no kernels for keeps its own, and so does one whose layers see chunks.
    """
    config = model.config
    if config._attn_implementation == "sdpa" and not getattr(config, "attention_chunk_size", None):
        wanted = _fastest(machine)
        if wanted != "sdpa":
            _register()
            model.set_attn_implementation(wanted)
            if config._attn_implementation != wanted:
                raise RuntimeError(f"the model kept {config._attn_implementation} instead of {wanted}")
    name: str = config._attn_implementation
    return name


def row_bounds(model: Any, batch: Batch) -> dict[str, Any]:
    """What a forward pass has to be told besides positions, so that packed rows do not see each other.

    transformers hands flash-attention the rows of a single line by their positions; those of several lines it would
    let see each other (`_is_packed_sequence`). Told where the rows begin it does not look at the positions, which would
    make the host wait for the GPU in every layer.
    """
    config = getattr(getattr(model, "module", model), "config", None)
    if batch.bounds is None or "flash" not in str(getattr(config, "_attn_implementation", "")):
        return {}
    bounds, longest = batch.bounds, batch.longest
    return {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest}


def check_separation(model: Any, machine: Machine) -> None:
    """Two rows that are packed into one line must not see each other.

    Raises:
        TrainingFault: the second row's logits depend on the first.
    """
    vocabulary = model.get_input_embeddings().weight.shape[0]
    rows = [Row(torch.arange(8, dtype=torch.int32) % vocabulary, torch.ones(8, dtype=torch.bool))]
    rows.append(replace(rows[0], ids=rows[0].ids.flip(0)))
    batch = collate([(first, rows[0]) for first in rows], pad=0).to(machine.device)
    with evaluating(model), machine.autocast():
        output = model(
            input_ids=batch.ids,
            position_ids=batch.positions,
            attention_mask=None,
            use_cache=False,
            **row_bounds(model, batch),
        )
    logits = output.logits[:, -8:].float()
    moved = float((logits[0] - logits[1]).abs().max() / logits.std())
    if not moved < SEPARATION:
        raise TrainingFault(
            "packing_leaks",
            "With this model, rows that are packed into one sequence see each other.",
            evidence=f"another first row moved the second one's logits by {moved:.2g} deviations",
            remedy="Set training.packing to false: the model's layers do not tell rows apart by their positions.",
        )


def _fastest(machine: Machine) -> str:
    if machine.device.type == "cpu":
        return ROW_BY_ROW
    flash = machine.precision != "fp32" and torch.cuda.get_device_capability(machine.device) >= (8, 0)
    return "flash_attention_2" if flash and find_spec(FLASH) and flash_problem(machine) is None else "sdpa"


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ROW_BY_ROW, row_by_row)
    AttentionMaskInterface.register(ROW_BY_ROW, mask_unless_by_rows)


def mask_unless_by_rows(
    batch_size: int, q_length: int, kv_length: int, *, attention_mask: torch.Tensor | None = None, **options: Any
) -> torch.Tensor | None:
    """No mask where positions alone tell rows apart: no padding was masked out, and no cache stands before."""
    from transformers.masking_utils import sdpa_mask

    if attention_mask is None and q_length == kv_length:
        return None
    mask: torch.Tensor | None = sdpa_mask(batch_size, q_length, kv_length, attention_mask=attention_mask, **options)
    return mask


def row_by_row(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row of each line. A row begins at each position that does not follow the last.

    Shapes: `query` (lines, heads, tokens, width); `key` and `value` may have fewer heads. Returns (lines, tokens,
    heads, width).
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    positions = options.get("position_ids")
    if attention_mask is not None or query.shape[2] != key.shape[2] or positions is None or positions.ndim != 2:
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **options
        )
        return output
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    window = options.get("sliding_window")
    lines = []
    for line, lengths in enumerate(map(_row_lengths, positions.expand(len(query), -1))):
        queries, keys, values = (torch.split(part[line], lengths, dim=1) for part in (query, key, value))
        rows = [_attend(q, k, v, scale, window, dropout) for q, k, v in zip(queries, keys, values, strict=True)]
        lines.append(torch.cat(rows, dim=1))
    return torch.stack(lines).transpose(1, 2), None


def _row_lengths(positions: torch.Tensor) -> list[int]:
    """Lengths of the rows of one line. Padding, a run of zeros at the end, is one row: nothing reads what it gives."""
    tokens = len(positions)
    filled = positions.nonzero()
    end = int(filled[-1]) + 1 if len(filled) else 0
    starts = [0, *((positions[1:end] != positions[: end - 1] + 1).nonzero().flatten() + 1).tolist()]
    bounds = [*starts, *([end] if 0 < end < tokens else []), tokens]
    return [after - before for before, after in itertools.pairwise(bounds)]


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None, dropout: float
) -> torch.Tensor:
    """One row: (heads, tokens, width)."""
    heads, tokens, width = query.shape
    banned = _banned(tokens, window, query)
    if tokens > SQUARE_TOKENS:
        bias = None if window is None or window >= tokens else banned
        batch = query[None], key[None], value[None]
        return functional.scaled_dot_product_attention(
            *batch, bias, dropout_p=dropout, is_causal=bias is None, scale=scale, enable_gqa=True
        )[0]
    groups = len(key)
    grouped = (query * scale).reshape(groups, heads // groups * tokens, width)
    scores = torch.bmm(grouped, key.transpose(1, 2)).view(heads, tokens, tokens)
    shares = functional.dropout((scores + banned).softmax(-1), dropout)
    return torch.bmm(shares.view(groups, -1, tokens), value).view(heads, tokens, -1)


def _banned(tokens: int, window: int | None, like: torch.Tensor) -> torch.Tensor:
    """Minus infinity where a token must not look: ahead, or further back than the window."""
    everywhere = torch.full((tokens, tokens), float("-inf"), dtype=like.dtype, device=like.device)
    ahead = everywhere.triu(1)
    return ahead if window is None or window >= tokens else ahead + everywhere.tril(-window)
