"""Every kind of issue: what it is called, and what to do about it. docs/quality.md explains how each is found."""

from __future__ import annotations

from typing import NamedTuple

from spotune.contracts.quality import IssueKind


class Kind(NamedTuple):
    """What people read of a kind of issue."""

    title: str
    remedy: str


_ANONYMISE = "Remove it, or replace it by a made-up one: a model may repeat what it has learned."
_REVOKE = "Revoke it now: whoever can read the file can use it. Then remove it from the rows."

KINDS: dict[IssueKind, Kind] = {
    "leaked": Kind("Also in the training data", "Remove the rows from one side: what was learned cannot be measured."),
    "nearly_leaked": Kind(
        "Almost the same in the training data", "Remove the rows from one side: they measure memory, not skill."
    ),
    "exact_duplicate": Kind("Exact duplicates", "Keep one of each, unless the repetition is meant."),
    "near_duplicate": Kind(
        "Near duplicates", "Keep one of each: copies with small changes teach little, and weigh double."
    ),
    "says_nothing": Kind("Answers that say nothing", "Give the answer that the model should learn, or remove the row."),
    "too_short": Kind("Very short rows", "Look at a few: rows of a few letters are often cut or empty by mistake."),
    "too_long": Kind("Much longer than the others", "Look at them: a whole document may have got into one row."),
    "mojibake": Kind("Text decoded with the wrong encoding", "Decode the source as UTF-8 and write the file anew."),
    "replacement_character": Kind(
        "Characters lost in decoding (U+FFFD)", "Go back to the source: what stood there cannot be restored from here."
    ),
    "control_character": Kind("Control characters", "Remove them: they come from terminals, PDFs or damaged files."),
    "minority_language": Kind("Rows in another language than the most", "Keep them if they are meant to be there."),
    "private_key": Kind("Private keys", _REVOKE),
    "aws_key": Kind("AWS access keys", _REVOKE),
    "api_token": Kind("API tokens", _REVOKE),
    "jwt": Kind("JSON web tokens", _REVOKE),
    "password_in_url": Kind("Passwords in URLs", _REVOKE),
    "card_number": Kind("Payment card numbers", _ANONYMISE),
    "iban": Kind("Bank accounts (IBAN)", _ANONYMISE),
    "national_id": Kind("National ids", _ANONYMISE),
    "email": Kind("E-mail addresses", _ANONYMISE),
    "phone": Kind("Phone numbers", _ANONYMISE),
    "toxic": Kind("Toxic words", "Look at them: some are quoted or asked about, others are what the model would say."),
}
"""In the order in which they are shown: what spoils a measurement first, what spoils the training next."""

SECRET: frozenset[IssueKind] = frozenset({"private_key", "aws_key", "api_token", "jwt", "password_in_url"})
PERSONAL: frozenset[IssueKind] = frozenset({"card_number", "iban", "national_id", "email", "phone"})
