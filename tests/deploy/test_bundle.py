"""The Lambda bundle."""

from __future__ import annotations

import importlib.metadata
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from spotune.contracts.errors import Unavailable
from spotune.deploy import bundle
from spotune.deploy.bundle import DISTRIBUTIONS, LEFT_OUT, BundleSources

AT_FIRST_USE = (
    *("boto3", "jinja2", "tokenizers"),
    *(
        "spotune.aws.deliveries",
        "spotune.aws.market",
        "spotune.aws.objects",
        "spotune.aws.queue",
        "spotune.aws.secrets",
        "spotune.aws.topic",
        "spotune.aws.training_jobs",
        "spotune.aws.webhooks",
        "spotune.data.plain_yaml",
        "spotune.data.tokens",
        "spotune.planner",
    ),
    "spotune.store.dynamo",
)
HANDLERS = ("api", "deliver", "keys", "launch", "reconcile", "refresh_market", "training_changed")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> BundleSources:
    """Our packages as a copy, so that a file saved meanwhile changes nothing."""
    folder, installed = tmp_path_factory.mktemp("sources"), BundleSources.installed()
    leave = shutil.ignore_patterns("__pycache__")
    return BundleSources(
        handlers=shutil.copytree(installed.handlers, folder / "handlers", ignore=leave),
        spotune=shutil.copytree(installed.spotune, folder / "spotune", ignore=leave),
        packages=installed.packages,
    )


@pytest.fixture(scope="module")
def built(sources: BundleSources, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle.build(tmp_path_factory.mktemp("bundles"), sources)


def test_handlers_and_what_they_import_at_first_use_import_from_the_bundle_alone(built: Path) -> None:
    handlers = [f"handlers.{name}" for name in HANDLERS]
    assert bundle.check_imports(built, *handlers, *AT_FIRST_USE) == ""


def test_what_is_not_in_the_bundle_is_found_missing(built: Path) -> None:
    assert "ModuleNotFoundError" in bundle.check_imports(built, "typer")


def test_it_fits_a_lambda_and_carries_neither_the_cli_nor_a_model_library(built: Path) -> None:
    assert bundle.unpacked_bytes(built) < 60 * 1024**2
    with zipfile.ZipFile(built) as archive:
        tops = {"/".join(name.split("/")[:2]) for name in archive.namelist()}
    assert not {"spotune/cli", "spotune/local"} & tops
    assert not [top for top in tops if top.startswith(("torch", "transformers", "sagemaker", "huggingface_hub"))]


def test_it_is_compiled_already_and_the_bytecode_names_no_folder_of_this_machine(built: Path) -> None:
    with zipfile.ZipFile(built) as archive:
        names = archive.namelist()
        (compiled,) = (name for name in names if name.startswith("handlers/__pycache__/keys."))
        assert str(Path.cwd()).encode() not in archive.read(compiled)
    assert len([n for n in names if n.endswith(".py")]) == len([n for n in names if n.endswith(".pyc")])


def test_every_requirement_of_what_it_carries_is_carried_or_left_out_on_purpose() -> None:
    for name in DISTRIBUTIONS:
        for requirement in importlib.metadata.requires(name) or ():
            if ";" in requirement:
                continue
            needed = requirement.split(">")[0].split("<")[0].split("=")[0].split("!")[0].split("[")[0].strip(" (~")
            assert needed.lower().replace("_", "-") in (*DISTRIBUTIONS, *LEFT_OUT.get(name, ())), name


def test_the_same_sources_give_the_same_bytes(built: Path, sources: BundleSources, tmp_path: Path) -> None:
    again = bundle.build(tmp_path, sources)
    assert again.name == built.name
    assert again.read_bytes() == built.read_bytes()


def test_a_second_build_makes_nothing(built: Path, sources: BundleSources) -> None:
    before = built.stat().st_mtime_ns
    assert bundle.build(built.parent, sources) == built
    assert built.stat().st_mtime_ns == before


def test_a_changed_handler_is_another_bundle(sources: BundleSources, tmp_path: Path) -> None:
    changed = shutil.copytree(sources.handlers, tmp_path / "handlers")
    (changed / "keys.py").write_text("")
    assert replace(sources, handlers=changed).fingerprint != sources.fingerprint


def test_a_missing_distribution_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bundle, "DISTRIBUTIONS", ("no-such-distribution",))
    with pytest.raises(Unavailable, match=r"no-such-distribution.*pip install") as refusal:
        bundle.build(tmp_path)
    assert refusal.value.code == "package_missing"
