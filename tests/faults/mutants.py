"""Deliberate bugs that the suite has to catch: `make faults-mutants`.

Each is put into the running process, so that nothing of it lies in the product. A suite that passes with one of them
in place proves nothing where that one is.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from rich.console import Console
from rich.table import Table

from tests.faults import job_mutants, retraining_mutants
from tests.faults.retraining import retrain
from tests.faults.simulation import simulate

MOST_SEEDS = 24
"""A bug that so many histories do not show is not caught."""

MUTANTS = {**job_mutants.MUTANTS, **retraining_mutants.MUTANTS}


def caught_by(name: str, seeds: range) -> tuple[int, str] | None:
    """The first seed that shows this bug, and what it shows; None where none does. Leaves the process spoilt."""
    MUTANTS[name]()
    history = simulate if name in job_mutants.MUTANTS else retrain
    for seed in seeds:
        if violations := history(seed, to_the_end=False).violations:
            return seed, violations[0]
    return None


def main() -> None:
    """Each bug in a process of its own; exit 1 where one is not caught."""
    listed = Table("deliberate bug", "caught by seed", "as")
    missed = 0
    with ProcessPoolExecutor(os.cpu_count(), max_tasks_per_child=1) as pool:
        found = list(pool.map(partial(caught_by, seeds=range(MOST_SEEDS)), MUTANTS))
    for name, shown in zip(MUTANTS, found, strict=True):
        missed += shown is None
        listed.add_row(name, str(shown[0]) if shown else "none", shown[1][:90] if shown else "[red]NOT CAUGHT[/red]")
    Console(width=160).print(listed)
    print(f"{len(MUTANTS) - missed} of {len(MUTANTS)} caught")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
