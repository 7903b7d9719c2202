"""The state file."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from spotune.local.state import ProcessMark, StackState, environment, read_state, state_path, write_state


@pytest.fixture
def state(tmp_path: Path) -> StackState:
    return StackState(
        api_url="http://127.0.0.1:1/api",
        api_key="sk-spotune-x",
        emulator_url="http://127.0.0.1:1",
        double_url="http://127.0.0.1:2",
        home=tmp_path / "home",
        data_bucket="d",
        artifacts_bucket="a",
        models_bucket="m",
        table="t",
        queue_url="q",
        supervisor=ProcessMark(pid=1, started="2"),
        started_at=1.0,
        deployed="f",
    )


def test_a_written_state_is_read_back_and_only_its_owner_can(state: StackState) -> None:
    write_state(state)
    assert read_state(state.home) == state
    assert stat.S_IMODE(state_path(state.home).stat().st_mode) == 0o600
    assert [path.name for path in state.home.iterdir()] == ["stack.json"]


@pytest.mark.parametrize("text", ["", "{", "{}", '{"api_url": 1}', "\ufeff", "null"])
def test_a_file_of_no_use_is_no_state(state: StackState, text: str) -> None:
    write_state(state)
    state_path(state.home).write_text(text)
    assert read_state(state.home) is None


def test_no_home_is_no_state(tmp_path: Path) -> None:
    assert read_state(tmp_path / "nowhere") is None


def test_sagemaker_and_prices_lead_to_the_double_and_the_rest_to_the_emulator(state: StackState) -> None:
    settings = environment(state)
    assert settings["AWS_ENDPOINT_URL"] == state.emulator_url
    for service in ("SAGEMAKER", "PRICING", "SERVICE_QUOTAS", "EC2"):
        assert settings[f"AWS_ENDPOINT_URL_{service}"] == state.double_url
