"""Personal data and secrets: by shape, and by checksum wherever there is one.

`private_values` reads one text with care; `screen` says beforehand which of many rows it has to read at all, and what
for.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from typing import NamedTuple

from spotune.contracts.quality import IssueKind
from spotune.data.quality.checksums import crc32_base62, luhn, mod97
from spotune.data.quality.national import NATIONAL_IDS

_SHOWN_FROM = 9
"""Characters of a value of which two may be shown."""


class PrivateValue(NamedTuple):
    """One place in a text. The value itself is never shown."""

    kind: IssueKind
    what: str
    start: int
    end: int


def private_values(text: str) -> Iterator[PrivateValue]:
    """Every piece of personal data and every secret of a text, kind by kind."""
    yield from addresses(text)
    yield from tokens(text)
    yield from numbers(text)


def masked(value: PrivateValue, text: str) -> str:
    """Words about a value that show two characters of it at most, and of a short one none."""
    length = value.end - value.start
    shown = text[value.start : value.start + 2] if length >= _SHOWN_FROM else ""
    return f"{value.what} {shown}… ({length} characters)"


def redacted(text: str) -> str:
    """The text with every such value replaced by what it is."""
    for value in sorted(private_values(text), key=lambda each: each.start, reverse=True):
        text = f"{text[: value.start]}[{value.what}]{text[value.end :]}"
    return text


# Addresses: what has an @.

_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][\w.+%-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,24}(?![\w-])", re.ASCII
)
_URL_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"'<>]{1,64}:([^\s/@\"'<>]{3,128})@", re.ASCII)
_RESERVED = re.compile(r"@(?:.*\.)?(?:example\.(?:com|org|net)|example|test|invalid|localhost|local)\Z", re.IGNORECASE)
"""RFC 2606: nobody's."""
_PLACEHOLDER = re.compile(r"(?:pass(?:word|wd)?|pwd|secret|token|x+|\*+|\.+|your.*|[$<{\[%].*)", re.IGNORECASE)


def addresses(text: str) -> Iterator[PrivateValue]:
    """E-mail addresses, and URLs with a password."""
    if "@" not in text:
        return
    for found in _URL_PASSWORD.finditer(text):
        if not _PLACEHOLDER.fullmatch(found[1]):
            yield PrivateValue("password_in_url", "password", *found.span(1))
    for found in _EMAIL.finditer(text):
        if not _RESERVED.search(found[0]) and text[max(0, found.start() - 1) : found.start()] != ":":
            yield PrivateValue("email", "e-mail address", *found.span())


# Tokens: what begins as nothing else does.

