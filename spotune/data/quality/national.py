"""National ids, each with its checksum, or with the ranges that its country gives out where there is none."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import NamedTuple

from spotune.data.quality.checksums import ean13, luhn, mod11_10, verhoeff, weighted

_B, _E = r"(?<![\w.-])", r"(?![\w-])"
"""Borders: an id is no part of a longer word or number."""

_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_FISCAL_ODD = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16,
         10, 22, 25, 24, 23),
        strict=True,
    )
)  # fmt: skip


class NationalId(NamedTuple):
    """One country's id: how it is written, and what else must be true of it."""

    name: str
    pattern: re.Pattern[str]
    valid: Callable[[str], bool]
    """Of the text without spaces, dots and dashes."""


def _ssn(digits: str) -> bool:
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def _dni(text: str) -> bool:
    number = str("XYZ".index(text[0])) + text[1:-1] if text[0] in "XYZ" else text[:-1]
    return _DNI_LETTERS[int(number) % 23] == text[-1]


def _nir(digits: str) -> bool:
    return 97 - int(digits[:13]) % 97 == int(digits[13:])


def _fiscal_code(text: str) -> bool:
    odd = sum(_FISCAL_ODD[letter] for letter in text[:15:2])
    even = sum(int(letter) if letter.isdigit() else ord(letter) - 65 for letter in text[1:15:2])
    return chr(65 + (odd + even) % 26) == text[15]


def _tax_id(digits: str) -> bool:
    """Of the first ten digits one comes twice or three times, and all others at most once."""
    counts = sorted(digits[:10].count(digit) for digit in set(digits[:10]))
    return counts[-1] in (2, 3) and counts[-2] == 1 and mod11_10(digits)


def _cpf(digits: str) -> bool:
    def check(length: int) -> int:
        rest = weighted(digits[:length], tuple(range(length + 1, 1, -1))) * 10 % 11
        return rest % 10

    return len(set(digits)) > 1 and check(9) == int(digits[9]) and check(10) == int(digits[10])


def _pesel(digits: str) -> bool:
    month = int(digits[2:4])
    year = (1900, 2000, 2100, 2200, 1800)[month // 20] + int(digits[:2])
    control = -weighted(digits[:10], (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10
    return _is_day(year, month % 20, int(digits[4:6])) and control == int(digits[10])


def _personnummer(digits: str) -> bool:
    return _is_day(2000, int(digits[2:4]), int(digits[4:6])) and luhn(digits)


def _is_day(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def _always(_: str) -> bool:
    return True


NATIONAL_IDS = (
    NationalId("US social security number", re.compile(rf"{_B}\d{{3}}-\d\d-\d{{4}}{_E}"), _ssn),
    NationalId(
        "UK national insurance number",
        re.compile(rf"{_B}(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]( ?)\d\d\1\d\d\1\d\d\1[A-D]{_E}"),
        _always,
    ),
    NationalId("Spanish DNI or NIE", re.compile(rf"{_B}(?:\d{{8}}|[XYZ]-?\d{{7}})-?[A-Z]{_E}"), _dni),
    NationalId(
        "French social security number",
        re.compile(rf"{_B}[12]( ?)\d\d\1(?:0[1-9]|1[0-2])\1\d\d\1\d{{3}}\1\d{{3}}\1\d\d{_E}"),
        _nir,
    ),
    NationalId(
        "Italian codice fiscale",
        re.compile(rf"{_B}[A-Z]{{6}}\d\d[ABCDEHLMPRST](?:[04][1-9]|[1256]\d|[37][01])[A-Z]\d{{3}}[A-Z]{_E}"),
        _fiscal_code,
    ),
    NationalId("German tax id", re.compile(rf"{_B}[1-9]\d( ?)\d{{3}}\1\d{{3}}\1\d{{3}}{_E}"), _tax_id),
    NationalId("Brazilian CPF", re.compile(rf"{_B}\d{{3}}\.\d{{3}}\.\d{{3}}-\d\d{_E}"), _cpf),
    NationalId("Polish PESEL", re.compile(rf"{_B}\d{{11}}{_E}"), _pesel),
    NationalId("Swedish personnummer", re.compile(rf"{_B}\d{{6}}-\d{{4}}{_E}"), _personnummer),
    NationalId("Swiss AHV number", re.compile(rf"{_B}756\.\d{{4}}\.\d{{4}}\.\d\d{_E}"), ean13),
    NationalId("Indian Aadhaar", re.compile(rf"{_B}[2-9]\d{{3}} \d{{4}} \d{{4}}{_E}(?! \d)"), verhoeff),
    NationalId("Canadian SIN", re.compile(rf"{_B}[1-79]\d\d([ -])\d{{3}}\1\d{{3}}{_E}(?! \d)"), luhn),
)
