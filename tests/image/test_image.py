"""The image as it is built: what is in it, that it trains, and what a change of code changes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
from pathlib import Path

import psutil
import pytest

from spotune.cli.image import instruction
from spotune.cli.words import size
from spotune.contracts.training import ExitCode
from spotune.deploy.image import context
from spotune.deploy.image.builders import Builder, build
from spotune.deploy.image.context import ImageSpec
from spotune.deploy.image.registry import push
from tests.image.conftest import CANARY
from tests.image.machine import Entered
from tests.image.registry import running
from tests.infra.test_image import locked
from tests.training_container.building import failure_of, make_root, report_of, wait_for_step

pytestmark = pytest.mark.image

ROOT, NOBODY = "0:0", "10001:10001"
CHECKED_BY_HASH = 1
"""Bit of the flags in a .pyc file's header (PEP 552)."""
PLACES = ("etc", "opt", "root", "run", "tmp", "usr/local", "var")
"""Where something of the building machine could have stayed; the rest is Debian's."""


def make_ml(folder: Path, model: Path, user: str, **groups: object) -> Path:
    """/opt/ml as SageMaker lays it out, with nothing that leads out of it."""
    made = make_root(folder, model, **groups)
    channel = made / "input" / "data" / "model"
    channel.unlink()
    shutil.copytree(model, channel)
    hosts = {"current_host": "algo-1", "hosts": ["algo-1"], "current_instance_type": "ml.m5.large"}
    resources = made / "input" / "config" / "resourceconfig.json"
    resources.parent.mkdir(parents=True)
    resources.write_text(json.dumps(hosts))
    subprocess.run(["chown", "-R", user, str(made)], check=True)
    return made


