"""The page opens without a network, and takes nothing in a row for more than text."""

from __future__ import annotations

from html.parser import HTMLParser

from spotune.contracts.quality import QualityReport
from spotune.data.checks import check_dataset
from spotune.data.quality import QualityCheck
from spotune.data.quality.lengths import lengths_of, truncation
from spotune.data.quality.page import page
from tests.data.quality.planted import Planted, chat, planted

EVIL = "<script>alert(1)</script>"


def report_of(made: Planted, uri: str = "rows.jsonl") -> QualityReport:
    quality = QualityCheck()
    check_dataset([made.body], uri=uri, tokenizer=None, max_length=2048, quality=quality)
    return quality.report


class Reader(HTMLParser):
    """Every tag with its attributes, all text, and whether what was opened was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "rect":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_needs_nothing_else() -> None:
    text = page([report_of(planted(1))])
    seen = Reader(text)
    assert seen.open == []
    names = {tag for tag, _ in seen.tags}
    assert {"svg", "rect", "table"} <= names
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"}
    attributes = {name for _, given in seen.tags for name in given}
    assert not {name for name in attributes if name.startswith("on") or name in ("src", "href", "srcset", "action")}
    assert "url(" not in text
    assert "@import" not in text
    policy = next(given["content"] for tag, given in seen.tags if given.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_rows_and_names_are_shown_as_text() -> None:
    rows = [
        {**chat(f"Question {n}?", EVIL if n % 2 else '"><img src=x onerror=y>'), "slice": f"{EVIL}{n % 3}"}
        for n in range(40)
    ]
    text = page([report_of(Planted(rows), uri=f"s3://bucket/{EVIL}.jsonl")])
    seen = Reader(text)
    assert EVIL not in text
    assert seen.open == []
    assert not {tag for tag, _ in seen.tags} & {"script", "img"}
    assert EVIL in seen.text
    assert '"><img src=x onerror=y>' in seen.text


def test_both_files_stand_on_one_page() -> None:
    text = Reader(page([report_of(planted(2), "one.jsonl"), report_of(planted(3), "two.jsonl")])).text
    assert "Quality of one.jsonl" in text
    assert "Quality of two.jsonl" in text


def test_an_empty_file_has_a_page() -> None:
    quality = QualityCheck()
    check_dataset([b""], uri="none.jsonl", tokenizer=None, max_length=9, quality=quality)
    assert Reader(page([quality.report])).open == []


def test_lengths_are_exact_and_every_row_is_in_one_bin() -> None:
    counts = {1: 1, 10: 50, 100: 45, 1000: 3, 5000: 1}
    lengths = lengths_of(counts, "tokens")
    assert lengths is not None
    assert (lengths.rows, lengths.shortest, lengths.p50, lengths.p95, lengths.p99, lengths.longest) == (
        100, 1, 10, 100, 1000, 5000
    )  # fmt: skip
    assert sum(each.rows for each in lengths.bins) == 100
    assert all(one.high + 1 == other.low for one, other in zip(lengths.bins, lengths.bins[1:], strict=False))
    for length, rows in counts.items():
        (own,) = [each for each in lengths.bins if each.low <= length <= each.high]
        assert own.rows >= rows


def test_truncation_counts_rows_and_what_they_lose() -> None:
    found = {each.limit: (each.rows, each.lost) for each in truncation({100: 5, 1000: 2, 3000: 1}, 700, "tokens")}
    assert found[512] == (3, 2 * 488 + 2488)
    assert found[700] == (3, 2 * 300 + 2300)
    assert found[2048] == (1, 952)
    assert found[4096] == (0, 0)
    assert max(found) == 4096
    estimated = next(each for each in truncation({4000: 1}, 700, "characters") if each.limit == 700)
    assert (estimated.rows, estimated.lost) == (1, 300)
