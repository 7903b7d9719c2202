"""What each builder is told, and what is read from what it says. `make image-test` builds for real."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from spotune.contracts.errors import RequestRefused, SpotuneError, Unavailable
from spotune.deploy.image import builders
from spotune.deploy.image.builders import Builder, BuilderName, Layer, build, find_builder, local_reference
from spotune.deploy.image.context import ImageSpec
from spotune.deploy.image.pip_settings import Mounts

MANIFEST = {
    "OCIv1": {
        "history": [
            {"created_by": "/bin/sh -c #(nop) ADD file:1 in / "},
            {"created_by": "/bin/sh -c #(nop) ENV PATH=/bin", "empty_layer": True},
            {"created_by": "/bin/sh -c #(nop) COPY dir:2 in /opt/spotune "},
        ]
    },
    "Manifest": json.dumps({"layers": [{"size": 100, "digest": "sha256:a"}, {"size": 20, "digest": "sha256:b"}]}),
}
DOCKER_HISTORY = "\n".join(
    json.dumps({"CreatedBy": made_by, "Size": size})
    for made_by, size in (
        ("COPY code /opt/spotune # buildkit", "20"),
        ("ENV PATH=/bin", "0"),
        ("ADD file:1 in /", "100"),
    )
)
SECRETS = Mounts({"pip": Path("/tmp/settings/pip.conf")}, {})
FOLDERS = Mounts(SECRETS.secrets, {Path("/wheels"): "/run/packages/0"})


def stand_in(folder: Path, name: str, program: str) -> Builder:
    """A program of this name on a path of its own; `calls` beside it holds what it was given."""
    path = folder / name
    calls = folder / "calls"
    path.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        f"open({str(calls)!r}, 'a').write(json.dumps([sys.argv[1:], dict(os.environ)]) + '\\n')\n{program}\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return Builder(name, str(path))  # type: ignore[arg-type]


def calls(builder: Builder) -> list[tuple[list[str], dict[str, str]]]:
    lines = Path(builder.executable).with_name("calls").read_text().splitlines()
    return [(words, environment) for words, environment in map(json.loads, lines)]


@pytest.mark.parametrize("name", ["docker", "podman", "buildah"])
def test_the_manifest_is_dockers_own_for_one_platform(name: BuilderName) -> None:
    """SageMaker takes no other."""
    command = Builder(name, name).build_command(Path("/context"), "spotune:1", ImageSpec("cpu"), SECRETS)
    text = " ".join(command)
    assert "--platform linux/amd64" in text
    assert "--build-arg ACCELERATOR=cpu" in text
    assert ("--provenance=false --output type=docker" if name == "docker" else "--format docker") in text
    assert "--secret id=pip,src=/tmp/settings/pip.conf" in text
    assert command[-1] == "/context"


@pytest.mark.parametrize("name", ["docker", "podman", "buildah"])
def test_the_image_says_what_it_stands_on(name: BuilderName) -> None:
    kind, pinned = "org.opencontainers.image.base", f"docker.io/nvidia/cuda@sha256:{'0' * 64}"
    said = {
        spec: " ".join(Builder(name, name).build_command(Path("/context"), "spotune:1", spec, SECRETS))
        for spec in (ImageSpec(), ImageSpec(base=pinned))
    }
    assert f"--label {kind}.name=docker.io/nvidia/cuda:" in said[ImageSpec()]
    assert f"{kind}.digest" not in said[ImageSpec()]
    assert f"--label {kind}.name={pinned} --label {kind}.digest=sha256:{'0' * 64}" in said[ImageSpec(base=pinned)]


def test_folders_of_packages_are_mounted_where_the_builder_can() -> None:
    for name in ("podman", "buildah"):
        command = Builder(name, name).build_command(Path("/context"), "spotune:1", ImageSpec(), FOLDERS)
        assert "/wheels:/run/packages/0:ro" in command
    with pytest.raises(RequestRefused) as refused:
        Builder("docker", "docker").build_command(Path("/context"), "spotune:1", ImageSpec(), FOLDERS)
    assert refused.value.code == "folder_not_mounted"


def test_layers_are_told_from_the_base_upwards(tmp_path: Path) -> None:
    assert stand_in(tmp_path, "buildah", f"print({json.dumps(MANIFEST)!r})").layers("spotune:1") == [
        Layer("/bin/sh -c #(nop) ADD file:1 in / ", 100, "sha256:a"),
        Layer("/bin/sh -c #(nop) COPY dir:2 in /opt/spotune ", 20, "sha256:b"),
    ]
    assert stand_in(tmp_path, "docker", f"print({DOCKER_HISTORY!r})").layers("spotune:1") == [
        Layer("ADD file:1 in /", 100, None),
        Layer("COPY code /opt/spotune # buildkit", 20, None),
    ]


def test_an_image_that_is_not_here_is_said_to_be_missing(tmp_path: Path) -> None:
    builder = stand_in(tmp_path, "podman", "sys.exit('no such image')")
    assert not builder.has("spotune:1")
    with pytest.raises(SpotuneError, match="no such image") as failed:
        builder.layers("spotune:1")
    assert failed.value.code == "builder_failed"


def test_docker_without_its_daemon_or_buildx_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable) as missing:
        find_builder()
    assert missing.value.code == "builder_missing"
    stand_in(tmp_path, "buildah", "")
    for lacking in ("version", "buildx"):
        stand_in(tmp_path, "docker", f"sys.exit(sys.argv[1] == {lacking!r})")
        assert find_builder().name == "buildah"
        with pytest.raises(Unavailable, match="no docker here"):
            find_builder("docker")
    stand_in(tmp_path, "docker", "")
    assert find_builder().name == "docker"


def test_a_build_gets_the_context_and_the_settings_and_leaves_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builders, "read_settings", lambda: {"index-url": "https://user:secret@example.org/simple"})
    look = (
        "context = sys.argv[-1]\n"
        "secret = next(word for word in sys.argv if word.startswith('id=pip,')).partition('src=')[2]\n"
        "assert os.path.exists(context + '/Dockerfile') and 'user:secret' in open(secret).read()\n"
        "assert 'secret@' not in ' '.join(sys.argv)\n"
    )
    builder = stand_in(tmp_path, "buildah", look)
    assert build(builder, ImageSpec("cpu")) == local_reference(ImageSpec("cpu"))
    ((words, _),) = calls(builder)
    assert words[words.index("--tag") + 1] == local_reference(ImageSpec("cpu"))
    assert not Path(words[-1]).exists()


def test_a_build_that_fails_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    builder = stand_in(tmp_path, "buildah", "sys.exit(125)")
    with pytest.raises(SpotuneError, match="exit code 125") as failed:
        build(builder, ImageSpec("cpu", base="localhost/base"))
    assert failed.value.code == "image_not_built"
    assert not Path(calls(builder)[0][0][-1]).exists()


@pytest.mark.parametrize("name", ["docker", "podman", "buildah"])
def test_a_push_knows_the_password_by_a_file_that_is_gone_afterwards(tmp_path: Path, name: BuilderName) -> None:
    """Not by the command line, which every user of the machine reads, and not by a login, which keychains keep."""
    host = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    look = (
        "if sys.argv[1] == 'push':\n"
        "    variable = 'DOCKER_CONFIG' if sys.argv[0].endswith('docker') else 'REGISTRY_AUTH_FILE'\n"
        "    place = os.environ[variable]\n"
        "    file = os.path.join(place, 'config.json') if os.path.isdir(place) else place\n"
        f"    assert json.load(open(file)) == {{'auths': {{{host!r}: {{'auth': 'QVdTOmhpZGRlbg=='}}}}}}\n"
    )
    builder = stand_in(tmp_path, name, look)
    builder.push("localhost/spotune:1", f"{host}/spotune-training:1", host, "hidden")
    made = calls(builder)
    assert "login" not in {words[0] for words, _ in made}
    assert not any("hidden" in " ".join(words) for words, _ in made)
    words, environment = made[-1]
    assert f"{host}/spotune-training:1" in words[-1]
    assert not os.path.exists(environment["DOCKER_CONFIG"])


def test_docker_pushes_from_the_daemon_that_has_built(tmp_path: Path) -> None:
    """Which one that is, docker reads in its settings, beside which the password is not put."""
    socket = "unix:///home/me/.colima/default/docker.sock"
    builder = stand_in(tmp_path, "docker", f"if sys.argv[1] == 'context': print({socket!r})")
    builder.push("localhost/spotune:1", "host/spotune-training:1", "host", "hidden")
    words, environment = calls(builder)[-1]
    assert (words, environment["DOCKER_HOST"]) == (["push", "host/spotune-training:1"], socket)


def test_a_registry_that_refuses_is_told(tmp_path: Path) -> None:
    builder = stand_in(tmp_path, "podman", "sys.exit(1 if sys.argv[1] == 'push' else 0)")
    with pytest.raises(SpotuneError) as failed:
        builder.push("spotune:1", "host/spotune:1", "host", "hidden")
    assert failed.value.code == "push_failed"
