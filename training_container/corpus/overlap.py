"""Rows that stand in two files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from training_container.corpus.store import DIGEST_BYTES, TokenStore

BLOCK_ROWS = 1 << 16
_DIGEST = np.dtype(f"S{DIGEST_BYTES}")


def overlap(one: TokenStore, other: TokenStore) -> int:
    """How many different digests are in both. Memory holds the digests of the smaller store."""
    smaller, larger = sorted((one, other), key=len)
    if not len(smaller):
        return 0
    known = np.unique(np.fromiter(smaller.digests(), _DIGEST, len(smaller)))
    met = np.zeros(len(known), np.bool_)
    for block in _blocks(larger):
        places = np.minimum(np.searchsorted(known, block), len(known) - 1)
        met[places[known[places] == block]] = True
    return int(met.sum())


def _blocks(store: TokenStore) -> Iterator[NDArray[np.bytes_]]:
    digests = iter(store.digests())
    while block := list(islice(digests, BLOCK_ROWS)):
        yield np.array(block, _DIGEST)
