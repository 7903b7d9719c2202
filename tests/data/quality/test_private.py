"""Numbers, tokens and addresses: what is one, and what only looks like one."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotune.data.quality.checksums import crc32_base62, luhn, mod11_10, mod97, verhoeff
from spotune.data.quality.encoding import damages
from spotune.data.quality.private import masked, private_values, redacted
from spotune.data.quality.screen import suspects
from tests.data.quality.planted import DAMAGE, VALUES

ONES = {
    "card_number": ("4111 1111 1111 1111", "5555555555554444", "3782 822463 10005", "6011-1111-1111-1117"),
    "iban": (
        "DE89 3704 0044 0532 0130 00",
        "GB29NWBK60161331926819",
        "NO9386011117947",
        "MT84MALT011000012345MTLCAST001S",
    ),
    "national_id": (
        "536-90-4399",
        "AB 12 34 56 C",
        "12345678Z",
        "X1234567L",
        "2 55 08 14 168 025 38",
        "RSSMRA85T10A562S",
        "86 095 742 719",
        "529.982.247-25",
        "44051401359",
        "811218-9876",
        "756.9217.0769.85",
        "2341 2341 2346",
        "130 692 544",
    ),
    "phone": ("(415) 867-5309", "415-867-5309", "+49 170 1234567", "+33 6 12 34 56 78", "+14158675309"),
    "email": ("jo.doe@gmail.com", "a+b@mail.firma-nord.de"),
    "password_in_url": ("postgres://app:s3cr3tpw@db.host/x",),
    "aws_key": ("AKIAQ3EGRZ7LM2NPW5XK",),
    "api_token": ("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", "hf_aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH"),
}
FOLLOWED = ("+49 170 1234567 2000 10 5", "+33 6 12 34 56 78 4111 1111 1111", "4111 1111 1111 1111 2024 12 31")
NONES = (
    "Order 2024-05-01 10:30, number 1234567890123456",
    "12 34 56 78 90",
    "call 555-0123 or (212) 555-0147, or +1 212 555 0147",
    "me@example.com, you@mail.example, root@localhost",
    "100 - 20 - 30 - 40 = 10 and 12345678 apples",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq18",
    "version 1.2.3.4 build 123456789",
    "https://user:password@host/ and https://user:${TOKEN}@host/",
    "4111 1111 1111 1112",
    "DE88 3704 0044 0532 0130 00",
    "000-12-3456, 666-12-3456, 912-34-5678",
    "12345678A",
    "1,234,567,890.12 or 3.14159265358979",
    "ISBN 978-3-16-148410-0",
    "0000 0000 0000 0000",
    "sk-ant-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "eyJub3QiOiJhIGhlYWRlciJ9.eyJzdWIiOiIxIn0.abcdefghijklmnopqrstuvwx",
)


@pytest.mark.parametrize(("kind", "written"), [(kind, one) for kind, ones in ONES.items() for one in ones])
@pytest.mark.parametrize("around", ["{}", "It is {}.", "({})", "“{}”", "a {}, b", "é\n{}\nTHE END 12"])
def test_each_is_found_alone_and_within_a_text(kind: str, written: str, around: str) -> None:
    text = around.format(written)
    (value,) = private_values(text)
    assert value.kind == kind
    assert written in text[value.start - 1 if value.start else 0 : value.end + 1] or kind == "password_in_url"
    assert written not in redacted(text)


@pytest.mark.parametrize("text", FOLLOWED)
def test_a_number_is_found_though_other_numbers_follow_it(text: str) -> None:
    assert [value.start for value in private_values(text)] == [0]


@pytest.mark.parametrize("text", NONES)
def test_what_only_looks_like_one_is_let_be(text: str) -> None:
    assert list(private_values(text)) == []


@given(st.sampled_from(sorted(set(VALUES) - set(DAMAGE))), st.integers(0, 10**6), st.text(max_size=30))
@settings(max_examples=300, deadline=None)
def test_the_screen_passes_over_no_row_in_which_something_is_found(kind: str, seed: int, around: str) -> None:
    row = f"{around} {VALUES[kind](Random(seed))} {around}"
    if row.isprintable() and any(True for _ in private_values(row)):
        found = suspects([b"nothing here", row.encode(), b"nor here"])
        assert (found.addresses | found.tokens | found.numbers) == {1}


@given(st.lists(st.text(alphabet="AKIASeyJ0123456789 -.()ghp_x@é\u0007Ã©z", max_size=40), max_size=8))
@settings(max_examples=300, deadline=None)
def test_the_screen_names_rows_by_their_place(rows: list[str]) -> None:
    found = suspects([row.encode() for row in rows])
    for index, row in enumerate(rows):
        alone = suspects([row.encode()])
        for together, single in zip(found[:4], alone[:4], strict=True):
            assert (index in together) == (0 in single)
        if any(True for _ in private_values(row)):
            assert index in found.addresses | found.tokens | found.numbers
        if any(True for _ in damages(row)):
            assert index in found.damage


@given(st.sampled_from(sorted(set(VALUES) - set(DAMAGE))), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_words_about_a_value_show_two_characters_of_it_at_most(kind: str, seed: int) -> None:
    text = VALUES[kind](Random(seed))
    for value in private_values(text):
        found = text[value.start : value.end]
        said = masked(value, text).removeprefix(value.what).removesuffix(f"({len(found)} characters)")
        assert not any(found[at : at + 3] in said for at in range(len(found) - 2))


def test_checksums_by_published_examples() -> None:
    assert luhn("79927398713")
    assert not luhn("79927398710")
    assert mod97("GB82WEST12345698765432")
    assert verhoeff("2363")
    assert not verhoeff("2364")
    assert mod11_10("86095742719")
    assert crc32_base62("zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ", "0mLq17")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Ã© chaud", "mojibake"),
        ("donâ€™t", "mojibake"),
        ("Â£5", "mojibake"),
        ("ðŸ˜€ hi", "mojibake"),
        ("Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "mojibake"),
        ("Ã\x9cber", "mojibake"),
        ("a\ufffdb", "replacement_character"),
        ("x\x07y", "control_character"),
        ("x\x85y", "control_character"),
    ],
)
def test_damage_is_found(text: str, kind: str) -> None:
    assert [damage.kind for damage in damages(text)] == [kind]
    assert suspects([text.encode()]).damage == {0}


@pytest.mark.parametrize(
    "text",
    [
        "GRÖSSE“ und „MÜ“",
        "RÉSUMÉ\xa0» À\xa0bientôt",
        "Ça va très bien, où êtes-vous ?",
        "naïve café — “quotes”…",
        "日本語 Ελληνικά עברית русский",
        "😀😀 ação não",
        "£5 or 20 °C, 5 × 3 ÷ 2",
        "a\tb\r\nc",
    ],
)
def test_what_is_right_is_not_taken_for_damage(text: str) -> None:
    assert list(damages(text)) == []
