"""Pure: under which licence a model comes, and whether somebody has to accept it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from spotune.contracts.base_model import Licence

OPEN = frozenset({"apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "isc", "mit", "unlicense"})
"""Licences that bind nobody who only uses and tunes the model. Every other one has to be accepted."""


def licence_of(card: Mapping[str, object], texts: Mapping[str, bytes], *, gated: bool) -> tuple[Licence, str]:
    """The licence, and the text that is to be shown: the repository's own, else what the hub shows before its gate.

    Args:
        card: the head of the repository's README.
        texts: the repository's licence files.
    """
    text = "\n\n".join(body.decode(errors="replace") for _, body in sorted(texts.items()))
    text = text or _word(card, "extra_gated_prompt")
    named = _word(card, "license")
    if named == "other":
        named = _word(card, "license_name") or named
    digest = hashlib.sha256(text.encode()).hexdigest() if text else ""
    return Licence(id=named.lower(), link=_word(card, "license_link"), gated=gated, text_sha256=digest), text


def must_be_accepted(licence: Licence) -> bool:
    """True unless it is known to ask nothing of its users, and nobody stands at the gate."""
    return licence.gated or licence.id not in OPEN


def _word(card: Mapping[str, object], name: str) -> str:
    """A field of the card, of whichever kind its author made it."""
    value = card.get(name)
    if isinstance(value, list):
        return " and ".join(str(one) for one in value)
    return value if isinstance(value, str) else ""
