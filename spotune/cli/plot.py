"""`plan --plot`: the front of cost against time as a picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from spotune.cli import words
from spotune.contracts.base import MICRO
from spotune.contracts.errors import RequestRefused
from spotune.contracts.plan import FrontPoint, Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = (".png", ".svg", ".html")


def check_target(file: Path) -> None:
    """Refuse a picture that could not be written, before anything is planned.

    Raises:
        RequestRefused: the name ends in none of `KINDS`, its folder is missing, or matplotlib is not installed.
    """
    if file.suffix.lower() not in KINDS:
        raise RequestRefused(
            f"Cannot plot into {file.name}.", code="plot_kind", param="plot", remedy=f"End it in {', '.join(KINDS)}."
        )
    if not file.resolve().parent.is_dir():
        raise RequestRefused(f"There is no folder {file.parent}.", code="plot_folder", param="plot")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise RequestRefused(
            "matplotlib is not installed.", code="plot_library", param="plot", remedy="pip install 'spotune[plot]'"
        ) from None


def write_plot(plan: Plan, title: str, file: Path) -> None:
    """The front of this plan, as the kind of picture that the file's name asks for."""
    figure = _draw(plan, title)
    if file.suffix.lower() != ".html":
        figure.savefig(file, format=file.suffix.lower()[1:], dpi=160)
        return
    picture = io.StringIO()
    figure.savefig(picture, format="svg")
    svg = picture.getvalue()
    page = f"<!doctype html><meta charset='utf-8'><title>{title}</title>\n{svg[svg.index('<svg') :]}"
    file.write_text(page, encoding="utf-8")


def _draw(plan: Plan, title: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot(xlabel="hours, queue and interruptions included", ylabel="dollars", title=title)
    for meets, colour, label in ((True, "tab:green", "meets every constraint"), (False, "tab:gray", "does not")):
        points = [point for point in plan.front if point.meets is meets]
        if points:
            _mark(axes, points, colour, label)
    chosen = plan.chosen
    axes.plot(chosen.wall_hours.mid, chosen.cost.mid / MICRO, "o", ms=14, mfc="none", mec="black", label="chosen")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis, text in ((axes.xaxis, "{x:g}"), (axes.yaxis, "${x:g}")):
        axis.set_major_formatter(text)
        axis.set_minor_formatter(text)
    axes.tick_params(which="minor", labelsize=7)
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend()
    return figure


def _mark(axes: object, points: list[FrontPoint], colour: str, label: str) -> None:
    hours, dollars = [point.wall_hours for point in points], [point.cost for point in points]
    axes.errorbar(  # type: ignore[attr-defined]
        [one.mid for one in hours],
        [one.mid / MICRO for one in dollars],
        xerr=[[one.mid - one.low for one in hours], [one.high - one.mid for one in hours]],
        yerr=[[(one.mid - one.low) / MICRO for one in dollars], [(one.high - one.mid) / MICRO for one in dollars]],
        fmt="o",
        color=colour,
        ecolor=colour,
        elinewidth=0.7,
        label=label,
    )
    for number, point in enumerate(points):
        name = f"{point.instance_count} x {point.instance_type}\n{words.market(point.market)}, {point.method}"
        axes.annotate(  # type: ignore[attr-defined]
            name,
            (point.wall_hours.mid, point.cost.mid / MICRO),
            xytext=(6, 6 if number % 2 else -18),
            textcoords="offset points",
            fontsize=7,
        )
