"""`data check` with a file's quality, and `data quality` of a job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spotune.data.quality.private import private_values
from tests.cli.conftest import Run
from tests.data.quality.planted import Planted, chat, clean_rows, planted
from tests.tiny_model import NAME


def write(path: Path, made: Planted) -> Path:
    path.write_bytes(made.body)
    return path


def kinds(report: dict[str, object]) -> dict[str, list[int]]:
    return {issue["kind"]: [each["line"] for each in issue["findings"]] for issue in report["issues"]}  # type: ignore[attr-defined]


def test_a_check_says_what_it_noticed_and_where_and_never_what(run: Run, tmp_path: Path) -> None:
    made = planted(4)
    file = write(tmp_path / "rows.jsonl", made)
    page = tmp_path / "page.html"
    shown = run("data", "check", file, "--html", page)
    assert shown.code == 0
    assert "A job would take it. Look at what was noticed first." in shown.out
    for title in ("Near duplicates", "AWS access keys", "Payment card numbers", "Text decoded with the wrong encoding"):
        assert title in shown.out
        assert title in page.read_text()
    assert f"line {made.faults['aws_key'][0]}: AWS access key id A" in shown.out
    answer = run("data", "check", file, "--json")
    assert kinds(answer.json["quality"]) == made.faults
    for text in (shown.out, answer.out, page.read_text()):
        assert not [secret for secret in made.secrets if secret in text or json.dumps(secret)[1:-1] in text]
        assert list(private_values(text)) == []


def test_leaks_are_noticed_in_the_file_to_evaluate_on(run: Run, tmp_path: Path) -> None:
    training = write(tmp_path / "train.jsonl", Planted(clean_rows(50)))
    rows = [*clean_rows(20, skip=100), *clean_rows(2, skip=7)]
    held_out = write(tmp_path / "held.jsonl", Planted(rows))
    answer = run("data", "check", training, "--validation", held_out, "--json").json
    assert kinds(answer["quality"]) == {}
    assert kinds(answer["validation"]["quality"]) == {"leaked": [21, 22]}
    shown = run("data", "check", training, "--validation", held_out)
    assert "Also in the training data" in shown.out
    assert "line 21: the same as line 8 of the training data" in shown.out


def test_faults_are_still_what_refuses_and_either_files(run: Run, tmp_path: Path) -> None:
    good = write(tmp_path / "good.jsonl", Planted(clean_rows(12)))
    bad = tmp_path / "bad.jsonl"
    bad.write_text("not JSON\n")
    refused = run("data", "check", good, "--validation", bad)
    assert refused.code == 2
    assert "malformed_json" in refused.out
    assert run("data", "check", bad, "--json").json["quality"]["rows"] == 0


def test_toxic_words_are_looked_for_on_request(run: Run, tmp_path: Path) -> None:
    rows = [*clean_rows(12), chat("What did he say to you?", "That I am a piece of shit, he said.")]
    file = write(tmp_path / "rows.jsonl", Planted(rows))
    assert kinds(run("data", "check", file, "--json").json["quality"]) == {}
    assert kinds(run("data", "check", file, "--toxic", "--json").json["quality"]) == {"toxic": [13]}


def test_names_of_classes_cannot_move_the_terminals_cursor(run: Run, tmp_path: Path) -> None:
    rows = [{**chat(f"Question {n}?", f"Answer {n * n}"), "slice": f"\x1b[2J[bold]{n % 2}"} for n in range(40)]
    shown = run("data", "check", write(tmp_path / "rows.jsonl", Planted(rows)))
    assert "\x1b[2J" not in shown.out
    assert "u001b[2J[bold]0 50.0%" in shown.out


def test_a_page_that_cannot_be_written_is_refused_by_name(run: Run, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", Planted(clean_rows(12)))
    refused = run("data", "check", file, "--html", tmp_path / "no" / "page.html", "--json")
    assert refused.code == 2
    assert refused.error["code"] == "file_unwritable"


@pytest.mark.usefixtures("service")
def test_a_jobs_quality_is_read_from_the_service(run: Run, tmp_path: Path) -> None:
    rows = [*clean_rows(20), chat("Whom may I ask?", "Ask jo.miller@gmail.com, she knows.")]
    file = write(tmp_path / "rows.jsonl", Planted(rows))
    job = run("submit", "--model", NAME, "--training-file", file, "--json").json
    page = tmp_path / "page.html"
    shown = run("data", "quality", job["id"], "--html", page)
    assert shown.code == 0
    assert "E-mail addresses" in shown.out
    assert "E-mail addresses" in page.read_text()
    assert "miller" not in shown.out + page.read_text()
    assert kinds(run("data", "quality", job["id"], "--json").json["training"]) == {"email": [21]}
    missing = run("data", "quality", "ftjob-none", "--json")
    assert (missing.code, missing.error["code"]) == (3, "job_not_found")
