"""Requests, datasets and prices that the planner's tests share."""

from __future__ import annotations

from spotune.contracts.dataset import DatasetReport, TokenStatistics
from spotune.contracts.events import Prepared
from spotune.contracts.job import ModelReference
from spotune.contracts.request import JobRequest
from spotune.planner import MarketSnapshot, known_config, prepare
from spotune.planner.catalog import PRICES_AS_OF

SMALL = "HuggingFaceTB/SmolLM2-135M-Instruct"
LARGE = "meta-llama/Llama-3.1-8B-Instruct"
NOW = PRICES_AS_OF
DOLLAR = 1_000_000


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
    config: dict[str, object] | None = None,
    choice: dict[str, object] | None = None,
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
        markets=() if market is None else (market,),
    )
