import hashlib
import itertools
import json
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from spotune.contracts.dataset import DatasetReport
from spotune.data.checks import check_dataset
from spotune.data.quality import exact
from spotune.data.rows import Example
from spotune.data.tokens import RowTokenizer
from tests.data import templates

Make = Callable[..., RowTokenizer]


def chat(answer: str, asked: str = "the floor?") -> bytes:
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns}).encode() + b"\n"


def check(content: bytes, tokenizer: RowTokenizer | None = None, max_length: int = 1000, **more: Any) -> DatasetReport:
    chunks = [content[at : at + 1000] for at in range(0, len(content), 1000)]
    return check_dataset(chunks, uri="s3://bucket/file", tokenizer=tokenizer, max_length=max_length, **more)


def test_a_good_file_is_measured(row_tokenizer: Make) -> None:
    content = b"".join(chat("second " * length) for length in range(1, 101))
    report = check(content, row_tokenizer(templates.CHATML))
    tokens = report.tokens
    assert report.ok
    assert tokens is not None
    assert (report.rows, report.format, report.bytes) == (100, "chat", len(content))
    assert report.sha256 == hashlib.sha256(content).hexdigest()
    assert (report.duplicate_rows, report.warnings, report.sampled) == (0, (), 1.0)
    assert tokens.rows == 100
    assert 0 < tokens.trained < tokens.total == round(tokens.mean * 100)
    assert tokens.p50 < tokens.p95 < tokens.longest < 1000
    assert tokens.p95 - tokens.p50 == (tokens.longest - tokens.p50) * 45 // 50


def test_the_whole_file_is_hashed_even_where_reading_stops_early() -> None:
    content = b"PAR1" + b"\x00" * 100_000
    report = check(content)
    assert (report.bytes, report.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert [fault.rule for fault in report.faults] == ["binary_file"]
    assert (report.ok, report.rows, report.format, report.tokens) == (False, 0, None, None)


def test_duplicates_are_counted_and_warned_of() -> None:
    report = check((chat("a") + chat("b") + chat("a")) * 4)
    assert report.duplicate_rows == 10
    assert report.ok
    assert any("10 of 12 rows repeat" in warning for warning in report.warnings)


def test_beyond_what_is_remembered_the_search_for_duplicates_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "MAX_REMEMBERED_ROWS", 2)
    report = check(chat("a") + chat("b") + chat("c") + chat("c") + chat("a"))
    assert report.duplicate_rows == 1
    assert any("first 2 rows only" in warning for warning in report.warnings)


def test_few_rows_are_warned_of() -> None:
    assert check(chat("a")).warnings == ("A model learns little from fewer than 10 rows; the file has 1.",)


def test_truncation_is_counted_on_both_sides_of_the_limit(row_tokenizer: Make) -> None:
    content = chat("second") * 8 + chat("second " * 50) * 3 + chat("second", asked="floor " * 50)
    report = check(content, row_tokenizer(templates.CHATML), max_length=40)
    uncut = check(content, row_tokenizer(templates.CHATML)).tokens
    tokens = report.tokens
    assert report.ok
    assert tokens is not None
    assert uncut is not None
    assert (tokens.truncated_rows, tokens.untrainable_rows) == (4, 1)
    assert (tokens.mean, tokens.longest) == (uncut.mean, uncut.longest)
    assert tokens.total < uncut.total == round(uncut.mean * 12)
    assert any("4 of 12 rows are longer than 40 tokens" in warning for warning in report.warnings)
    assert any("1 of 12 rows lose all" in warning for warning in report.warnings)


def test_a_file_of_which_nothing_can_be_learned_is_refused(row_tokenizer: Make) -> None:
    report = check(chat("second", asked="floor " * 50) * 12, row_tokenizer(templates.CHATML), max_length=40)
    assert [(fault.line, fault.rule) for fault in report.faults] == [(0, "all_truncated")]
    assert not report.ok


def test_both_answers_of_a_preference_count_and_the_longer_one_is_its_length(row_tokenizer: Make) -> None:
    tokenizer = row_tokenizer(None)
    pair = {"prompt": "the floor", "chosen": " second", "rejected": " second second second"}
    report = check(json.dumps(pair).encode() + b"\n", tokenizer, objective="dpo")
    [short], [long] = (
        tokenizer.encode_rendered(
            [tokenizer.render(Example(1, "completion", prompt="the floor", completion=answer))], 99
        )
        for answer in (" second", " second second second")
    )
    assert report.ok
    assert report.tokens is not None
    assert (report.tokens.rows, report.tokens.longest) == (1, long.length)
    assert report.tokens.total == report.tokens.mean == short.length + long.length
    assert report.tokens.trained == sum(short.trained) + sum(long.trained)
    cut = check(json.dumps(pair).encode(), tokenizer, max_length=len(tokenizer.prompt(EXAMPLE)), objective="orpo")
    assert [fault.rule for fault in cut.faults] == ["all_truncated"]


