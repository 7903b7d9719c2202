from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from spotune.contracts.request import Method
from spotune.contracts.training import ExitCode
from tests.training_container.building import chat, make_root, save_model, write_rows
from tests.training_container.reigning import make_job
from training_container.folders import Folders
from training_container.inputs import read_inputs
from training_container.job import run
from training_container.publication import outputs
from training_container.stop import StopRequest


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _frozen() -> None:
    """Each run gives memory back; what the libraries hold is not to be looked through each time."""
    gc.freeze()


@pytest.fixture
def without_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes as long as all the rest of a tiny run."""
    monkeypatch.setattr(outputs, "draw", lambda *_: None)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A published run that learnt to answer `yes`."""
    change = {
        "optimization": {"epochs": 12, "learning_rate": 0.02},
        "adapter": {"rank": 16, "alpha": 32, "dropout": 0.0},
    }
    folder = make_root(tmp_path_factory.mktemp("taught") / "ml", model, **change)
    data = folder / "input" / "data"
    write_rows(data / "training" / "train.jsonl", [chat(f"Row {number}", "yes") for number in range(40)])
    write_rows(data / "validation" / "heldout.jsonl", [chat(f"Row {number}", "yes") for number in range(40, 46)])
    assert run(read_inputs(Folders(folder)), StopRequest()) == ExitCode.PUBLISHED
    return folder


@pytest.fixture(scope="session")
def champions(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Callable[[Method], Path]:
    """A finished job by each method, trained when it is first asked for; see reigning.py."""
    folder = tmp_path_factory.mktemp("champions")
    known: dict[Method, Path] = {}

    def of(method: Method) -> Path:
        if method not in known:
            known[method] = make_job(folder / method, model, method)
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(outputs, "draw", lambda *_: None)
                assert run(read_inputs(Folders(known[method])), StopRequest()) == ExitCode.PUBLISHED
        return known[method]

    return of


@pytest.fixture
def make(tmp_path: Path, model: Path) -> Callable[..., Path]:
    """Makes an /opt/ml folder of a job whose group has a champion; see reigning.py."""
    return lambda name, *arguments, **more: make_job(tmp_path / name, model, *arguments, **more)


@pytest.fixture
def root(tmp_path: Path, model: Path) -> Callable[..., Path]:
    """Makes an /opt/ml folder; see `make_root`."""
    return lambda name="ml", **groups: make_root(tmp_path / name, model, **groups)


@pytest.fixture
def train() -> Callable[..., ExitCode]:
    """Runs a job in this process."""

    def run_here(root: Path, **options: Any) -> ExitCode:
        return run(read_inputs(Folders(root)), options.pop("stop", StopRequest()), **options)

    return run_here
