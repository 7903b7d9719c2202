"""Which rows are held out for evaluation."""

from __future__ import annotations

from hashlib import blake2b

from spotune.data.rows import Example, split_hash


def held_out(example: Example | bytes, fraction: float, seed: int) -> bool:
    """True for about `fraction` of all rows, chosen by their `split_hash` and the seed alone.

    Duplicates fall on the same side, and so do all judged answers to one prompt; neither order nor file length matter.
    The share of a small file varies: the caller must expect that no row, or every row, is held out.
    """
    digest = example if isinstance(example, bytes) else split_hash(example)
    drawn = blake2b(digest, digest_size=8, salt=seed.to_bytes(8, "big")).digest()
    return int.from_bytes(drawn, "big") < fraction * 2**64