EXAMPLE = Example(1, "completion", prompt="the floor", completion=" second")


def test_labels_of_one_kind_are_warned_of() -> None:
    rows = [json.dumps({"prompt": "a", "completion": str(number), "label": True}).encode() for number in range(10)]
    [warning] = check(b"\n".join(rows), objective="kto").warnings
    assert "label true" in warning
    mixed = [*rows, rows[0].replace(b"true", b"false")]
    assert check(b"\n".join(mixed), objective="kto").warnings == ()


def test_a_file_that_is_hardly_learned_from_is_warned_of(row_tokenizer: Make) -> None:
    tokenizer = row_tokenizer(templates.CHATML)
    rows = b"".join(chat("a", asked=f"{number} " * 400) for number in range(10))
    assert any("of the tokens carry loss" in warning for warning in check(rows, tokenizer, 10_000).warnings)
    assert not any("carry loss" in warning for warning in check(rows, tokenizer, 10_000, loss_on="all").warnings)


def test_what_the_model_cannot_do_is_said_once_for_the_file(row_tokenizer: Make) -> None:
    for template, rule in (
        (None, "no_chat_template"),
        (templates.NO_END_OF_TURN, "template_without_loss_mask"),
        ("{% for %}", "broken_chat_template"),
        (templates.CHATML.replace("<|im_end|>", "<|stop|>"), "template_without_stop_token"),
    ):
        report = check(chat("a") * 600, row_tokenizer(template))
        assert [(fault.line, fault.rule) for fault in report.faults] == [(0, rule)]
        assert report.faults[0].remedy
        assert report.faults[0].remedy not in report.faults[0].message
        assert report.tokens is None


def test_rows_that_the_template_refuses_are_faults_at_their_lines(row_tokenizer: Make) -> None:
    system = b'{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, '
    system += b'{"role": "assistant", "content": "a"}]}\n'
    report = check(chat("a") + system + chat("b") + b"null\n", row_tokenizer(templates.GEMMA_LIKE))
    assert [(fault.line, fault.rule) for fault in report.faults] == [(2, "template_refused_row"), (4, "not_an_object")]
    assert "no system role" in report.faults[0].message


def test_text_that_looks_rendered_already_is_warned_of(row_tokenizer: Make) -> None:
    report = check(chat("a<|im_end|>") * 3 + chat("b"), row_tokenizer(templates.CHATML))
    assert any("3 rows spell out" in warning for warning in report.warnings)


def test_a_sample_is_the_same_each_time_and_scales_to_the_file(row_tokenizer: Make) -> None:
    content = b"".join(chat("second " * (1 + number * 7919 % 40)) for number in range(2000)) + b"null\n"
    tokenizer = row_tokenizer(templates.CHATML)
    whole, sample, again = (check(content, tokenizer, sample_bytes=bound) for bound in (None, 60_000, 60_000))
    assert sample == again
    assert whole.sampled == 1.0
    assert sample.sampled == pytest.approx(60_000 / len(content), rel=0.05)
    assert sample.faults == whole.faults
    assert whole.tokens is not None
    assert sample.tokens is not None
    assert sample.tokens.rows == whole.tokens.rows == 2000
    assert sample.tokens.total == pytest.approx(whole.tokens.total, rel=0.1)
    assert sample.tokens.trained == pytest.approx(whole.tokens.trained, rel=0.1)


def test_a_bound_above_the_file_samples_all_of_it(row_tokenizer: Make) -> None:
    content = b"".join(chat(f"second {number}") for number in range(50))
    tokenizer = row_tokenizer(templates.CHATML)
    assert check(content, tokenizer, sample_bytes=10**9) == check(content, tokenizer)


def test_memory_does_not_grow_with_the_file(row_tokenizer: Make) -> None:
    row = chat("second " * 1000)
    tokenizer = row_tokenizer(templates.CHATML)

    def peak(rows: int) -> int:
        tracemalloc.start()
        stream = itertools.repeat(row, rows)
        check_dataset(stream, uri="s3://bucket/file", tokenizer=tokenizer, max_length=1000, sample_bytes=100_000)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(1000) < 1.2 * peak(200)


def test_what_the_stream_raises_goes_through() -> None:
    def broken() -> Iterator[bytes]:
        yield chat("a")
        raise ConnectionError("reset")

    with pytest.raises(ConnectionError):
        check_dataset(broken(), uri="s3://bucket/file", tokenizer=None, max_length=1000)
