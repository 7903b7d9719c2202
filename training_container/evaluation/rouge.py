"""ROUGE-L (Lin 2004, section 3.1): how much of a reference an answer repeats in the same order."""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+")


def rouge_l(answer: str, reference: str) -> float:
    """F-measure, from 0 to 1, of the longest common subsequence of lower-case words; precision and recall weigh alike.

    Where neither text has a word they are compared as they are.
    """
    ours, theirs = (_WORD.findall(text.lower()) for text in (answer, reference))
    if not ours and not theirs:
        return float(answer.strip() == reference.strip())
    return 2 * common_subsequence(ours, theirs) / (len(ours) + len(theirs))


def common_subsequence(ours: list[str], theirs: list[str]) -> int:
    """Length of the longest sequence of words that both have in this order, gaps allowed.

    By bits (Hyyro 2004): bit `j` of `row` is 0 where the length grows at word `j` of `ours`, so that a word of
    `theirs` costs a few operations on one integer however long `ours` is.
    """
    places: dict[str, int] = {}
    for number, word in enumerate(ours):
        places[word] = places.get(word, 0) | 1 << number
    every = (1 << len(ours)) - 1
    row = every
    for word in theirs:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & every
    return len(ours) - row.bit_count()
