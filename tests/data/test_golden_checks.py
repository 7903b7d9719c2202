"""A golden file before its answers are paid for: faults, lengths, bounds."""

from __future__ import annotations

import json

import pytest

from spotune.contracts.dataset import GoldenReport
from spotune.data.golden_checks import (
    ANSWER_MARGIN,
    LONGEST_ANSWER_TOKENS,
    MAX_GOLDEN_BYTES,
    MAX_SHAPE_DEPTH,
    USUAL_ANSWER_TOKENS,
    check_golden,
)
from spotune.data.tokens import RowTokenizer
from tests import tiny_model

ASKED = [{"role": "user", "content": "Which team?"}]
CONTEXT = 1024


def tokenizer(*, template: bool = True) -> RowTokenizer:
    files = tiny_model.files()
    config = json.loads(files["tokenizer_config.json"])
    if not template:
        del config["chat_template"]
    return RowTokenizer.from_files(files["tokenizer.json"], json.dumps(config).encode())


def check(*lines: object, tokens: RowTokenizer | None = None, max_length: int = CONTEXT) -> GoldenReport:
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    pieces = [body[:7], body[7:]]
    return check_golden(pieces, uri="s3://data/acme/golden.jsonl", tokenizer=tokens, max_length=max_length)


def rules(report: GoldenReport) -> list[tuple[int, str]]:
    return [(fault.line, fault.rule) for fault in report.faults]


def test_prompts_are_counted_in_the_models_own_tokens() -> None:
    report = check(*[{"messages": ASKED, "expected": "billing"}] * 2, tokens=tokenizer())
    plain = check({"prompt": "abc", "expected": "d"}, tokens=tokenizer())
    chat = "<|im_start|>user\nWhich team?<|im_end|>\n<|im_start|>assistant\n"
    written = len(chat) - sum(len(mark) - 1 for mark in ("<|im_start|>", "<|im_end|>", "<|im_start|>"))
    assert report.ok
    assert (report.prompts, report.prompt_tokens) == (2, 2 * written)
    assert (plain.prompts, plain.prompt_tokens) == (1, 3)
    assert report.answer_tokens == USUAL_ANSWER_TOKENS


def test_an_answer_has_room_for_the_longest_expectation() -> None:
    report = check({"prompt": "a", "expected": "b" * 500}, {"prompt": "a", "expected": "b"}, tokens=tokenizer())
    assert report.answer_tokens == 500 + 1 + ANSWER_MARGIN, "and the stop token"


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ({"prompt": "a", "expected": "b" * LONGEST_ANSWER_TOKENS}, "expectation_too_long"),
        ({"prompt": "a" * CONTEXT, "expected": "b"}, "golden_prompt_too_long"),
        ({"prompt": "a", "expected": ""}, "empty_content"),
        ({"prompt": "a"}, "no_expectation"),
    ],
)
def test_a_fault_is_named_with_its_line(line: object, rule: str) -> None:
    report = check({"prompt": "a", "expected": "b"}, line, tokens=tokenizer())
    assert not report.ok
    assert rules(report) == [(2, rule)]
    assert all(fault.remedy for fault in report.faults)


def test_a_shape_is_no_deeper_than_can_be_compared() -> None:
    shape: object = "<any>"
    for _ in range(MAX_SHAPE_DEPTH):
        shape = [shape]
    assert check({"prompt": "a", "expected": shape}).ok
    assert rules(check({"prompt": "a", "expected": {"deep": shape}})) == [(1, "shape_too_deep")]


def test_chats_for_a_model_without_a_chat_template_are_refused_once() -> None:
    line = {"messages": ASKED, "expected": "billing"}
    report = check(line, line, tokens=tokenizer(template=False))
    assert rules(report) == [(0, "no_chat_template")]


def test_a_file_that_is_too_large_is_not_read_to_its_end() -> None:
    read = 0

    def endless() -> object:
        nonlocal read
        while True:
            read += 1_000_000
            yield b"x" * 1_000_000

    report = check_golden(endless(), uri="s3://d/g", tokenizer=None, max_length=CONTEXT)  # type: ignore[arg-type]
    assert rules(report) == [(0, "golden_too_large")]
    assert read <= MAX_GOLDEN_BYTES + 1_000_000


def test_an_empty_file_is_no_golden_file() -> None:
    report = check_golden([], uri="s3://d/g", tokenizer=None, max_length=CONTEXT)
    assert (report.ok, rules(report)) == (False, [(0, "empty_file")])
