"""A run's losses and learning rate as a picture."""

from __future__ import annotations

from pathlib import Path

from training_container.metrics import Point

PICTURE_NAME = "training.svg"
NAMES = (PICTURE_NAME, "training.png")
MOST_POINTS = 2000
"""Of a line: more would only make the file large."""


def draw(points: list[Point], best_step: int, folder: Path) -> None:
    """Write the picture as SVG and PNG; the same points give the same bytes.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "spotune", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 5), layout="constrained")
        losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        losses.plot(*line(points, "train_loss"), linewidth=0.8, color="tab:gray", label="training")
        losses.plot(*line(points, "eval_loss"), marker="o", markersize=3, color="tab:blue", label="held out")
        losses.axvline(best_step, linewidth=0.8, linestyle=":", color="tab:green", label=f"published: step {best_step}")
        losses.set_ylabel("loss (nats a token)")
        losses.legend()
        rates.plot(*line(points, "learning_rate"), color="tab:orange")
        rates.set_ylabel("learning rate")
        rates.set_xlabel("step")
        for name in NAMES:
            figure.savefig(folder / name, dpi=120, metadata={"Date": None} if name.endswith(".svg") else {})


def line(points: list[Point], name: str) -> tuple[list[float], list[float]]:
    """Steps and values of one metric, thinned out evenly; of a step that was logged twice the later value."""
    found = {point["step"]: point[name] for point in points if name in point}
    steps = sorted(found)
    kept = steps[:: -(-len(steps) // MOST_POINTS) or 1]
    return kept, [found[step] for step in kept]
