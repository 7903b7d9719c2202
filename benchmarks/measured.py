"""Measured runs in the schema of benchmarks/data/README.md, and what the planner says of each."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from spotune.contracts.errors import SpotuneError
from spotune.planner import Architecture, known_config, load_catalog, read_architecture
from spotune.planner.calibration import Calibration
from spotune.planner.catalog import Gpu
from spotune.planner.memory import CONTEXT_BYTES, estimate_memory
from spotune.planner.throughput import estimate_speed
from spotune.planner.workload import Layout, Workload

DATA = Path(__file__).parent / "data"
LINKS = {"A100-40": 300e9, "A100-80": 300e9, "H100": 450e9, "RTX3090": 6e9, "RTX4090": 16e9}
"""Bytes a second between GPUs of one machine; others are joined by PCIe 4."""
NETWORK = 50e9
"""Between the machines of the published runs, which do not say theirs: 400 Gb/s, as p4d has."""


@dataclass(frozen=True)
class Run:
    """One row: what ran, and what was measured."""

    file: Path
    id: str
    source: str
    stack: str
    work: Workload
    layout: Layout
    gpu: Gpu
    peak: float | None
    speed: float | None

    @property
    def seen(self) -> bool:
        """True where constants may be fitted on it: half of all rows, by hash."""
        return self.hash % 2 == 0

    @property
    def hash(self) -> int:
        """Of its name: decides what is fitted on, whatever the row says."""
        return int(hashlib.sha256(self.id.encode()).hexdigest(), 16)


@dataclass(frozen=True)
class Unmapped:
    """A row that cannot be compared, and why."""

    line: int
    id: str
    reason: str


def read_runs(path: Path) -> tuple[list[Run], list[Unmapped]]:
    """The file's runs, and the rows that are none."""
    runs: list[Run] = []
    unmapped: list[Unmapped] = []
    with path.open(encoding="utf-8", newline="") as stream:
        for line, row in enumerate(csv.DictReader(stream), start=2):
            try:
                runs.append(_run(row, path))
            except (KeyError, ValueError, TypeError, SpotuneError) as error:
                reason = f"lacks the column {error}" if isinstance(error, KeyError) else str(error)
                unmapped.append(Unmapped(line, str(row.get("id") or "-"), reason))
    return runs, unmapped


def predicted_peak(run: Run, calibration: Calibration) -> tuple[float, float]:
    """The mid and the 95 % value, as PyTorch's allocator would count them."""
    memory = estimate_memory(run.work, run.layout, usable=run.gpu.usable_memory, calibration=calibration)
    return memory.counted, memory.p95 - CONTEXT_BYTES


def predicted_speed(run: Run, calibration: Calibration) -> float:
    """Tokens a second over all GPUs."""
    link = LINKS.get(run.gpu.name, 12e9)
    speed = estimate_speed(run.work, run.layout, run.gpu, link=link, network=NETWORK, calibration=calibration)
    return speed.training.mid


def gpu_names() -> tuple[str, ...]:
    """Cards that a row may name."""
    return tuple(_gpus())


def _run(row: Mapping[str, str], path: Path) -> Run:
    layout = Layout(
        micro_batch=_count(row, "micro_batch"),
        checkpointing=_flag(row, "checkpointing"),
        gpus=_count(row, "gpus"),
        hosts=_count(row, "hosts"),
        sharding=_one_of(row, "sharding", ("none", "ddp", "zero1", "zero2", "zero3", "fsdp")),
        offload=_flag(row, "offload"),
    )
    peak, speed = _measured(row, "peak_bytes"), _measured(row, "tokens_per_second")
    if peak is None and speed is None:
        raise ValueError("measures neither peak_bytes nor tokens_per_second")
    return Run(
        file=path,
        id=row["id"],
        source=row["source"],
        stack=row["stack"],
        work=_workload(row, layout),
        layout=layout,
        gpu=_gpus()[_one_of(row, "gpu", tuple(_gpus()))],
        peak=peak,
        speed=speed,
    )


def _workload(row: Mapping[str, str], layout: Layout) -> Workload:
    architecture = _architecture(row["model"])
    targets = row["targets"]
    methods = ("full", "lora", "qlora", "dora", "rslora", "ia3", "prefix", "bottleneck")
    return Workload(
        architecture=architecture,
        method=_one_of(row, "method", methods),
        targets=architecture.targets(targets if targets in ("all-linear", "attention") else tuple(targets.split("+"))),
        rank=int(row["rank"] or 0),
        virtual_tokens=int(row["rank"] or 0),
        optimizer=_one_of(row, "optimizer", ("adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit")),
        sequence_length=_count(row, "sequence_length"),
        typical_length=_count(row, "typical_length"),
        global_batch=layout.micro_batch * _count(row, "accumulation") * layout.gpus,
        quantization=_one_of(row, "quantization", ("none", "nf4", "nf4-single", "int8")).removesuffix("-single"),
        attention=_one_of(row, "attention", ("sdpa", "eager")),
        fused_cross_entropy=_flag(row, "fused_cross_entropy"),
        master_weights=_flag(row, "master_weights"),
    )


@cache
def _architecture(name: str) -> Architecture:
    rare = {
        one: entry["config"]
        for entry in json.loads((DATA / "architectures.json").read_bytes())
        for one in entry["names"]
    }
    config = rare.get(name) or known_config(name)
    if config is None:
        raise ValueError(f"model {name!r} is not known")
    return read_architecture(config)


@cache
def _gpus() -> dict[str, Gpu]:
    gpus = {spec.gpu.name: spec.gpu for spec in load_catalog()}
    with (DATA / "gpus.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            gpus[row["gpu"]] = Gpu(
                name=row["gpu"],
                usable_memory=int(row["usable_mib"]) * 1024**2,
                dense_tflops=float(row["dense_tflops"]),
                bandwidth=float(row["bandwidth_gbs"]) * 1e9,
                bf16=row["bf16"] == "yes",
                peak_share=float(row["peak_share"]),
            )
    return gpus


def _count(row: Mapping[str, str], name: str) -> int:
    value = int(row[name])
    if value < 1:
        raise ValueError(f"{name} is {value}, which must be 1 or more")
    return value


def _flag(row: Mapping[str, str], name: str) -> bool:
    return _one_of(row, name, ("yes", "no")) == "yes"


def _one_of(row: Mapping[str, str], name: str, words: tuple[str, ...]):  # type: ignore[no-untyped-def]
    if row[name] not in words:
        raise ValueError(f"{name} is {row[name]!r}, which must be one of {', '.join(words)}")
    return row[name]


def _measured(row: Mapping[str, str], name: str) -> float | None:
    if not row[name]:
        return None
    value = float(row[name])
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} is {row[name]}, which must be above zero")
    return value
