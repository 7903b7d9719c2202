"""The wheel has all that it needs, and works where nothing of the repository is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("spotune", "handlers", "training_container", "infra")
OF_DEVELOPERS = frozenset({"infra/install_torch.sh"})
SPOTUNE = "import sys; from spotune.cli.main import run; sys.exit(run(sys.argv[1:]))"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git knows: a build leaves its marks in the folder that it builds from."""
    copy = tmp_path_factory.mktemp("sources")
    for name in known_files():
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    return copy


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    line = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(sources)]
    built = subprocess.run(line, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    # The wheel is made from the source distribution, so this proves both.
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def known_files() -> list[str]:
    """The repository's files, new ones included, ignored ones not."""
    line = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in listed if (ROOT / name).is_file()]


def python(installed: Path, folder: Path, *line: str) -> subprocess.CompletedProcess[str]:
    """Python in a folder that has nothing of the repository, with the wheel before everything else."""
    words = {"PYTHONPATH": str(installed), "SPOTUNE_HOME": str(folder / "home")}
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run([sys.executable, "-P", *line], cwd=folder, env=kept | words, capture_output=True, text=True)


def test_every_file_of_the_packages_is_in_it_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {name for name in known_files() if name.partition("/")[0] in PACKAGES} - OF_DEVELOPERS


def test_what_runs_is_the_wheel(installed: Path, tmp_path: Path) -> None:
    ran = python(installed, tmp_path, "-c", "import spotune, handlers; print(spotune.__file__, handlers.__file__)")
    assert all(path.startswith(str(installed)) for path in ran.stdout.split())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert python(installed, tmp_path, "-c", SPOTUNE, "--version").stdout == f"spotune {version}\n"


def test_a_job_is_planned_by_it(installed: Path, tmp_path: Path) -> None:
    for name in ("job.yaml", "train.jsonl", "heldout.jsonl"):
        shutil.copyfile(ROOT / "examples" / "support_routing" / name, tmp_path / name)
    ran = python(installed, tmp_path, "-c", SPOTUNE, "plan", "job.yaml", "--offline")
    assert ran.returncode == 0, ran.stderr
    assert "worst case" in ran.stdout


def test_the_template_is_found_from_it(installed: Path, tmp_path: Path) -> None:
    look = "from spotune.local.stack import TEMPLATE; print(TEMPLATE); assert TEMPLATE.is_file()"
    ran = python(installed, tmp_path, "-c", look)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(str(installed))


def test_what_is_deployed_is_found_from_it(installed: Path, tmp_path: Path) -> None:
    assert python(installed, tmp_path, "-c", SPOTUNE, "deploy", "--init", "--region", "eu-west-1").returncode == 0
    assert (tmp_path / "spotune-deploy.yaml").exists()
    look = "\n".join(
        [
            "from spotune.deploy import bundle, templates, wheels",
            "sources = bundle.BundleSources.installed()",
            "assert 'handlers/api.py' in sources.files()",
            "print(templates.INSTALLATION, templates.REGION, templates.CODE, wheels.LOCK)",
            "print(sources.handlers, sources.spotune)",
        ]
    )
    ran = python(installed, tmp_path, "-c", look)
    assert ran.returncode == 0, ran.stderr
    found = ran.stdout.split()
    assert len(found) == 6
    assert all(path.startswith(str(installed)) and Path(path).exists() for path in found)


def test_the_training_image_is_laid_out_from_it(installed: Path, tmp_path: Path) -> None:
    look = (
        "from spotune.deploy.image.context import image_files\n"
        "files = image_files()\n"
        "print(*files.values(), sep='\\n')\n"
        "assert {'Dockerfile', 'libraries.txt', 'code/training_container/__main__.py'} <= set(files)\n"
    )
    ran = python(installed, tmp_path, "-c", look)
    assert ran.returncode == 0, ran.stderr
    assert all(path.startswith(str(installed)) for path in ran.stdout.splitlines())
