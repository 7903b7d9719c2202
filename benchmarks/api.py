"""`make bench-api`: what a cold start costs, how quick a warm call is, and how large the Lambda bundle."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from pathlib import Path

import httpx

from benchmarks.report import Figure, finish, log_elsewhere, milliseconds, p50_p95
from spotune.deploy import bundle
from spotune.local import stack
from spotune.local.models import add_base_model
from spotune.local.state import StackState
from spotune.service.installation import install
from tests import tiny_model
from tests.in_process import client_of, world
from tests.tiny_model import chat_rows

JOBS = "/v1/fine_tuning/jobs"
COLD_STARTS = 7
CALLS = 60
ROWS = 40
"""Rows of the dataset that each created job has checked."""

INSTANCE = "ml.g5.xlarge"

IMPORT = """
import time
start = time.process_time()
import handlers.api
print(time.process_time() - start)
"""


def main() -> None:
    """Measure everything and print it."""
    log_elsewhere()
    with tempfile.TemporaryDirectory(prefix="spotune-bench-") as folder:
        built = bundle.build(Path(folder) / "cache")
        unpacked = Path(folder) / "bundle"
        with zipfile.ZipFile(built) as archive:
            archive.extractall(unpacked)
        figures = [
            *cold_start(unpacked),
            *in_process(),
            Figure("Lambda bundle, unzipped", bundle.unpacked_bytes(built) / 1e6, "MB", 60),
            *through_embedded_mode(Path(folder) / "home"),
        ]
    finish("api", figures)


def cold_start(unpacked: Path) -> list[Figure]:
    """Import of the API's handler from the bundle alone, in fresh processes: CPU, wall, and seconds by package."""
    environment = {"PYTHONPATH": str(unpacked), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    processor, wall = [], []
    for _ in range(COLD_STARTS):
        start = time.perf_counter()
        done = _python(["-c", IMPORT], environment)
        wall.append(time.perf_counter() - start)
        processor.append(float(done.stdout))
    shares = _import_seconds(_python(["-X", "importtime", "-c", "import handlers.api"], environment).stderr)
    return [
        Figure("handlers.api import, CPU", statistics.median(processor), "s", 0.6),
        Figure("handlers.api cold process, wall", statistics.median(wall), "s"),
        *(Figure(f"  of which {package}", seconds, "s") for package, seconds in shares),
    ]


def in_process() -> list[Figure]:
    """Warm calls through the handler against the in-process store."""
    made = world()
    install(made.here)
    client = client_of(made.here, "bench")
    body = {"model": tiny_model.NAME, "training_file": client.upload(chat_rows(ROWS)), "constraints": {"budget_usd": 1}}
    created = client.call("POST", JOBS, body).body["id"]
    return [
        *p50_p95("create, in process", milliseconds(lambda: client.call("POST", JOBS, body), CALLS), bar=15),
        *p50_p95("retrieve, in process", milliseconds(lambda: client.call("GET", f"{JOBS}/{created}"), CALLS)),
        *p50_p95("list 20, in process", milliseconds(lambda: client.call("GET", JOBS), CALLS)),
    ]


def through_embedded_mode(home: Path) -> list[Figure]:
    """The same calls over HTTP, through the emulator's API Gateway and its Lambda processes."""
    state = stack.up(home, emulator_port=0, double_port=0)
    try:
        _refuse_every_launch(state)
        return _embedded_calls(state)
    finally:
        stack.down(home)


def _embedded_calls(state: StackState) -> list[Figure]:
    _add_tiny_model(state, Path(state.home) / "tiny")
    with httpx.Client(base_url=state.api_url, headers={"authorization": f"Bearer {state.api_key}"}, timeout=60) as http:
        upload = {"files": {"file": ("train.jsonl", chat_rows(ROWS))}, "data": {"purpose": "fine-tune"}}
        file_id = http.post("/v1/files", **upload).raise_for_status().json()["id"]
        constraints = {"budget_usd": 1, "instance_types": [INSTANCE]}
        body = {"model": tiny_model.NAME, "training_file": file_id, "constraints": constraints}
        created = http.post(JOBS, json=body).raise_for_status().json()["id"]
        return [
            *p50_p95("create, embedded", milliseconds(lambda: http.post(JOBS, json=body).raise_for_status(), CALLS)),
            *p50_p95(
                "retrieve, embedded", milliseconds(lambda: http.get(f"{JOBS}/{created}").raise_for_status(), CALLS)
            ),
            *p50_p95("list 20, embedded", milliseconds(lambda: http.get(JOBS).raise_for_status(), CALLS)),
        ]


def _refuse_every_launch(state: StackState) -> None:
    """No capacity, no training process: only the control plane is measured. (Without quota no plan would be made.)"""
    refusal = {"InstanceType": INSTANCE, "available": False}
    httpx.post(f"{state.double_url}/_double/capacity", json=refusal).raise_for_status()


def _add_tiny_model(state: StackState, folder: Path) -> None:
    """Put the tests' tiny base model into the stack."""
    folder.mkdir()
    for name, body in tiny_model.files().items():
        (folder / name).write_bytes(body)
    add_base_model(state, folder, tiny_model.NAME)


def _python(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=True)


def _import_seconds(importtime: str) -> list[tuple[str, float]]:
    """Each top package's own import seconds from `-X importtime`, the largest eight."""
    seconds: dict[str, float] = defaultdict(float)
    for own, name in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", importtime):
        seconds[name.partition(".")[0]] += int(own) / 1e6
    return sorted(seconds.items(), key=lambda item: -item[1])[:8]


if __name__ == "__main__":
    main()
