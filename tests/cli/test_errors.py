from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from spotune.cli import main
from spotune.local import stack
from spotune.local.state import ProcessMark, StackState, write_state
from tests import tiny_model
from tests.cli.conftest import Run, Service
from tests.ports import free_port


def test_the_version_is_told(run: Run) -> None:
    assert run("--version").out.startswith("spotune 0.")


def test_help_names_every_command(run: Run) -> None:
    words = run().out
    names = "plan submit list show watch logs cancel chat data up down status reset demo"
    for name in names.split():
        assert f" {name} " in words
    assert "Example: spotune submit" in run("submit", "--help").out


@pytest.mark.parametrize("line", [["lst"], ["show"], ["list", "--limit", "0"], ["up", "--port", "http"]])
def test_wrong_usage_ends_with_2(run: Run, line: list[str]) -> None:
    assert run(*line).code == 2
    wrong = run(*line, "--json")
    assert (wrong.code, wrong.out, wrong.error["code"]) == (2, "", "usage")


def test_wrong_usage_names_the_help_of_the_command_that_was_meant(run: Run) -> None:
    assert "See `spotune data preview --help`." in run("data", "preview", "rows.jsonl").err
    assert "Did you mean 'plan', 'explain'? See `spotune --help`." in run("pln").err


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_refuses_is_told_with_the_folder_that_may_be_moved(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    def refuses(*_: object, **__: object) -> StackState:
        raise OSError(fault, os.strerror(fault), str(home / "stack.lock"))

    monkeypatch.setattr(stack, "up", refuses)
    answer = run("up")
    assert answer.code == 2
    assert f"{home / 'stack.lock'}: {os.strerror(fault)}" in answer.err
    assert f"in {home}" in answer.err
    assert "SPOTUNE_HOME" in answer.err
    assert "Internal error" not in answer.err


def test_nothing_to_talk_to_ends_with_5_and_names_both_ways(run: Run) -> None:
    answer = run("list")
    assert answer.code == 5
    assert "spotune up" in answer.err
    assert "SPOTUNE_API_URL" in answer.err


def test_a_stack_that_is_down_ends_with_5_and_says_how_to_start_it(run: Run, home: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    write_state(stack_state(home, url))
    answer = run("list", "--json")
    assert (answer.code, answer.error["code"]) == (5, "api_unreachable")
    assert "spotune up" in answer.error["message"]
    assert url in answer.error["message"]


def test_a_wrong_address_is_to_be_checked_not_started(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOTUNE_API_KEY", "sk-any")
    for wrong in (f"http://127.0.0.1:{free_port()}", "api.example.com"):
        monkeypatch.setenv("SPOTUNE_API_URL", wrong)
        answer = run("list")
        assert answer.code == 5
        assert "Check SPOTUNE_API_URL" in answer.err
        assert "spotune up" not in answer.err


def test_an_address_may_end_as_the_openai_sdk_wants_it(
    service: Service, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOTUNE_API_URL", os.environ["SPOTUNE_API_URL"] + "/v1")
    assert run("list").code == 0


def test_a_server_that_is_no_spotune_is_told_from_a_thing_that_is_not_there(service: Service, run: Run) -> None:
    service.refuse = lambda method, path: 404
    answer = run("list")
    assert answer.code == 3
    assert "Check SPOTUNE_API_URL" in answer.err


def test_what_is_not_there_is_listed_by_a_command(service: Service, run: Run) -> None:
    for line, command in (
        (["show", "ftjob-none"], "`spotune list`"),
        (["rules", "show", "none"], "`spotune rules list`"),
    ):
        assert command in run(*line).err


def test_an_address_without_a_key_ends_with_4(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOTUNE_API_URL", "https://api.example.com")
    assert run("list").code == 4


def test_a_key_without_an_address_is_not_left_out_of_account(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_state(stack_state(home, f"http://127.0.0.1:{free_port()}"))
    monkeypatch.setenv("SPOTUNE_API_KEY", "sk-of-a-deployed-api")
    answer = run("list", "--json")
    assert (answer.code, answer.error["code"]) == (4, "api_url_missing")


def test_a_wrong_key_ends_with_4(service: Service, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOTUNE_API_KEY", "sk-wrong")
    assert run("list").code == 4


def test_an_unknown_job_ends_with_3(service: Service, run: Run) -> None:
    for command in ("show", "watch", "logs", "cancel", "chat"):
        assert run(command, "ftjob-none", "--json").code == 3


def test_a_read_survives_a_gateways_bad_moment(service: Service, run: Run) -> None:
    left = [502, 503]
    service.refuse = lambda method, path: left.pop() if left else None
    assert run("list").code == 0


def test_a_gateway_that_stays_bad_ends_with_5(service: Service, run: Run) -> None:
    service.refuse = lambda method, path: 502
    assert run("list").code == 5


def test_an_answer_that_is_no_error_object_is_quoted(service: Service, run: Run) -> None:
    service.refuse = lambda method, path: 500
    answer = run("list")
    assert answer.code == 1
    assert "a gateway's own page" in answer.err


def test_a_lost_answer_to_a_submission_starts_no_second_job(service: Service, run: Run, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(tiny_model.chat_rows(30))
    losses = [True]
    service.lose = lambda method, path: method == "POST" and path.endswith("/jobs") and bool(losses and losses.pop())
    submitted = run("submit", "--model", tiny_model.NAME, "--training-file", tmp_path / "rows.jsonl", "--json")
    assert submitted.code == 0
    assert service.calls.count(("POST", "/v1/fine_tuning/jobs")) == 2
    assert len(run("list", "--json").json["data"]) == 1


def test_an_error_of_our_own_is_told_in_words_with_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(main.jobs, "find_connection", broken)
    answer = run("list", "--json")
    assert (answer.code, answer.error["code"], answer.out) == (1, "internal_error", "")


def test_ctrl_c_ends_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main.jobs, "find_connection", interrupted)
    assert run("list").code == 130


def test_a_taken_port_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack.bundle, "build", lambda folder, sources: folder / "made-elsewhere.zip")
    with socket.create_server(("127.0.0.1", 0)) as holder:
        refused = run("up", "--port", holder.getsockname()[1], "--json")
    assert (refused.code, refused.error["code"]) == (2, "port_taken")


def test_reset_asks_first(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = home / "adapters" / "ftjob-1" / "adapter_model.safetensors"
    adapter.parent.mkdir(parents=True)
    adapter.write_bytes(b"weights")
    write_state(stack_state(home, "http://127.0.0.1:1"))
    assert run("reset", "--json").code == 2
    assert stack.read_state(home) is not None
    assert run("reset", "--yes", "--json").json == {"reset": True}
    assert stack.read_state(home) is None
    assert adapter.read_bytes() == b"weights"


def test_status_of_a_stack_that_is_down_ends_with_5(run: Run) -> None:
    answer = run("status", "--json")
    assert (answer.code, answer.json["running"]) == (5, False)
    assert run("down", "--json").json == {"ended": False}
    assert "Embedded mode is not up. Start it with `spotune up`." in run("status").out


def test_the_end_of_embedded_mode_says_what_becomes_of_a_running_job(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "down", lambda: True)
    words = " ".join(run("down").out.split())
    assert "with the next `spotune up`, a job that ran goes on from its newest checkpoint" in words


def stack_state(home: Path, url: str) -> StackState:
    return StackState(
        api_url=url,
        api_key="sk-spotune-1",
        emulator_url=url,
        double_url=url,
        home=home,
        data_bucket="data",
        artifacts_bucket="artifacts",
        models_bucket="models",
        table="table",
        queue_url="queue",
        supervisor=ProcessMark(pid=1, started="0"),
        started_at=0,
        deployed="",
    )
