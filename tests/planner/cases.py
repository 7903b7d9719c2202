"""Requests, datasets and prices that the planner's tests share."""

from __future__ import annotations

from spotune.contracts.dataset import DatasetReport, TokenStatistics
from spotune.contracts.events import Prepared
from spotune.contracts.history import Corrections
from spotune.contracts.job import ModelReference
from spotune.contracts.market import MarketSnapshot
from spotune.contracts.request import JobRequest, Method
from spotune.planner import NOTHING_DONE, Done, known_config, prepare, read_architecture
from spotune.planner.catalog import PRICES_AS_OF
from spotune.planner.layouts import PRESENT_TRAINER, SPREADS, Trainer
from spotune.planner.prepare import NO_CORRECTIONS
from spotune.planner.workload import Workload

ONE_GPU = Trainer(shardings=frozenset({"none"}), offload=False, hosts=1)
SMALL = "HuggingFaceTB/SmolLM2-135M-Instruct"
LARGE = "meta-llama/Llama-3.1-8B-Instruct"
NOW = PRICES_AS_OF
DOLLAR = 1_000_000
EVERY_TRAINER = Trainer(
    shardings=frozenset(sharding for sharding, _ in SPREADS),
    offload=True,
    hosts=8,
)


def dataset(rows: int = 400, mean: int = 120, longest: int = 230, *, counted: bool = True) -> DatasetReport:
    tokens = TokenStatistics(
        rows=rows,
        total=rows * mean,
        trained=rows * mean // 4,
        mean=mean,
        p50=mean,
        p95=min(2 * mean, longest),
        longest=longest,
        truncated_rows=0,
        untrainable_rows=0,
    )
    return DatasetReport(
        uri="s3://data/team/files/file-1/train.jsonl",
        sha256="0" * 64,
        bytes=rows * mean * 4,
        rows=rows,
        format="chat",
        tokens=tokens if counted else None,
    )


def plan_for(
    model: str = SMALL,
    *,
    training: DatasetReport | None = None,
    validation: DatasetReport | None = None,
    cap: int = 1000 * DOLLAR,
    now: float = NOW,
    market: MarketSnapshot | None = None,
    markets: tuple[MarketSnapshot, ...] = (),
    trainer: Trainer = PRESENT_TRAINER,
    corrections: Corrections = NO_CORRECTIONS,
    to_copy: dict[str, int] | None = None,
    config: dict[str, object] | None = None,
    choice: dict[str, object] | None = None,
    done: Done = NOTHING_DONE,
    **request: object,
) -> Prepared:
    body = JobRequest.model_validate({"model": model, "training_file": "file-1", "training": choice or {}, **request})
    return prepare(
        body,
        job_id="ftjob-1",
        model=ModelReference(name=model, uri="s3://models/base/", parameters=1),
        architecture_config=config if config is not None else known_config(model) or {},
        training=training or dataset(),
        validation=validation,
        cap=cap,
        now=now,
        markets=markets or ((market,) if market is not None else ()),
        trainer=trainer,
        corrections=corrections,
        done=done,
        to_copy=to_copy or {},
    )


def workload_of(model: str, method: Method = "lora", *, length: int = 1024, batch: int = 64) -> Workload:
    """What training this well-known model with this method comes to."""
    architecture = read_architecture(known_config(model) or {})
    return Workload(
        architecture=architecture,
        method=method,
        targets=architecture.targets("all-linear"),
        rank=16,
        optimizer="adamw",
        sequence_length=length,
        typical_length=length,
        global_batch=batch,
        quantization="nf4" if method == "qlora" else "none",
    )
