"""The embedded stack on its bad days. It has a home and processes of its own here, since it is killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from spotune.contracts.errors import Conflict
from spotune.local import stack, supervisor
from spotune.local.deployment import client
from spotune.local.state import ProcessMark, StackState, read_state, state_path
from spotune.local.supervisor import Running
from tests.polling import wait_for

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def home(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("killed-stack")
    (home / "cache").mkdir()
    (home / "cache" / "bundles").symlink_to(pytestconfig.cache.mkdir("bundles"), target_is_directory=True)
    yield home
    stack.down(home)
    assert not started_from(home)


@pytest.fixture
def state(home: Path) -> StackState:
    """The stack, running."""
    return up(home)


def up(home: Path) -> StackState:
    return stack.up(home, emulator_port=0, double_port=0)


def running(home: Path) -> Running:
    found = supervisor.read_running(home)
    assert found is not None
    return found


def marks(home: Path) -> list[ProcessMark]:
    found = running(home)
    return [found.supervisor, *found.children.values()]


def started_from(home: Path) -> list[str]:
    """Command lines of all processes of this machine that name the home."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(home) in line:
            found.append(line)
    return found


def all_end(home: Path) -> None:
    wait_for(lambda: not started_from(home) or None, f"the end of {started_from(home)}", 30)


def files(state: StackState) -> Any:
    answer = httpx.get(
        f"{state.api_url}/v1/files",
        headers={"Authorization": f"Bearer {state.api_key}"},
        timeout=30,
        trust_env=False,
    )
    answer.raise_for_status()
    return [entry["id"] for entry in answer.json()["data"]]


def table_holds_files(state: StackState) -> bool:
    """Looked up in the table itself: a cold start of the API takes as long as the rest of a test."""
    items = client("dynamodb", state.emulator_url).scan(TableName=state.table)["Items"]
    return any(item["pk"]["S"].startswith("FILE#") for item in items)


def upload(state: StackState) -> str:
    row = b'{"prompt": "a", "completion": "b"}\n'
    answer = httpx.post(
        f"{state.api_url}/v1/files",
        headers={"Authorization": f"Bearer {state.api_key}"},
        files={"file": ("rows.jsonl", row)},
        data={"purpose": "fine-tune"},
        timeout=30,
        trust_env=False,
    )
    answer.raise_for_status()
    return str(answer.json()["id"])


def test_a_kill_of_everything_at_once_loses_nothing_that_was_answered(home: Path, state: StackState) -> None:
    file_id = upload(state)
    queue = client("sqs", state.emulator_url)
    queue.send_message(QueueUrl=state.queue_url, MessageBody="not a command")
    client("s3", state.emulator_url).put_object(Bucket=state.artifacts_bucket, Key="t/jobs/j/a", Body=b"adapter")
    for process in marks(home):
        os.kill(process.pid, signal.SIGKILL)
    all_end(home)
    assert not stack.status(home).running

    again = up(home)

    assert again.api_key == state.api_key
    assert files(again) == [file_id]
    kept = client("s3", again.emulator_url).get_object(Bucket=again.artifacts_bucket, Key="t/jobs/j/a")
    assert kept["Body"].read() == b"adapter"


def test_everything_ends_with_a_killed_supervisor(home: Path, state: StackState) -> None:
    os.kill(state.supervisor.pid, signal.SIGKILL)
    all_end(home)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything(home: Path, state: StackState, number: int) -> None:
    os.kill(state.supervisor.pid, number)
    all_end(home)


def test_a_part_that_is_gone_takes_the_rest_with_it_and_up_mends_it(home: Path, state: StackState) -> None:
    os.kill(running(home).children["emulator"].pid, signal.SIGKILL)
    all_end(home)
    found = stack.status(home)
    assert not found.running
    assert "spotune up" in found.problem
    assert table_holds_files(up(home))


def test_two_starts_at_once_are_one_stack(home: Path) -> None:
    stack.down(home)
    with ThreadPoolExecutor() as both:
        one, other = both.map(up, [home, home])
    assert one.supervisor == other.supervisor
    assert one.api_key == other.api_key


def test_a_start_that_was_cut_off_is_completed(home: Path, state: StackState) -> None:
    state_path(home).unlink()
    assert "spotune up" in stack.status(home).problem
    completed = up(home)
    assert completed.supervisor == state.supervisor
    assert table_holds_files(completed)


def test_a_taken_port_is_named_with_the_remedy_and_nothing_is_left_running(
    tmp_path: Path, home: Path, state: StackState
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "bundles").symlink_to((home / "cache" / "bundles").resolve(), target_is_directory=True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=rf"Port {port} .*another port with --port") as refusal:
            stack.up(tmp_path, emulator_port=port, double_port=0)
    assert refusal.value.code == "port_taken"
    assert not started_from(tmp_path)


def test_status_shows_what_each_part_holds(home: Path, state: StackState) -> None:
    found = stack.status(home)
    assert (found.running, found.problem) == (True, "")
    assert {part.name for part in found.parts} == {"supervisor", "emulator", "double"}
    assert all(part.running and 10e6 < part.resident_bytes < 1e9 for part in found.parts)


def test_down_ends_everything_and_keeps_the_state_and_reset_forgets_it(home: Path, state: StackState) -> None:
    assert stack.down(home)
    assert not started_from(home)
    assert not stack.down(home)
    assert read_state(home) == state
    stack.reset(home)
    assert read_state(home) is None
    assert {path.name for path in home.iterdir()} <= {"cache", "stack.lock", "supervisor.lock"}


def test_a_stack_whose_data_is_gone_makes_a_new_key(home: Path, state: StackState) -> None:
    stack.down(home)
    shutil.rmtree(home / "emulator")
    again = up(home)
    assert again.api_key != state.api_key
    assert not table_holds_files(again)
