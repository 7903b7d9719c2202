"""Which rows of a batch deserve a careful look: a few searches over the bytes of all of them together.

A look at each row by itself costs some ten microseconds for every thousand characters; this costs three. It may name a
row in which nothing is found, and passes over none in which `private` or `encoding` would find something.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_BREAK = b"\xff"
"""Between rows: UTF-8 has no such byte."""
_SEPARATORS = b" -.()"


def _classes() -> bytes:
    table = bytearray(range(256))
    for code in range(256):
        if chr(code) in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ":
            table[code] = ord("0")
        elif code in (*range(0x01, 0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F):
            table[code] = 0x01
    return bytes(table)


_CLASSES = _classes()
"""Digits and capitals become 0, control characters 1."""


class _Sign(NamedTuple):
    """Bytes that are searched for, and what has to stand before them for a row to be looked at."""

    anchor: bytes
    before: tuple[bytes, ...] = ()


_NUMBERS = _Sign(b"000000000")
"""Of the classes, without separators: no number of `private` has fewer than nine digits and capitals, nor has an AWS
key. So have some words in capitals."""
_ADDRESSES = _Sign(b"@")
_TOKENS = (
    _Sign(b"_", before=(b"ghp", b"gho", b"ghu", b"ghs", b"ghr", b"github_pat", b"npm", b"hf", b"k_live")),
    _Sign(b"J", before=(b"ey", b"T3BlbkF")),
    _Sign(b"z", before=(b"AI",)),
    _Sign(b"-", before=(b"sk", b"xoxa", b"xoxb", b"xoxp", b"xoxr", b"xoxs", b"----")),
)
"""Rare bytes of tokens and keys."""

_CONTROLS = _Sign(b"\x01")
_LOST = _Sign("\ufffd".encode())
_ODD = re.compile(rb"\xc3[\x82-\xb0](?:\xc2[\x80-\xbf]|[\xc5\xc6\xcb][\x80-\xbf]|\xe2[\x80\x82\x84])")
"""Two characters beyond ASCII in a row, of which the first is what a lead byte of UTF-8 looks like in Latin-1, and the
second what a continuation byte looks like."""
_CONTROL = re.compile(rb"\xc2[\x80-\x9f]")


class Suspects(NamedTuple):
    """Indexes of rows within the batch, by what they may hold."""

    addresses: set[int]
    tokens: set[int]
    numbers: set[int]
    damage: set[int]
    beyond_ascii: int
    """Rows that have more than ASCII."""


def suspects(contents: Sequence[bytes]) -> Suspects:
    """The rows that have to be looked at.

    Args:
        contents: rows as UTF-8.
    """
    text = _BREAK.join(contents)
    classes = text.translate(_CLASSES, _SEPARATORS)
    beyond_ascii = [index for index, content in enumerate(contents) if not content.isascii()]
    return Suspects(
        addresses=set(_rows_with(_ADDRESSES, text)),
        tokens={row for sign in _TOKENS for row in _rows_with(sign, text)},
        numbers=set(_rows_with(_NUMBERS, classes)),
        damage={*_rows_with(_CONTROLS, classes), *_damaged(contents, beyond_ascii)},
        beyond_ascii=len(beyond_ascii),
    )


def _damaged(contents: Sequence[bytes], beyond_ascii: Sequence[int]) -> Iterator[int]:
    text = _BREAK.join([contents[index] for index in beyond_ascii])
    for rows in (_rows_with(_LOST, text), _rows_matching(_ODD, text), _rows_matching(_CONTROL, text)):
        yield from (beyond_ascii[row] for row in rows)


def _rows_with(sign: _Sign, text: bytes) -> Iterator[int]:
    anchor, before = sign
    reach, size, row, counted = max(map(len, before), default=0), len(anchor), 0, 0
    find, ends = text.find, text.endswith
    at = find(anchor)
    while at >= 0:
        end = at + size
        if not before or ends(before, at - reach if at > reach else 0, at):
            row += text.count(_BREAK, counted, at)
            yield row
            counted = end = find(_BREAK, end)
            if end < 0:
                return
        at = find(anchor, end)


def _rows_matching(pattern: re.Pattern[bytes], text: bytes) -> Iterator[int]:
    row, counted = 0, 0
    found = pattern.search(text)
    while found is not None:
        row += text.count(_BREAK, counted, found.start())
        yield row
        counted = text.find(_BREAK, found.end())
        if counted < 0:
            return
        found = pattern.search(text, counted)
