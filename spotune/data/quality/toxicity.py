"""Markers of toxic text: words that hardly ever stand in a good answer. Off unless asked for.

A list of words knows no irony and no quotation, and what it finds is a place to look at, not a verdict. It is short on
purpose: insults, threats and obscenities that are unambiguous in English.
"""

from __future__ import annotations

import re

_MARKERS = re.compile(
    r"\b(?:fuck\w*|motherfuck\w*|bullshit|shithead\w*|assholes?|bitch(?:es)?|bastards?|cunts?|dickheads?"
    r"|wankers?|whores?|sluts?|retards?|morons?|imbeciles?|scumbags?|kill yourself|go die"
    r"|i(?:'ll| will) kill you|hope you die|rape (?:you|her|him)"
    r"|subhumans?|vermin like you|piece of shit)\b",
    re.IGNORECASE,
)


def toxic_markers(text: str) -> int:
    """How many there are."""
    return sum(1 for _ in _MARKERS.finditer(text))
