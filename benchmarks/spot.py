"""`make bench-spot`: the ladder's rule against baselines on published spot traces, by job length and deadline.

A rival is undercut in a cell where it is on time at every start, as the rule has to be. One that is late at some starts
("spot only") is shown on the starts where it is in time, beside the rule on the same starts, without a bar: it buys its
price with missed deadlines.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.report import Figure, finish
from benchmarks.spot_baselines import POLICIES, optimum
from benchmarks.spot_traces import SLOT, Case, hazard, read_traces, simulate

HOURS = (1, 4, 12, 24)
DEADLINES = (1.25, 2, 4)
"""Times the job's own length."""

START_EVERY = 8 * 3600 // SLOT
LONGEST = int(max(HOURS) * max(DEADLINES) * 3600) // SLOT
"""Every start leaves this much of the trace."""

RIVALS = ("on-demand", "greedy", "Uniform Progress")
"""On time wherever on-demand is; `RESERVE_SHARE` was chosen on the 1st, 3rd, 5th and 7th trace."""

WITHIN = 1.01
NEAR_OPTIMUM = 1.15


@dataclass(frozen=True)
class Cell:
    """One job length and deadline: per policy, a value a start, over all traces looked at."""

    hours: int
    deadline: float
    costs: dict[str, list[float]]
    """Over on-demand's cost; "optimum" is one of them."""
    late: dict[str, list[bool]]

    @property
    def name(self) -> str:
        """As the table has it."""
        return f"{self.hours} h x {self.deadline:g}"

    def cost(self, policy: str) -> float:
        """Mean over the starts."""
        return statistics.fmean(self.costs[policy])

    def late_share(self, policy: str) -> float:
        """Share of the starts that miss the deadline."""
        return statistics.fmean(self.late[policy])

    def against_rivals(self) -> float:
        """The ladder's cost over the cheapest rival's that is never late."""
        return self.cost("ladder") / min(self.cost(rival) for rival in RIVALS if not any(self.late[rival]))

    def against_optimum(self, policy: str = "ladder") -> float:
        """A policy's cost over the clairvoyant one's."""
        return self.cost(policy) / self.cost("optimum")

    def against_spot_only(self) -> float:
        """The ladder's cost over that of never going on-demand, where the latter happens to be on time."""
        return self.where_spot_only_is_on_time("ladder") / self.where_spot_only_is_on_time("spot only")

    def where_spot_only_is_on_time(self, policy: str) -> float:
        """Mean cost over those starts."""
        pairs = zip(self.costs[policy], self.late["spot only"], strict=True)
        return statistics.fmean(cost for cost, late in pairs if not late)


def main() -> None:
    """Simulate every start, print the table, check the bars."""
    traces = list(read_traces().values())
    cells = [measure(hours, deadline, traces) for hours in HOURS for deadline in DEADLINES]
    held_out = [measure(hours, deadline, traces[1::2]) for hours in HOURS for deadline in DEADLINES]
    _print(cells)
    spread = Figure("shape of the gamma over the traces' hazards", _shape([hazard(trace) for trace in traces]), "")
    finish("spot", [*_per_cell(cells), *_summary("all traces", cells), *_summary("held-out traces", held_out), spread])


def measure(hours: int, deadline: float, traces: Sequence[Sequence[bool]]) -> Cell:
    """One cell over evenly spaced starts of these traces."""
    case = Case(work=hours * 3600 // SLOT, deadline=int(hours * deadline * 3600) // SLOT)
    costs: dict[str, list[float]] = {name: [] for name in (*POLICIES, "optimum")}
    late: dict[str, list[bool]] = {name: [] for name in POLICIES}
    for trace in traces:
        begins = range(0, len(trace) - LONGEST + 1, START_EVERY)
        costs["optimum"] += [cost / case.on_demand_cost for cost in optimum(case, trace, begins)]
        for name, policy in POLICIES.items():
            outcomes = [simulate(case, trace, begin, policy(case)) for begin in begins]
            costs[name] += [outcome.cost / case.on_demand_cost for outcome in outcomes]
            late[name] += [outcome.slots > case.deadline for outcome in outcomes]
    return Cell(hours, deadline, costs, late)


def _print(cells: Sequence[Cell]) -> None:
    shown = ("ladder", "greedy", "Uniform Progress", "learnt reserve", "optimum")
    title = f"Mean cost over on-demand's; {len(cells[0].costs['ladder'])} starts a cell"
    table = Table(
        "job x deadline", *shown, "spot only: late", "its cost on time", "ladder there", "greedy there", title=title
    )
    for cell in cells:
        table.add_row(
            cell.name,
            *(f"{cell.cost(policy):.3f}" for policy in shown),
            f"{cell.late_share('spot only'):.0%}",
            f"{cell.where_spot_only_is_on_time('spot only'):.3f}",
            f"{cell.where_spot_only_is_on_time('ladder'):.3f}",
            f"{cell.where_spot_only_is_on_time('greedy'):.3f}",
        )
    Console(width=150).print(table)


def _per_cell(cells: Sequence[Cell]) -> list[Figure]:
    return [
        figure
        for cell in cells
        for figure in (
            Figure(f"{cell.name}: cost", cell.cost("ladder"), "of on-demand"),
            Figure(f"{cell.name}: late", cell.late_share("ladder") * 100, "%", 0),
            Figure(f"{cell.name}: against the best rival", cell.against_rivals(), "x", WITHIN),
            Figure(f"{cell.name}: against the optimum", cell.against_optimum(), "x"),
            Figure(f"{cell.name}: spot only, late", cell.late_share("spot only") * 100, "%"),
            Figure(f"{cell.name}: against spot only where that is on time", cell.against_spot_only(), "x"),
        )
    ]


def _summary(traces: str, cells: Sequence[Cell]) -> list[Figure]:
    late = max(cell.late_share("ladder") for cell in cells) * 100
    mean = {name: statistics.fmean(cell.against_optimum(name) for cell in cells) for name in POLICIES}
    return [
        Figure(f"{traces}: late, worst cell", late, "%", 0),
        Figure(f"{traces}: against the best rival, worst cell", max(c.against_rivals() for c in cells), "x", WITHIN),
        Figure(f"{traces}: against the optimum, mean of cells", mean["ladder"], "x", NEAR_OPTIMUM),
        *(Figure(f"{traces}: {name} against the optimum", mean[name], "x") for name in (*RIVALS, "learnt reserve")),
    ]


def _shape(rates: Sequence[float]) -> float:
    return statistics.fmean(rates) ** 2 / statistics.pvariance(rates)


if __name__ == "__main__":
    main()
