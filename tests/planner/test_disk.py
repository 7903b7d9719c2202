"""The disk that a run needs."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from spotune.contracts.training import OutputConfig
from spotune.planner import disk_gb
from tests import factories

WEIGHTS_AND_MOMENTS = 3 * 4
"""Bytes of a trained parameter in a checkpoint: 32 bits each for itself and AdamW's two moments."""


@given(st.integers(1, 8), st.integers(10**6, 10**11))
def test_every_checkpoint_that_is_ever_on_the_disk_is_counted(keep: int, parameters: int) -> None:
    """That there are no more of them is in tests/training_container/test_checkpoints.py."""
    config = factories.config(method="full", adapter=None)
    config = config.with_(checkpoint=config.checkpoint.with_(keep=keep))
    checkpoints = config.checkpoint.at_most * parameters * WEIGHTS_AND_MOMENTS
    model_and_published = parameters * (2 + 4)
    assert disk_gb(config, parameters, 0) >= math.ceil((checkpoints + model_and_published) / 10**9)


def test_disk_is_asked_for_by_what_is_trained_and_published_and_by_the_files() -> None:
    lora, full = factories.config(), factories.config(method="full", adapter=None)
    eight = 8 * 10**9
    assert disk_gb(lora, eight, 0) < 95, "with the image it fits onto the disk of an ml.g4dn.xlarge"
    assert disk_gb(full, eight, 0) > 8 * (2 + 4 * 12), "the newest two, the best, and the one being written"
    assert disk_gb(lora, eight, 10 * 10**9) == disk_gb(lora, eight, 0) + 40
    assert disk_gb(lora, eight, 0, 16 * 10**9) == disk_gb(lora, eight, 0) + 16, "a champion of whole weights"
    whole = lora.with_(outputs=OutputConfig(merged=True, gguf="f32"))
    assert disk_gb(whole, eight, 0) == disk_gb(lora, eight, 0) + 8 * (2 + 2 + 4)