_CHECKED = re.compile(r"(?:gh[oprsu]|npm)_([A-Za-z0-9]{30})([A-Za-z0-9]{6})(?![A-Za-z0-9])")
_SHAPED = re.compile(
    r"(?:github_pat_\w{82}|sk-ant-[\w-]{24,}|sk-[\w-]{16,}T3BlbkFJ[\w-]{16,}|hf_[A-Za-z]{34}|rk_live_[A-Za-z0-9]{24,}"
    r"|sk_live_[A-Za-z0-9]{24,}|xox[abprs]-[A-Za-z0-9-]{10,}|AIza[\w-]{35})(?![A-Za-z0-9_-])",
    re.ASCII,
)
"""GitHub, Anthropic, OpenAI, Hugging Face, Stripe, Slack, Google. No pattern begins with a look behind it, which would
be tried at every letter: `_apart` looks."""
_PRIVATE_KEY = re.compile(r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_JWT = re.compile(r"(eyJ[\w-]{10,})\.eyJ[\w-]{4,}\.[\w-]{16,}", re.ASCII)
_VARIED = 8
"""Different characters that a real token has at least; made-up ones are often one letter again and again."""


def tokens(text: str) -> Iterator[PrivateValue]:
    """Tokens of services, JSON web tokens and private keys."""
    for found in _CHECKED.finditer(text):
        if _apart(found) and crc32_base62(found[1], found[2]):
            yield PrivateValue("api_token", "API token", *found.span())
    for found in _SHAPED.finditer(text):
        if _apart(found) and len(set(found[0])) >= _VARIED:
            yield PrivateValue("api_token", "API token", *found.span())
    for found in _JWT.finditer(text):
        if _apart(found) and _is_header(found[1]):
            yield PrivateValue("jwt", "JSON web token", *found.span())
    for found in _PRIVATE_KEY.finditer(text):
        end = text.find("-----END", found.end())
        yield PrivateValue("private_key", "private key", found.start(), end if end >= 0 else len(text))


def _apart(found: re.Match[str]) -> bool:
    """True where no letter or digit stands before it."""
    return not found.start() or not found.string[found.start() - 1].isalnum()


def _is_header(part: str) -> bool:
    try:
        header = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return False
    return isinstance(header, dict) and "alg" in header


# Numbers: what has digits and capitals enough.

_AWS_KEY = re.compile(r"A(?:KIA|SIA)[A-Z2-7]{16}(?![A-Za-z0-9])")
_STRETCH = re.compile(r"[A-Z0-9+(][A-Z0-9 .()+-]{7,}")
_ENOUGH = re.compile(
    r"\d(?:[ .()-]{0,3}\d){6}(?:[ .()-]{0,3}\d)?(?:[ .()-]{0,3}\d|-?[A-Z])|[A-Z][A-Z] ?\d ?\d", re.ASCII
)
"""The least that any number below has: nine digits, seven or eight and a letter, or two letters and two digits."""
_CARD = re.compile(
    r"(?<![\d.-])(?=(\d{13,19}(?![\d])|\d{4}([ -])\d{4}\2\d{4}\2\d{1,7}(?![\d])|\d{4}([ -])\d{6}\3\d{4,5}(?![\d])))"
)
_ISSUERS = re.compile(
    r"4(?:.{12}|.{15}|.{18})|5[1-5].{14}|2(?:22[1-9]|2[3-9].|[3-6]..|7[01].|720).{12}|3[47].{13}"
    r"|3(?:0[0-5]|[68].).{11}|6(?:011|5..|4[4-9].).{12,15}|35(?:2[89]|[3-8].).{12}|62.{14,17}"
)
"""Visa, Mastercard, American Express, Diners, Discover, JCB, UnionPay: first digits and lengths."""
_IBAN = re.compile(r"(?<![A-Za-z0-9])([A-Z]{2}\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?)(?![A-Za-z0-9])")
_COUNTRIES = (
    "AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BR:29 BY:28 CH:21 CR:22 CY:28 CZ:24 DE:22 DK:18 DO:28 "
    "EE:20 EG:29 ES:24 FI:18 FO:18 FR:27 GB:22 GE:22 GI:23 GL:18 GR:27 GT:28 HR:21 HU:28 IE:22 IL:23 IQ:23 IS:26 "
    "IT:27 JO:30 KW:30 KZ:20 LB:28 LC:32 LI:21 LT:20 LU:20 LV:21 LY:25 MC:27 MD:24 ME:22 MK:19 MR:27 MT:31 MU:30 "
    "NL:18 NO:15 PK:24 PL:28 PS:29 PT:25 QA:29 RO:24 RS:22 SA:24 SC:31 SE:24 SI:19 SK:24 SM:27 ST:25 SV:28 TL:23 "
    "TN:24 TR:26 UA:29 VA:22 VG:24 XK:20"
)
"""SWIFT's IBAN registry: letters and digits of an account, by country."""
_IBAN_LENGTHS = {pair[:2]: int(pair[3:]) for pair in _COUNTRIES.split()}
_INTERNATIONAL = re.compile(r"(?<![\w+.)])\+[1-9]\d{0,2}(?:[ .-]?\(?\d{1,5}\)?){1,6}(?![\w])", re.ASCII)
_FEWEST_DIGITS, _MOST_DIGITS = 9, 15
"""Of an international number, country code included (E.164; shorter ones are rare, and look like anything)."""
_NORTH_AMERICAN = re.compile(
    r"(?<![\w.+-])(?:\+?1[ .-]?)?(?:\(([2-9]\d\d)\) ?|([2-9]\d\d)[.-])([2-9]\d\d)[.-](\d{4})(?![\w-])", re.ASCII
)


def numbers(text: str) -> Iterator[PrivateValue]:
    """AWS keys, cards, bank accounts, national ids and phones; what is one of them is not looked at as another."""
    for found in _AWS_KEY.finditer(text):
        if _apart(found) and not found[0].endswith("EXAMPLE"):
            yield PrivateValue("aws_key", "AWS access key id", *found.span())
    for stretch in _STRETCH.finditer(text):
        if _ENOUGH.search(stretch[0]):
            yield from _numbers_within(text, stretch.start(), stretch.end() + 1)


def _numbers_within(text: str, start: int, end: int) -> Iterator[PrivateValue]:
    """In a stretch of digits, capitals and what may separate them, and the letter after it."""
    taken: list[tuple[int, int]] = []
    for look in (_ibans, _cards, _national_ids, _phones):  # the surest first: some accounts end like a card
        for value in look(text, start, end):
            if not any(value.start < stop and begin < value.end for begin, stop in taken):
                taken.append((value.start, value.end))
                yield value


def _cards(text: str, start: int, end: int) -> Iterator[PrivateValue]:
    for found in _CARD.finditer(text, start, end):
        digits = _plain(found[1])
        if _ISSUERS.fullmatch(digits) and len(set(digits)) > 1 and luhn(digits):
            yield PrivateValue("card_number", "card number", *found.span(1))


def _ibans(text: str, start: int, end: int) -> Iterator[PrivateValue]:
    for found in _IBAN.finditer(text, start, end):
        written = found[1]
        places = [at for at, letter in enumerate(written) if letter != " "]
        length = _IBAN_LENGTHS.get(written[:2], 0)
        if 0 < length <= len(places):  # a word in capitals may follow it
            stop = places[length - 1] + 1
            if mod97(written[:stop].replace(" ", "")):
                yield PrivateValue("iban", "IBAN", found.start(), found.start() + stop)


def _national_ids(text: str, start: int, end: int) -> Iterator[PrivateValue]:
    for each in NATIONAL_IDS:
        for found in each.pattern.finditer(text, start, end):
            if each.valid(_plain(found[0])):
                yield PrivateValue("national_id", each.name, *found.span())


def _phones(text: str, start: int, end: int) -> Iterator[PrivateValue]:
    for found in _NORTH_AMERICAN.finditer(text, start, end):
        area = found[1] or found[2]
        if not (area.endswith("11") or found[3].endswith("11") or _fictional(found[3], found[4])):
            yield PrivateValue("phone", "phone number", *found.span())
    for found in _INTERNATIONAL.finditer(text, start, end):
        written = found[0]
        while len(digits := _plain(written)) > _MOST_DIGITS and " " in written:  # another number follows it
            written = written.rpartition(" ")[0]
        fictional = digits[0] == "1" and _fictional(digits[4:7], digits[7:])
        if _FEWEST_DIGITS <= len(digits) <= _MOST_DIGITS and not fictional:
            yield PrivateValue("phone", "phone number", found.start(), found.start() + len(written))


def _fictional(exchange: str, line: str) -> bool:
    """555-0100 to 555-0199: nobody's."""
    return exchange == "555" and line.startswith("01")


_SEPARATORS = str.maketrans("", "", " .-()+")


def _plain(written: str) -> str:
    return written.translate(_SEPARATORS)
