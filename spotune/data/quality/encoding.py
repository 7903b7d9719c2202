"""Damage from decoding text with the wrong encoding, and characters that no text has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from spotune.contracts.quality import IssueKind

_WINDOWS = {bytes([code]).decode("cp1252", "ignore"): code for code in range(0x80, 0xA0)}
_BYTES = {chr(code): code for code in range(0x80, 0x100)} | {
    letter: code for letter, code in _WINDOWS.items() if letter
}
"""The byte behind a character, where bytes were read as Windows-1252, or as Latin-1."""
_LIKELY = re.compile(
    "[\u00a0-\u017f\u0370-\u03ff\u0400-\u04ff\u05d0-\u05ff\u0600-\u06ff\u2010-\u206f\u20a0-\u20cf\u2100-\u214f\u2190-\u22ff"
    "\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7af\uff00-\uffef\U0001f300-\U0001faff]"
)
"""What people write. What else two characters might stand for in UTF-8 (phonetic signs, Syriac) is chance."""
_RUN = re.compile("[\u0080-\u00ff" + "".join(letter for letter in _WINDOWS if letter) + "]{2,}")
_CONTROL = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class Damage(NamedTuple):
    """One kind of damage of a text, by its first place."""

    kind: IssueKind
    detail: str


def damages(text: str) -> Iterator[Damage]:
    """The kinds of damage that a text has."""
    wrong = next(_misread(text), None)
    if wrong is not None:
        yield Damage("mojibake", f"{wrong[0]!r} was {wrong[1]!r}")
    if lost := text.count("\ufffd"):
        yield Damage("replacement_character", f"{lost:,} of them")
    found = _CONTROL.search(text)
    if found is not None and wrong is None:
        yield Damage("control_character", f"U+{ord(found[0]):04X}")


def _misread(text: str) -> Iterator[tuple[str, str]]:
    """Characters that together are the UTF-8 of one other, and that other."""
    for run in _RUN.finditer(text):
        letters = run[0]
        for at in range(len(letters) - 1):
            length = _sequence_length(_BYTES[letters[at]])
            piece = letters[at : at + length]
            if length and len(piece) == length and (meant := _decoded(piece)):
                yield piece, meant


def _sequence_length(lead: int) -> int:
    """Of a character in UTF-8 by its first byte; 0 for a byte that begins none."""
    if 0xC2 <= lead <= 0xDF:
        return 2
    if 0xE0 <= lead <= 0xEF:
        return 3
    return 4 if 0xF0 <= lead <= 0xF4 else 0


def _decoded(piece: str) -> str:
    """What was meant; empty where it is nothing that people write."""
    try:
        meant = bytes(_BYTES[letter] for letter in piece).decode()
    except UnicodeDecodeError:
        return ""
    return meant if _LIKELY.fullmatch(meant) else ""
