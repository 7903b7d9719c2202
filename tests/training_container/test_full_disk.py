"""A disk that takes no more: a typed failure, the earlier checkpoints whole, and a run that goes on once there is room.

The limit is the system's own, on the size of a file (RLIMIT_FSIZE), so that real writes fail inside the libraries.
"""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from spotune.contracts.training import ExitCode
from tests.training_container.building import failure_of
from tests.training_container.kills import train
from training_container import faults
from training_container.checkpoints import verified_manifest
from training_container.folders import Folders
from training_container.outcome import Outcome, tell
from training_container.writing import write_file

pytestmark = pytest.mark.torch

Root = Callable[..., Path]
ROOM = 12_000
"""Bytes: a tiny run's progress and log fit, its weights and its optimizer's state do not."""


def limit() -> None:
    """From now on no file of this process grows beyond `ROOM`."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, resource.RLIM_INFINITY))


def in_training() -> None:
    """In the process that trains: the disk is full from the fifth step on."""
    from training_container.trainer import Trainer

    steps = Trainer._step

    def step(trainer: Trainer) -> None:
        if trainer.state.step == 4:
            trainer._saver.wait()  # whatever is on its way to the disk still finds room
            limit()
        steps(trainer)

    Trainer._step = step  # type: ignore[method-assign]


def in_publication() -> None:
    """In the process that trains: the disk is full when the model is published."""
    from training_container import job

    publish = job.publish

    def full(*arguments: Any, **options: Any) -> Any:
        limit()
        return publish(*arguments, **options)

    job.publish = full


@pytest.mark.parametrize("prepare", [in_training, in_publication])
def test_a_full_disk_is_a_typed_failure_that_a_run_goes_on_from_where_there_is_room(
    root: Root, prepare: Callable[[], None]
) -> None:
    whole, full = root("whole"), root("full")
    assert train(whole, looks=False) == ExitCode.PUBLISHED
    assert train(full, looks=False, prepare=prepare) == ExitCode.USER_ERROR
    assert failure_of(full).code == "disk_full"
    folders = list((full / "checkpoints").glob("checkpoint-*"))
    assert {verified_manifest(folder).step for folder in folders} >= ({3, 4} if prepare is in_training else {9, 10})
    assert not (full / "model" / "report.json").exists()
    assert not list((full / "checkpoints").glob(".partial-*"))
    assert train(full, looks=False) == ExitCode.PUBLISHED
    one, other = (load_file(folder / "model" / "adapter_model.safetensors") for folder in (whole, full))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.pt"])
def test_a_checkpoints_file_is_read_back_as_it_was_and_its_hash_is_the_files(tmp_path: Path, name: str) -> None:
    types = (torch.float32, torch.bfloat16, torch.float16, torch.uint8, torch.int64, torch.bool)
    tensors = {str(kind): torch.arange(7).to(kind) for kind in types}
    tensors |= {"scalar": torch.tensor(3.5), "empty": torch.empty(0, 3), "turned": torch.arange(6.0).view(2, 3).t()}
    write_file(tmp_path / name, tensors)
    path = tmp_path / name
    read = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    assert read.keys() == tensors.keys()
    for key, tensor in tensors.items():
        assert torch.equal(read[key], tensor)
        assert (read[key].dtype, read[key].shape) == (tensor.dtype, tensor.shape)


def test_a_library_that_says_in_its_own_words_that_the_disk_is_full_is_understood(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        with pytest.raises(SafetensorError) as caught:
            save_file({"weights": torch.zeros(ROOM)}, tmp_path / "weights.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert faults.failure_of(caught.value)[0].code == "disk_full"
    assert faults.failure_of(OSError(errno.EDQUOT, "Disk quota exceeded"))[0].code == "disk_full"


def test_the_exit_code_says_it_even_where_the_failure_itself_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "output").write_bytes(b"")
    full = Outcome.of_error(OSError(errno.ENOSPC, "No space left on device"))
    assert tell(full, Folders(tmp_path)) == ExitCode.USER_ERROR
    assert "disk_full" in capsys.readouterr().err
