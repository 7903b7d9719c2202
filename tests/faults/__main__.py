"""`make faults [SEED=n]`: many seeds on all cores, what was struck, and what was broken.

Without arguments fresh seeds, 200 of jobs and 46 of new data; with one number both histories of that seed, again.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from secrets import randbelow

from rich.console import Console
from rich.table import Table

from tests.faults.history import Result
from tests.faults.retraining import retrain
from tests.faults.simulation import simulate

SEEDS, LANDING_SEEDS = 200, 46
LEAST_JOBS, LEAST_ARRIVALS, LEAST_FAULTS, LONGEST_SECONDS = 5_000, 10_000, 20_000, 600.0


def main() -> None:
    """Run, print, and exit with 1 where an invariant was broken or a bar missed."""
    if len(sys.argv) > 1:
        seed = int(sys.argv[1])
        sys.exit(1 if _broken([simulate(seed)], "of jobs") | _broken([retrain(seed)], "of new data") else 0)
    first = randbelow(10**9)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs, broken = _played(pool, simulate, range(first, first + SEEDS), "of jobs")
        landed, more = _played(pool, retrain, range(first, first + LANDING_SEEDS), "of new data")
    missed = sum(one.jobs for one in jobs) < LEAST_JOBS or sum(one.arrivals for one in landed) < LEAST_ARRIVALS
    missed = missed or sum(one.faults.total() for one in jobs) < LEAST_FAULTS
    sys.exit(1 if missed or broken or more else 0)


def _played(
    pool: ProcessPoolExecutor, history: Callable[[int], Result], seeds: range, what: str
) -> tuple[list[Result], bool]:
    """The histories of these seeds, and whether something is wrong with them: they last too long, or break."""
    began = time.monotonic()
    results = list(pool.map(history, seeds, chunksize=2))
    seconds = time.monotonic() - began
    print(f"{len(results)} histories {what} in {seconds:.0f} s")
    return results, _broken(results, what) or seconds > LONGEST_SECONDS


def _broken(results: list[Result], what: str) -> bool:
    """Print what these histories came to; True where an invariant was broken."""
    faults, states = Counter[str](), Counter[str]()
    for one in results:
        faults += one.faults
        states += one.states
    listed = Table("fault", "times", title=f"Seeds {results[0].seed} to {results[-1].seed} {what}")
    for kind, times in faults.most_common():
        listed.add_row(kind, f"{times:,}")
    console = Console()
    console.print(listed)
    ended = ", ".join(f"{count:,} {state}" for state, count in states.most_common())
    arrivals = sum(one.arrivals for one in results)
    landed = f"{arrivals:,} arrivals, " if arrivals else ""
    console.print(f"{landed}{sum(one.jobs for one in results):,} jobs ({ended}), {faults.total():,} faults")
    broken = [one for one in results if one.violations]
    for one in broken:
        console.print(f"[red]seed {one.seed}[/red]: again with `make faults SEED={one.seed}`")
        for words in one.violations[:8]:
            console.print(f"  {words}", markup=False)
    console.print(f"{sum(len(one.violations) for one in results)} violations of invariants")
    return bool(broken)


if __name__ == "__main__":
    main()
