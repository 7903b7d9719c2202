"""The loss mask once more, on the very tensors that are trained on."""

from __future__ import annotations

from training_container.corpus import Batch
from training_container.faults import TrainingFault


def check_targets(batch: Batch) -> Batch:
    """The batch, on the CPU, if each target is the token that follows its position, within one row.

    Positions begin at 0 with each row and are 0 in padding, so a target at the next position is neither the first
    token of another row nor padding.

    Raises:
        TrainingFault: some target is another token, of another row, or padding.
    """
    lines, columns = batch.chosen.nonzero(as_tuple=True)
    at = batch.kept[columns]
    last = batch.ids.shape[1] - 1
    following = (at + 1).clamp(max=last)
    same_row = batch.positions[lines, following] == batch.positions[lines, at] + 1
    wrong = ~(same_row & (batch.ids[lines, following] == batch.targets) & (at < last))
    if wrong.any():
        first = int(wrong.nonzero()[0])
        raise TrainingFault(
            "loss_mask_broken",
            f"{int(wrong.sum())} of {len(wrong)} targets are padding or belong to another row.",
            evidence=f"the first: line {int(lines[first])}, position {int(at[first])}",
            remedy="Report this: the trainer made the batch, no data should be able to.",
        )
    return batch
