"""`checkpoints/metrics.jsonl`: every logged step of a run, over all its processes."""

from __future__ import annotations

import json
from pathlib import Path

from training_container.folders import replace_file

METRICS_NAME = "metrics.jsonl"

Point = dict[str, float]
"""`step` and what was logged there."""


class MetricsLog:
    """Appends points. What a killed process logged beyond the checkpoint that is gone on from is cut off again."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / METRICS_NAME

    def append(self, point: Point) -> None:
        """Add one point; a process that is killed meanwhile leaves half a line, which is passed over."""
        with self._path.open("a") as file:
            file.write(json.dumps(point) + "\n")

    def cut(self, step: int) -> None:
        """Forget what was logged beyond `step`."""
        kept = [point for point in self.points() if point["step"] <= step]
        replace_file(self._path, "".join(json.dumps(point) + "\n" for point in kept).encode())

    def points(self) -> list[Point]:
        """Every whole point, in the order of logging."""
        try:
            lines = self._path.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []
        return [point for line in lines if (point := _whole(line)) is not None]


def _whole(line: str) -> Point | None:
    try:
        point = json.loads(line)
    except ValueError:
        return None
    return point if isinstance(point, dict) and isinstance(point.get("step"), int) else None
