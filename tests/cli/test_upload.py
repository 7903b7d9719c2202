from __future__ import annotations

from pathlib import Path

import pytest

from spotune.cli import upload
from spotune.service.files import uploads
from tests import tiny_model
from tests.cli.conftest import Run, Service


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of some kilobytes, so that a small file takes several."""
    monkeypatch.setattr(upload, "DIRECT_UPLOAD_BYTES", 1000)
    monkeypatch.setattr(upload, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(uploads, "part_bytes", lambda size: 4096)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(tiny_model.chat_rows(400))
    return path


def submit(run: Run, rows: Path) -> tuple[int, str]:
    ran = run("submit", "--model", tiny_model.NAME, "--training-file", rows)
    return ran.code, ran.err


def parts_sent(service: Service) -> list[int]:
    return sorted(int(path.rpartition("=")[2]) for method, path in service.calls if method == "PUT")


def stored(service: Service) -> bytes:
    objects = service.world.objects
    (uri,) = [info.uri for info in objects.list("s3://data/acme/files/")]
    return objects.read(uri)


def test_a_large_file_goes_up_in_parts_and_arrives_whole(service: Service, run: Run, rows: Path) -> None:
    assert submit(run, rows) == (0, "")
    assert len(parts_sent(service)) > 5
    assert stored(service) == rows.read_bytes()


def test_an_upload_that_was_cut_off_goes_on_where_it_stood(service: Service, run: Run, rows: Path) -> None:
    service.refuse = lambda method, path: 500 if method == "PUT" and path.endswith("number=3") else None
    code, words = submit(run, rows)
    assert code == 5
    assert "Run the same command again" in words
    before = set(parts_sent(service)) - {3}
    service.calls.clear()
    service.refuse = lambda method, path: None
    code, words = submit(run, rows)
    assert code == 0
    assert "Going on with an upload" in words
    assert not set(parts_sent(service)) & before
    assert stored(service) == rows.read_bytes()


def test_a_part_that_fails_once_is_sent_again(service: Service, run: Run, rows: Path) -> None:
    left = [503]
    service.refuse = lambda method, path: left.pop() if left and path.endswith("number=2") else None
    assert submit(run, rows)[0] == 0
    assert parts_sent(service).count(2) == 2
    assert stored(service) == rows.read_bytes()


def test_an_upload_whose_end_was_not_heard_of_is_not_sent_again(service: Service, run: Run, rows: Path) -> None:
    service.refuse = lambda method, path: 500 if path.endswith("/complete") else None
    assert submit(run, rows)[0] == 1
    service.refuse = lambda method, path: None
    service.calls.clear()
    assert submit(run, rows)[0] == 0
    assert parts_sent(service) == []


def test_a_changed_file_is_a_new_upload(service: Service, run: Run, rows: Path) -> None:
    submit(run, rows)
    rows.write_bytes(tiny_model.chat_rows(401))
    service.calls.clear()
    assert submit(run, rows)[0] == 0
    assert parts_sent(service)


def test_a_broken_memory_of_uploads_costs_one_more_upload(service: Service, run: Run, rows: Path, home: Path) -> None:
    submit(run, rows)
    (home / "uploads.json").write_text("{ cut off")
    assert submit(run, rows)[0] == 0


def test_an_empty_file_is_refused_before_anything_is_sent(service: Service, run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    refused = run("submit", "--model", tiny_model.NAME, "--training-file", tmp_path / "empty.jsonl", "--json")
    assert (refused.code, refused.error["code"]) == (2, "file_empty")
    assert service.calls == []
