"""The front of cost against time: what cheaper costs in hours, and faster in dollars."""

from __future__ import annotations

from collections.abc import Iterable

from spotune.planner.options import Option


def pareto_front(options: Iterable[Option]) -> list[Option]:
    """Options that no other one beats in both expected cost and expected wall time, cheapest first."""
    front: list[Option] = []
    for option in sorted(options, key=lambda option: (option.cost.mid, option.course.wall.mid)):
        if not front or option.course.wall.mid < front[-1].course.wall.mid:
            front.append(option)
    return front