def test_it_is_built_and_its_layers_are_told(
    builder: Builder, reference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = builder.layers(reference)
    with capsys.disabled():
        print(f"\n{reference}: {size(sum(layer.bytes for layer in layers))} unpacked")
        for number, layer in enumerate(layers, 1):
            print(f"{number:3} {size(layer.bytes):>9}  {instruction(layer)[:90]}")
    assert layers[-1].bytes < 5_000_000
    assert instruction(layers[-1]).startswith("COPY")


def test_a_change_of_code_changes_the_last_layer_alone_and_nothing_else_is_sent(
    builder: Builder,
    spec: ImageSpec,
    reference: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed = tmp_path / "chat.py"
    changed.write_text("raise SystemExit('changed')\n")
    with running() as registry:
        first = push(builder, reference, registry, secure=False)  # type: ignore[arg-type]
        sent = dict(registry.blobs)
        files = context.image_files() | {"code/training_container/chat.py": changed}
        monkeypatch.setattr(context, "image_files", lambda: files)
        other = build(builder, spec)
        before, after = ([layer.digest for layer in builder.layers(name)] for name in (reference, other))
        assert (len(before), before[:-1]) == (len(after), after[:-1])
        assert before[-1] != after[-1]
        second = push(builder, other, registry, secure=False)  # type: ignore[arg-type]
        new = {digest: count for digest, count in registry.blobs.items() if digest not in sent}
        assert {kind for _, kind in registry.manifests.values()} == {
            "application/vnd.docker.distribution.manifest.v2+json"
        }
    assert len(new) == 2  # the layer, and the description of the image
    assert first.uri != second.uri
    with capsys.disabled():
        print(f"\nsent: {size(sum(sent.values()))}; after a change of code: {size(sum(new.values()))}")


def test_the_same_files_are_the_same_image(builder: Builder, spec: ImageSpec, reference: str) -> None:
    before = builder.layers(reference)
    assert build(builder, spec) == reference
    assert builder.layers(reference) == before


def test_it_says_what_works_in_it_to_any_user(container: Entered) -> None:
    for user in (ROOT, NOBODY):
        told = container.run("/opt/venv/bin/python", "-m", "training_container.health", user=user)
        assert "image for cpu; GPUs 0; driver none" in told
        assert re.search(r"bitsandbytes [\d.]+: works on", told)
        assert "flash-attention: not installed" in told


def test_a_clusters_pods_have_their_program_in_it(container: Entered) -> None:
    """By the name that docs/kubernetes.md's manifests call it."""
    told = container.run("python", "-c", "import boto3, spotune.pod.__main__; print('here')", user=NOBODY)
    assert told.splitlines()[-1] == "here"


@pytest.mark.parametrize("user", [ROOT, NOBODY])
def test_its_own_entry_point_trains_without_a_network(
    container: Entered, tmp_path: Path, model: Path, user: str
) -> None:
    ml = make_ml(tmp_path / "ml", model, user, method="qlora")
    process = container.start(ml, user=user, OMP_NUM_THREADS="1", TRAINING_JOB_NAME="ftjob-1-1")
    told, _ = process.communicate(timeout=600)
    assert process.returncode == ExitCode.PUBLISHED, told
    assert report_of(ml).steps > 0
    assert (ml / "model" / "adapter_model.safetensors").exists()


def test_process_1_hears_sigterm_and_leaves_a_checkpoint(container: Entered, tmp_path: Path, model: Path) -> None:
    """A process 1 that listens to no signal is not reached by one."""
    epochs = {"epochs": 200}
    ml = make_ml(tmp_path / "ml", model, ROOT, optimization=epochs)
    process = container.start(ml, OMP_NUM_THREADS="1")
    wait_for_step(process, 3)
    (first,) = psutil.Process(process.pid).children()
    assert Path(os.readlink(f"/proc/{first.pid}/root")) == container.root
    assert re.search(r"NSpid:.*\t1\n", Path(f"/proc/{first.pid}/status").read_text())
    os.kill(first.pid, signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == ExitCode.STOPPED
    assert list((ml / "checkpoints").glob("checkpoint-*/manifest.json"))


def test_a_model_that_is_not_there_is_a_typed_failure(container: Entered, tmp_path: Path, model: Path) -> None:
    ml = make_ml(tmp_path / "ml", model, ROOT)
    (ml / "input" / "data" / "model" / "config.json").unlink()
    process = container.start(ml)
    process.communicate(timeout=120)
    assert (process.returncode, failure_of(ml).code) == (ExitCode.USER_ERROR, "model_missing")


def test_its_parts_are_those_that_were_locked(container: Entered) -> None:
    document = json.loads((container.root / "opt" / "parts.cdx.json").read_bytes())
    python = {part["name"]: part for part in document["components"] if part["purl"].startswith("pkg:pypi/")}
    wanted = locked("cpu")
    assert {name: python[name]["version"].partition("+")[0] for name in wanted} == wanted
    assert set(python) - set(wanted) <= {"pip"}
    assert any(part["purl"].startswith("pkg:deb/debian/g%2B%2B@") for part in document["components"])
    unlicensed = [name for name in wanted if "licenses" not in python[name]]
    assert unlicensed == []


def test_nothing_of_the_building_machine_is_left_in_it(container: Entered) -> None:
    """pip's settings may hold an index's password; times and logs would change layers."""
    places = [str(container.root / place) for place in PLACES]
    found = subprocess.run(["grep", "-rlsF", CANARY, *places], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (1, "")
    assert CANARY not in json.dumps(container.config)
    assert not [name for name in container.config["Env"] if name.startswith("PIP_")]
    for folder in ("var/lib/apt/lists", "var/log"):
        assert list((container.root / folder).iterdir()) == []


def test_bytecode_is_there_and_checked_by_content(container: Entered) -> None:
    """A layer's times are all the same, which bytecode that is checked by time would not survive: torch, transformers
    and the rest would be compiled anew at every start, by every rank, for the price of a GPU."""
    packages = container.root / "opt" / "venv" / "lib"
    by_time = [
        path
        for folder in (packages, container.root / "usr" / "lib" / "python3.11")
        for path in folder.rglob("*.pyc")
        if not struct.unpack_from("<I", path.read_bytes(), 4)[0] & CHECKED_BY_HASH
    ]
    assert by_time == []
    for name in ("torch/__init__", "transformers/modeling_utils", "peft/peft_model"):
        (source,) = packages.glob(f"python3.*/site-packages/{name}.py")
        assert list((source.parent / "__pycache__").glob(f"{source.stem}.*.pyc"))
