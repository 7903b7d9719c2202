"""A process that dies by SIGKILL while it publishes: the next one publishes everything, whole."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from spotune.contracts.training import ExitCode
from tests.training_container.building import report_of
from tests.training_container.kills import train

pytestmark = pytest.mark.torch

Root = Callable[..., Path]


def die(*arguments: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_the_report() -> None:
    """The weights are in the model folder, nothing else is."""
    from training_container.publication import folder

    folder.copy_tokenizer = die  # type: ignore[assignment]


def before_the_merged_model_is_moved_in() -> None:
    """The model folder is complete, and the merged model lies beside it."""
    from training_container.publication import outputs

    outputs.shutil.move = die  # type: ignore[attr-defined]


@pytest.mark.parametrize("prepare", [before_the_report, before_the_merged_model_is_moved_in])
def test_the_next_process_publishes_the_same_weights_and_all_outputs(root: Root, prepare: Callable[[], None]) -> None:
    whole, killed = (root(name, outputs={"merged": True}) for name in ("whole", "killed"))
    assert train(whole, looks=False) == ExitCode.PUBLISHED
    assert train(killed, looks=False, prepare=prepare) == -signal.SIGKILL
    assert (killed / "model/report.json").exists() == (prepare is before_the_merged_model_is_moved_in)
    assert not (killed / "model/merged").exists()
    left = killed / "model" / "left over"
    left.write_text("of an attempt that was cut short")
    assert train(killed, looks=False) == ExitCode.PUBLISHED
    assert not left.exists()
    assert not (killed / "scratch").exists()
    assert [each.name for each in report_of(killed).outputs] == ["adapter", "merged"]
    for name in ("adapter_model.safetensors", "merged/model.safetensors"):
        one, other = (load_file(folder / "model" / name) for folder in (whole, killed))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
