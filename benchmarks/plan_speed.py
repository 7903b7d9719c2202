"""How long a plan takes: the whole search in process, and the planner's import.

    make bench-plan-speed

The search goes over every type, number of machines, market, sharding and micro-batch of the catalog, for a trainer that
can do them all, which ours cannot yet: the figure is the full search's, not that of today's gate.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

from benchmarks.report import Figure, finish, milliseconds, percentile
from spotune.contracts.dataset import DatasetReport, TokenStatistics
from spotune.contracts.job import ModelReference
from spotune.contracts.request import JobRequest
from spotune.planner import known_config, load_catalog, prepare
from spotune.planner.layouts import SPREADS, Trainer

MODELS = (
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.1-70B-Instruct",
)
EVERYTHING = Trainer(shardings=frozenset(sharding for sharding, _ in SPREADS), offload=True, hosts=8)
PLANS, IMPORTS = 40, 9
SEARCH_BAR_MS, IMPORT_BAR_MS = 50, 150
HEAVY = ("numpy", "pandas", "torch", "transformers", "boto3")

_IMPORT = """
import time, sys, json
start, cpu = time.perf_counter(), time.process_time()
import spotune.planner
taken = (time.perf_counter() - start) * 1000, (time.process_time() - cpu) * 1000
print(json.dumps([*taken, sorted(set(sys.modules) & set(sys.argv[1:]))]))
"""


def main() -> None:
    """Measure, print and check the bars."""
    figures = [figure for model in MODELS for figure in _search_figures(model)]
    finish("plan-speed", [*figures, *_import_figures()])


def _search_figures(model: str) -> list[Figure]:
    name = model.partition("/")[2]
    cpu = time.process_time()
    taken = milliseconds(lambda: _plan(model), PLANS)
    cpu = (time.process_time() - cpu) * 1000 / (PLANS + 5)
    return [
        Figure(f"search, {name}, p50", statistics.median(taken), "ms", SEARCH_BAR_MS),
        Figure(f"search, {name}, p95", percentile(taken, 0.95), "ms"),
        Figure(f"search, {name}, mean CPU", cpu, "ms"),
    ]


def _plan(model: str) -> None:
    prepare(
        JobRequest(model=model, training_file="file-1"),
        job_id="ftjob-1",
        model=ModelReference(name=model, uri="s3://models/base/", parameters=1),
        architecture_config=known_config(model) or {},
        training=_dataset(),
        validation=None,
        cap=10**12,
        now=load_catalog().market().as_of,
        trainer=EVERYTHING,
    )


def _dataset() -> DatasetReport:
    rows, mean = 50_000, 600
    tokens = TokenStatistics(
        rows=rows,
        total=rows * mean,
        trained=rows * mean // 3,
        mean=mean,
        p50=mean,
        p95=1500,
        longest=4000,
        truncated_rows=0,
        untrainable_rows=0,
    )
    return DatasetReport(
        uri="s3://data/train.jsonl", sha256="0" * 64, bytes=10**8, rows=rows, format="chat", tokens=tokens
    )


def _import_figures() -> list[Figure]:
    runs = []
    for _ in range(IMPORTS):
        done = subprocess.run([sys.executable, "-c", _IMPORT, *HEAVY], check=True, capture_output=True)
        runs.append(json.loads(done.stdout))
    return [
        Figure("import of spotune.planner, p50", statistics.median(wall for wall, _, _ in runs), "ms", IMPORT_BAR_MS),
        Figure("import of spotune.planner, CPU p50", statistics.median(cpu for _, cpu, _ in runs), "ms"),
        Figure(f"of {', '.join(HEAVY)} imported with it", len(runs[0][2]), "modules", 0),
    ]


if __name__ == "__main__":
    main()
