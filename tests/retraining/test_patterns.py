"""Which objects a rule watches."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotune.retraining.patterns import Pattern, ignored

BUCKET = "s3://data/"


@pytest.mark.parametrize(
    ("pattern", "watched", "unwatched"),
    [
        ("a/", ["a/x", "a/b/c.jsonl"], ["a", "ab", "b/a/x"]),
        ("a", ["a", "a/x", "a/b/c"], ["ab", "ab/x", "b"]),
        ("a/x.jsonl", ["a/x.jsonl", "a/x.jsonl/y"], ["a/x.jsonl.tmp", "a/x"]),
        ("a/*.jsonl", ["a/x.jsonl", "a/.jsonl"], ["a/b/x.jsonl", "a/x.jsonl.tmp", "a/x.jsonl/y"]),
        ("a/*", ["a/x", "a/"], ["a/b/x", "a"]),
        ("a/*/", ["a/b/x", "a/b/c/x"], ["a/x", "a"]),
        ("a/**", ["a/x", "a/b/c", "a/"], ["a", "b/x"]),
        ("a/**/*.jsonl", ["a/x.jsonl", "a/b/x.jsonl", "a/b/c/x.jsonl"], ["ax.jsonl", "a/b/x.json", "a/bx.jsonl/y"]),
        ("a/**/b", ["a/b", "a/x/b", "a/b/x"], ["a/xb", "axb", "ab"]),
        ("a/**/**/b", ["a/b", "a/x/b", "a/x/y/b", "a/x/b/y"], ["ab", "a/xb"]),
        ("day=2026-??-0?/", ["day=2026-11-01/x"], ["day=2026-1-01/x", "day=2026-11-10/x", "day=2026/11-01/x"]),
        ("a?b", ["axb"], ["a/b", "ab", "axb/c"]),
        ("**.jsonl", ["x.jsonl", "a/b/x.jsonl"], ["x.json"]),
        ("a**b", ["ab", "a/b", "axx/yb"], ["a", "b"]),
        ("[a]/(b)/.+", ["[a]/(b)/.+", "[a]/(b)/.+/x"], ["a/b/x"]),
    ],
)
def test_a_pattern_watches_what_it_says(pattern: str, watched: list[str], unwatched: list[str]) -> None:
    made = Pattern(BUCKET + pattern)
    assert [key for key in watched if not made.matches(BUCKET + key)] == []
    assert [key for key in unwatched if made.matches(BUCKET + key)] == []
    assert not made.matches("s3://other/" + watched[0])


KEYS = st.text(alphabet="ab/", max_size=8)
PATTERNS = st.lists(st.sampled_from(["a", "b", "/", "*", "**", "?", "/**/"]), max_size=7).map("".join)


def regex(pattern: str) -> re.Pattern[str]:
    """The same in another way: wildcards one by one as a regular expression."""
    parts = re.split(r"((?<=/)\*{2,}/|\*+|\?)", pattern)
    words = {"?": "[^/]", "*": "[^/]*"}
    made = "".join(
        "(?:.*/)?" if re.fullmatch(r"\*\*+/", part) else words.get(part, ".*" if part[:2] == "**" else re.escape(part))
        for part in parts
    )
    tail = "" if set("*?") & set(pattern.rpartition("/")[2]) else ".*" if pattern.endswith("/") else "(?:/.*)?"
    return re.compile(made + tail, re.DOTALL)


@settings(max_examples=1000)
@given(PATTERNS, KEYS)
def test_a_pattern_watches_what_the_regular_expression_of_it_does(pattern: str, key: str) -> None:
    text = BUCKET + pattern
    assert Pattern(text).matches(BUCKET + key) == bool(regex(text).fullmatch(BUCKET + key))


@given(PATTERNS, KEYS, KEYS)
def test_what_is_watched_below_a_prefix_is_reached_there(pattern: str, prefix: str, rest: str) -> None:
    made = Pattern(BUCKET + pattern)
    if made.matches(BUCKET + prefix + rest):
        assert made.reaches(BUCKET + prefix)
        assert (BUCKET + prefix + rest).startswith(made.beginning)


@pytest.mark.parametrize(
    ("pattern", "reached"),
    [
        ("acme/**", True),
        ("acme", True),
        ("acme/*/x.jsonl", True),
        ("acme/**/x.jsonl", True),
        ("acme/rul?s/", True),
        ("acme/rules/r/1/**", True),
        ("**", True),
        ("acme/*", False),
        ("acme/r*", False),
        ("acme/rules-of-thumb/", False),
        ("acme/support/**", False),
        ("acme/files/", False),
    ],
)
def test_a_pattern_that_could_match_our_own_outputs_is_seen(pattern: str, reached: bool) -> None:
    assert Pattern(BUCKET + pattern).reaches(BUCKET + "acme/rules/") is reached


def test_no_pattern_takes_longer_than_its_length_and_the_key_s() -> None:
    """A backtracking matcher needs more steps than there are seconds in a year for this one."""
    made = Pattern(BUCKET + "**a" * 200 + "c")
    begun = time.process_time()
    assert not made.matches(BUCKET + "a" * 1000)
    assert time.process_time() - begun < 20


@pytest.mark.parametrize(
    "key",
    [
        "a/",
        "a/_SUCCESS",
        "a/_temporary/0/part-0.jsonl",
        "a/x.jsonl.tmp",
        "a/x.jsonl.part",
        "a/.x.jsonl.crc",
        "a/x.crc",
        "a/x.jsonl~",
        "a/.hidden.jsonl",
        "a/_committed_1",
    ],
)
def test_marks_and_unfinished_files_are_no_data(key: str) -> None:
    assert ignored(BUCKET + key, 10)


def test_an_empty_object_is_no_data() -> None:
    assert ignored(BUCKET + "a/x.jsonl", 0) == "it is empty"


@pytest.mark.parametrize("key", ["x.jsonl", "a/x.jsonl", "a.tmp/x.jsonl", "_a/x.jsonl", "a/x.jsonl.dvc", "a/x_.jsonl"])
def test_data_is_data(key: str) -> None:
    assert ignored(BUCKET + key, 10) == ""
