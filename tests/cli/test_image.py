"""`spotune image`: a builder's stand-in that remembers what it was told, and ECR by moto."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import yaml
from moto import mock_aws

from spotune.cli import main
from spotune.cli.image import instruction
from spotune.cli.settings_file import write_settings
from spotune.deploy.image import builders
from spotune.deploy.image.builders import Layer, local_reference
from spotune.deploy.image.context import ImageSpec

REGION = "eu-west-1"
LAYERS = [
    Layer("/bin/sh -c #(nop) ADD file:1 in / ", 74_800_000, "sha256:a"),
    Layer("|3 A=1 B=2 C=3 /bin/sh -c --mount=type=secret,id=pip pip install", 512, "sha256:b"),
]
BUILDAH = f"""#!{sys.executable}
import json, sys
from pathlib import Path
home, words = Path(__file__).parent, sys.argv[1:]
with (home / "calls").open("a") as calls:
    calls.write(json.dumps(words) + "\\n")
if words[0] == "build":
    (home / "built").write_text(words[words.index("--tag") + 1])
if words[0] == "inspect":
    built = home / "built"
    if not built.exists() or built.read_text() != words[-1]:
        sys.exit("no such image")
    layers = {[(layer.made_by, layer.bytes, layer.digest) for layer in LAYERS]!r}
    print(json.dumps({{
        "OCIv1": {{"history": [{{"created_by": made_by}} for made_by, _, _ in layers]}},
        "Manifest": json.dumps({{"layers": [{{"size": size, "digest": digest}} for _, size, digest in layers]}}),
    }}))
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with buildah, and a folder with settings."""
    program = tmp_path / "buildah"
    program.write_text(BUILDAH)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_settings(Path("spotune-deploy.yaml"), REGION)
    return tmp_path


@pytest.fixture
def arriving(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """ECR, in which an image appears when it is pushed."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")

    def push(self: object, reference: str, target: str, *_: object, **__: object) -> None:
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": {"digest": "sha256:1"}, "layers": []})
        repository, _, tag = target.partition("/")[2].partition(":")
        ecr = boto3.client("ecr", region_name=REGION)
        ecr.put_image(repositoryName=repository, imageManifest=manifest, imageTag=tag)

    monkeypatch.setattr(builders.Builder, "push", push)
    with mock_aws():
        yield


def test_a_build_prints_each_layer_with_its_size(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["image", "build"]) == 0
    out = capsys.readouterr().out
    assert f"{local_reference(ImageSpec())}: 74.8 MB unpacked, built by buildah" in out
    assert "ADD file:1 in /" in out
    assert "#(nop)" not in out
    assert main.run(["image", "build", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == 74_800_512
    assert told["layers"][1] == {"made_by": "pip install", "bytes": 512, "digest": "sha256:b"}


PINNED = f"docker.io/nvidia/cuda@sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("options", "base", "repository"),
    [
        ([], "docker.io/nvidia/cuda:13.0.2-base-ubuntu24.04", "docker.io/nvidia/cuda"),
        (["--accelerator", "cpu"], "docker.io/library/debian:bookworm-slim", "docker.io/library/debian"),
        (["--base", "registry.test:5000/cuda"], "registry.test:5000/cuda", "registry.test:5000/cuda"),
        (["--base", PINNED], PINNED, None),
    ],
)
def test_a_base_without_a_digest_is_told_with_the_way_to_pin_it(
    home: Path, capsys: pytest.CaptureFixture[str], options: list[str], base: str, repository: str | None
) -> None:
    assert main.run(["image", "build", *options]) == 0
    warned = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Note:")]
    assert len(warned) == (repository is not None)
    if repository:
        assert f"the base {base} is not pinned" in warned[0]
        assert f"--base {repository}@sha256:..." in warned[0]
    assert main.run(["image", "build", *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["base"] == base


def test_a_push_names_the_image_in_the_settings_by_its_digest(
    home: Path, arriving: None, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("spotune-deploy.yaml").read_text().splitlines()
    assert main.run(["image", "build"]) == 0
    capsys.readouterr()
    assert main.run(["image", "push", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sent"] is True
    named = yaml.safe_load(Path("spotune-deploy.yaml").read_text())["image"]
    assert named == told["image"]
    assert f".dkr.ecr.{REGION}.amazonaws.com/spotune-training@sha256:" in named
    changed = [line for line in Path("spotune-deploy.yaml").read_text().splitlines() if line not in before]
    assert changed == [f'image: "{named}"']
    assert main.run(["image", "push"]) == 0
    assert "It was there already" in capsys.readouterr().out


def test_what_was_not_built_with_these_options_is_not_pushed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["image", "build"]) == 0
    assert main.run(["image", "push", "--accelerator", "cpu", "--json"]) == 2
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["error"]["code"] == "image_not_here"
    assert yaml.safe_load(Path("spotune-deploy.yaml").read_text())["image"] is None


@pytest.mark.parametrize(
    ("made_by", "shown"),
    [
        ("/bin/sh -c #(nop) COPY dir:1 in /opt/spotune ", "COPY dir:1 in /opt/spotune"),
        ("|2 ACCELERATOR=cpu PIP_NO_DEPS=1 /bin/sh -c pip install -r a.txt", "pip install -r a.txt"),
        ("|1 A=b /bin/sh -c --mount=type=secret,id=pip --mount=type=secret,id=c pip check", "pip check"),
        ("RUN |1 A=b /bin/sh -c pip check # buildkit", "pip check # buildkit"),
        ("COPY code /opt/spotune # buildkit", "COPY code /opt/spotune # buildkit"),
    ],
)
def test_an_instruction_is_shown_as_the_dockerfile_has_it(made_by: str, shown: str) -> None:
    assert instruction(Layer(made_by, 1, None)) == shown
