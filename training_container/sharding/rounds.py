"""A global batch, shared out: each rank its sequences, and every rank the same number of forward passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from training_container.sharding.world import World

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Round(Generic[T]):
    """One forward pass of this rank. One that does not count only keeps the others company."""

    items: list[T]
    counts: bool
    last: bool


def share(items: Sequence[T], world: World) -> Iterator[T]:
    """This rank's items, read one by one."""
    return (items[number] for number in world.share(len(items)))


def rounds(items: Sequence[T], size: int, world: World) -> Iterator[Round[T]]:
    """This rank's share of `items` in rounds of at most `size`.

    Ranks wait for each other in each round. One whose share is used up repeats the first item, which all ranks have,
    and gives it no weight; so a batch that cannot be shared evenly has the very gradients of one that could.
    """
    mine = world.share(len(items))
    largest = -(-len(items) // world.size)
    count = -(-largest // size)
    for number in range(count):
        part = [items[index] for index in mine[number * size : (number + 1) * size]]
        yield Round(part or [items[0]], counts=bool(part), last=number == count - 1)
