"""`spotune-deploy.yaml`: written once, read with its lines, changed in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from spotune.cli.settings_file import read_settings, replace_setting, write_settings
from spotune.contracts.errors import Conflict, NotFound, RequestRefused
from spotune.deploy.settings import Settings

IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/spotune-training:1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "spotune-deploy.yaml"
    write_settings(path, "eu-west-1")
    return path


def test_a_new_file_holds_every_default(path: Path) -> None:
    assert read_settings(path) == Settings(region="eu-west-1")


def test_a_file_is_never_written_over(path: Path) -> None:
    path.write_text("stage: mine\n")
    with pytest.raises(Conflict, match="exists already"):
        write_settings(path, "us-east-1")
    assert path.read_text() == "stage: mine\n"


def test_nothing_is_written_for_a_region_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(RequestRefused, match="region"):
        write_settings(tmp_path / "new.yaml", "Ireland")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_named_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.yaml.*spotune deploy --init"):
        read_settings(tmp_path / "none.yaml")


def test_faults_are_named_with_their_lines_and_the_field_that_was_meant(path: Path) -> None:
    path.write_text("region: eu-west-1\nbudgets:\n  monthly_limit: 3\nlog_retention_days: 31\n")
    with pytest.raises(RequestRefused) as refusal:
        read_settings(path)
    assert "line 3: unknown field 'budgets.monthly_limit'. Did you mean 'monthly_limit_usd'?" in str(refusal.value)
    assert "line 4: 'log_retention_days'" in str(refusal.value)


def test_one_setting_is_replaced_and_every_other_line_stays(path: Path) -> None:
    before = path.read_text().splitlines()
    replace_setting(path, "image", IMAGE)
    assert read_settings(path).image == IMAGE
    changed = [(old, new) for old, new in zip(before, path.read_text().splitlines(), strict=True) if old != new]
    assert changed == [("image:", f'image: "{IMAGE}"')]


def test_a_setting_that_the_file_leaves_out_is_added(path: Path) -> None:
    path.write_text("region: eu-west-1")
    replace_setting(path, "image", IMAGE)
    assert path.read_text() == f'region: eu-west-1\nimage: "{IMAGE}"\n'


def test_a_value_that_cannot_be_read_again_leaves_the_file_as_it_was(path: Path) -> None:
    before = path.read_text()
    with pytest.raises(RequestRefused, match="ECR"):
        replace_setting(path, "image", "library/python")
    assert path.read_text() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
