"""The workflows and forms of the repository's host fit its schemas, grant little, and call what exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from spotune.deploy.image.context import image_files

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
SCHEMAS = [
    *((path, "github-workflows") for path in WORKFLOWS),
    *((path, "github-issue-forms") for path in FORMS),
    (GITHUB / "ISSUE_TEMPLATE" / "config.yml", "github-issue-config"),
    (GITHUB / "dependabot.yml", "dependabot"),
]
TOOLS = Path(sys.executable).parent
PINNED = re.compile(r"[\w-]+/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def tool(*line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(TOOLS / line[0]), *line[1:]], capture_output=True, text=True, check=False)


def jobs() -> list[Any]:
    """Each job of each workflow that has steps of its own, by their names."""
    return [
        pytest.param(job, id=f"{path.stem}-{name}")
        for path in WORKFLOWS
        for name, job in yaml.safe_load(path.read_text())["jobs"].items()
        if "steps" in job
    ]


@pytest.mark.parametrize(("path", "schema"), SCHEMAS, ids=lambda one: getattr(one, "name", one))
def test_a_file_fits_its_schema(path: Path, schema: str) -> None:
    ran = tool("check-jsonschema", "--builtin-schema", f"vendor.{schema}", str(path))
    assert ran.returncode == 0, ran.stdout


def test_a_workflow_with_a_misspelt_key_would_be_seen(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yml"
    bad.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "run-on:"))
    assert tool("check-jsonschema", "--builtin-schema", "vendor.github-workflows", str(bad)).returncode != 0


def test_a_security_scan_of_the_workflows_finds_nothing() -> None:
    ran = tool("zizmor", "--offline", "--no-progress", str(GITHUB))
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_scan_sees_a_title_that_reaches_a_shell(tmp_path: Path) -> None:
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    injected = WORKFLOWS[0].read_text().replace("make check", "echo ${{ github.event.pull_request.title }}")
    (folder / "bad.yml").write_text(injected)
    ran = tool("zizmor", "--offline", "--no-progress", str(tmp_path))
    assert ran.returncode != 0
    assert "template-injection" in ran.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_commit_and_says_its_version(path: Path) -> None:
    uses = re.findall(r"uses: (.*)", path.read_text())
    assert uses
    ours = {f"$/{one.relative_to(ROOT)}" for one in WORKFLOWS}
    assert [one for one in uses if one not in ours and not PINNED.fullmatch(one)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_grants_nothing_and_its_jobs_grant_no_writing_of_the_repository(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    granted = {(name, what) for job in workflow["jobs"].values() for name, what in job["permissions"].items()}
    assert granted <= {("contents", "read"), ("pages", "write"), ("id-token", "write")}


def test_only_the_job_that_publishes_can_prove_who_it_is() -> None:
    release = yaml.safe_load((GITHUB / "workflows" / "release.yml").read_text())
    assert release["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    assert release["jobs"]["publish"]["environment"]["name"] == "pypi"
    assert "id-token" not in release["jobs"]["build"]["permissions"]
    # Nothing of the repository runs where the index can be written to.
    assert not [step for step in release["jobs"]["publish"]["steps"] if "run" in step]


def test_nothing_is_published_before_every_check_and_test_has_passed_on_it() -> None:
    release = yaml.safe_load((GITHUB / "workflows" / "release.yml").read_text())["jobs"]
    assert set(release["publish"]["needs"]) == {"build", "test"}
    assert not any({"if", "continue-on-error"} & set(job) for job in release.values())
    assert {"run": "make check"} in release["build"]["steps"]
    assert release["test"]["uses"] == "$/.github/workflows/test.yml"
    test = yaml.safe_load((GITHUB / "workflows" / "test.yml").read_text())
    assert "workflow_call" in test[True]  # YAML 1.1 reads `on` as a truth
    assert {"run": "make test"} in test["jobs"]["test"]["steps"]


@pytest.mark.parametrize("job", jobs())
def test_what_a_job_makes_is_a_target_of_the_makefile(job: dict[str, Any]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = {name for step in job["steps"] for name in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))}
    assert made <= targets
    assert job["timeout-minutes"] <= 90


def test_the_image_is_built_where_anything_changes_that_its_layers_are_made_of() -> None:
    workflow = yaml.safe_load((GITHUB / "workflows" / "image.yml").read_text())
    triggers = workflow[True]  # YAML 1.1 reads `on` as a truth
    watched = triggers["push"]["paths"]
    assert triggers["pull_request"]["paths"] == watched
    layers = {path.relative_to(ROOT).as_posix() for path in image_files().values()}
    builders = {path.relative_to(ROOT).as_posix() for path in (ROOT / "spotune" / "deploy" / "image").glob("*.py")}
    needed = layers | builders | {"constraints.txt", "pyproject.toml", "infra/image/libraries.txt"}
    assert not [name for name in needed if not any(matches(name, pattern) for pattern in watched)]
    assert not [pattern for pattern in watched if not list(ROOT.glob(pattern))], "what is watched is there"


def matches(name: str, pattern: str) -> bool:
    """As the host matches, for the two kinds that are used: a whole path, and all below a folder."""
    return name.startswith(pattern[:-2]) if pattern.endswith("/**") else name == pattern


def test_dependabot_watches_folders_that_hold_what_it_updates() -> None:
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text())["updates"]
    holds = {
        "pip": "pyproject.toml requirements*.txt",
        "docker": "Dockerfile",
        "github-actions": ".github/workflows/*.yml",
    }
    for one in updates:
        for folder in one.get("directories", [one.get("directory")]):
            place = ROOT / folder.strip("/")
            assert any(list(place.glob(name)) for name in holds[one["package-ecosystem"]].split()), folder
