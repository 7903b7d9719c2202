"""Licences as repositories name them, and which of them somebody has to accept."""

from __future__ import annotations

import hashlib

import pytest

from spotune.mirror.licences import licence_of, must_be_accepted


def test_the_repositorys_own_text_is_the_one_that_is_shown() -> None:
    texts = {"USE_POLICY.md": b"Do no harm.", "LICENSE": b"Community licence."}
    licence, text = licence_of({"license": "llama3.1", "extra_gated_prompt": "Short."}, texts, gated=True)
    assert text == "Community licence.\n\nDo no harm."
    assert (licence.id, licence.gated) == ("llama3.1", True)
    assert licence.text_sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_without_one_it_is_what_the_hub_shows_before_its_gate() -> None:
    licence, text = licence_of({"license": "gemma", "extra_gated_prompt": "Read this."}, {}, gated=True)
    assert text == "Read this."
    assert licence.text_sha256


def test_a_licence_of_the_authors_own_has_the_name_and_the_link_that_they_gave_it() -> None:
    card = {"license": "other", "license_name": "tongyi-qianwen", "license_link": "https://example.com/LICENSE"}
    licence, text = licence_of(card, {}, gated=False)
    assert (licence.id, licence.link, text, licence.text_sha256) == (
        "tongyi-qianwen",
        "https://example.com/LICENSE",
        "",
        "",
    )


@pytest.mark.parametrize(
    ("card", "gated", "asks"),
    [
        ({"license": "apache-2.0"}, False, False),
        ({"license": "MIT"}, False, False),
        ({"license": "apache-2.0"}, True, True),
        ({"license": "cc-by-nc-4.0"}, False, True),
        ({"license": "llama3.1"}, False, True),
        ({"license": "other"}, False, True),
        ({"license": ["mit", "cc-by-nc-4.0"]}, False, True),
        ({"license": 3}, False, True),
        ({}, False, True),
    ],
)
def test_whatever_is_not_known_to_ask_nothing_has_to_be_accepted(
    card: dict[str, object], gated: bool, asks: bool
) -> None:
    licence, _ = licence_of(card, {}, gated=gated)
    assert must_be_accepted(licence) is asks


def test_a_text_that_is_no_text_is_shown_as_far_as_it_can_be() -> None:
    _, text = licence_of({}, {"LICENSE": b"\xff\xfeL"}, gated=False)
    assert text.endswith("L")
