"""`make faults [SEED=n]`: many seeds on all cores, what was struck, and what was broken.

Without arguments 200 fresh seeds; with one number that history alone, again.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from secrets import randbelow

from rich.console import Console
from rich.table import Table

from tests.faults.history import Result
from tests.faults.simulation import simulate

SEEDS = 200
LEAST_JOBS, LEAST_FAULTS, LONGEST_SECONDS = 5_000, 20_000, 600.0


def main() -> None:
    """Run, print, and exit with 1 where an invariant was broken or a bar missed."""
    if len(sys.argv) > 1:
        result = simulate(int(sys.argv[1]))
        _print([result], 0.0)
        sys.exit(1 if result.violations else 0)
    first, began = randbelow(10**9), time.monotonic()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(simulate, range(first, first + SEEDS), chunksize=2))
    seconds = time.monotonic() - began
    _print(results, seconds)
    jobs, faults = sum(one.jobs for one in results), sum(one.faults.total() for one in results)
    missed = jobs < LEAST_JOBS or faults < LEAST_FAULTS or seconds > LONGEST_SECONDS
    sys.exit(1 if missed or any(one.violations for one in results) else 0)


def _print(results: list[Result], seconds: float) -> None:
    faults, states = Counter[str](), Counter[str]()
    for one in results:
        faults += one.faults
        states += one.states
    listed = Table("fault", "times", title=f"Seeds {results[0].seed} to {results[-1].seed}")
    for kind, times in faults.most_common():
        listed.add_row(kind, f"{times:,}")
    console = Console()
    console.print(listed)
    ended = ", ".join(f"{count:,} {state}" for state, count in states.most_common())
    console.print(f"{sum(one.jobs for one in results):,} jobs ({ended}), {faults.total():,} faults, {seconds:.0f} s")
    broken = [one for one in results if one.violations]
    for one in broken:
        console.print(f"[red]seed {one.seed}[/red]: again with `make faults SEED={one.seed}`")
        for words in one.violations[:8]:
            console.print(f"  {words}", markup=False)
    console.print(f"{sum(len(one.violations) for one in results)} violations of invariants")


if __name__ == "__main__":
    main()
