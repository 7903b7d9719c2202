"""Every planted fault is found, with its line, and nothing is found in clean rows."""

from __future__ import annotations

import json
from random import Random

import pytest

from spotune.contracts.quality import QualityReport
from spotune.data.checks import check_dataset
from spotune.data.quality import QualityCheck
from spotune.data.quality.page import page
from spotune.data.quality.private import private_values
from tests.data.quality.planted import VALUES, Planted, chat, clean_rows, planted


def look(body: bytes, *, training: QualityCheck | None = None, **options: object) -> QualityCheck:
    quality = QualityCheck(training=training, **options)  # type: ignore[arg-type]
    report = check_dataset([body], uri="rows.jsonl", tokenizer=None, max_length=2048, quality=quality)
    assert report.fault_count == 0
    return quality


def found(report: QualityReport) -> dict[str, list[int]]:
    return {issue.kind: [each.line for each in issue.findings] for issue in report.issues}


@pytest.mark.parametrize("seed", range(12))
def test_what_was_planted_is_found_on_its_lines_and_nothing_else_is(seed: int) -> None:
    made = planted(seed)
    report = look(made.body).report
    assert found(report) == made.faults
    assert all(issue.rows == len(issue.findings) for issue in report.issues)


def test_nothing_is_found_in_clean_rows() -> None:
    report = look(Planted(clean_rows(1200)).body).report
    assert report.issues == ()
    assert [share.name for share in report.languages] == ["English"]
    assert not report.mixed_encodings


def test_no_value_is_in_the_report_or_on_the_page() -> None:
    for seed in range(6):
        made = planted(seed)
        report = look(made.body).report
        for shown in (report.model_dump_json(), page([report])):
            assert [secret for secret in made.secrets if secret in shown or json.dumps(secret)[1:-1] in shown] == []
            assert list(private_values(shown)) == []


def test_a_class_that_is_itself_personal_is_shown_without_it() -> None:
    answers = ("write to jo.miller@gmail.com", "call +49 170 1234567")
    rows = [chat(f"Question {number} about it?", answers[number % 2]) for number in range(40)]
    (balance,) = look(Planted(rows).body).report.balances
    assert {share.name for share in balance.classes} == {"write to [e-mail address]", "call [phone number]"}


def test_a_value_is_found_wherever_the_row_has_it() -> None:
    key = VALUES["aws_key"](Random(3))
    tool = {"type": "function", "function": {"name": "open", "description": f"Opens with {key}."}}
    call = {"id": "1", "type": "function", "function": {"name": "open", "arguments": json.dumps({"key": key})}}
    called = [
        {"role": "user", "content": "Open the door for me."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "It is open now."},
        {"role": "assistant", "content": "The door is open."},
    ]
    for row in (
        chat("Is this a good key?", "It is.", system=f"Use {key}"),
        {"messages": called},
        {"messages": [*called[:1], {"role": "assistant", "content": "It is open."}], "tools": [tool]},
        {"prompt": "Which key is it?", "completion": key},
        {"text": f"The key is {key}"},
        {"prompt": "Which key is it?", "chosen": "I do not say.", "rejected": key},
    ):
        quality = QualityCheck()
        body = json.dumps(row).encode()
        check_dataset([body], uri="x", tokenizer=None, max_length=99, objective=None, quality=quality)  # type: ignore[arg-type]
        assert found(quality.report) == {"aws_key": [1]}, row


def test_each_row_counts_once_for_a_kind_and_the_list_has_an_end() -> None:
    rows = [chat(f"Mail {n}.a@gmail.com or {n}.b@gmail.com about item {n * 7919}", f"Done with {n}") for n in range(80)]
    issue = look(Planted(rows).body).report.issue("email")
    assert issue is not None
    assert (issue.rows, len(issue.findings)) == (80, 50)
    assert [each.line for each in issue.findings] == list(range(1, 51))


def test_toxic_words_are_looked_for_only_when_asked() -> None:
    rows = [*clean_rows(20), chat("What did he say to you then?", "He said: you are a piece of shit.")]
    assert look(Planted(rows).body).report.issue("toxic") is None
    assert found(look(Planted(rows).body, toxic=True).report) == {"toxic": [21]}
