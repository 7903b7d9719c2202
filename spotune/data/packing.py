"""Rows of many lengths into sequences of one capacity."""

from __future__ import annotations

from collections.abc import Sequence


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Put each row, longest first, into the first sequence that has room (first-fit decreasing).

    At most 11/9 of the fewest possible sequences, plus 6/9 (Dosa, 2007). Deterministic: equal lengths keep their
    order. O(n log n) by a tournament tree over the room left in each sequence.

    Args:
        lengths: tokens of each row.
        capacity: tokens of a sequence.

    Returns:
        For each sequence the indices of its rows, longest row first.

    Raises:
        ValueError: a row is longer than `capacity`.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    if order and lengths[order[0]] > capacity:
        raise ValueError(f"row {order[0]} has {lengths[order[0]]} tokens; a sequence takes {capacity}")
    leaves = 1 << max(0, len(lengths) - 1).bit_length()
    room = [capacity] * (2 * leaves)
    sequences: list[list[int]] = []
    for index in order:
        leaf = _first_with_room(room, leaves, lengths[index])
        if leaf == len(sequences):
            sequences.append([])
        sequences[leaf].append(index)
        _take(room, leaves + leaf, lengths[index])
    return sequences


def _first_with_room(room: list[int], leaves: int, length: int) -> int:
    node = 1
    while node < leaves:
        node *= 2
        if room[node] < length:
            node += 1
    return node - leaves


def _take(room: list[int], node: int, length: int) -> None:
    """Take room from a leaf; each node above holds the most room below it."""
    room[node] -= length
    while node > 1:
        node //= 2
        most = max(room[2 * node], room[2 * node + 1])
        if room[node] == most:
            return
        room[node] = most
