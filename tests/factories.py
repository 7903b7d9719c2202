"""Records as the tests need them: small, valid, and changed by keyword."""

from __future__ import annotations

from spotune.contracts.base import MICRO, Interval
from spotune.contracts.dataset import DatasetReport, TokenStatistics
from spotune.contracts.events import Prepared, TrainingObserved
from spotune.contracts.history import Actual, FinishedRun, Stay
from spotune.contracts.job import ChampionReference, JobRecord, ModelReference
from spotune.contracts.models import Lineage, ModelVersion, StatusChange
from spotune.contracts.plan import Candidate, MemoryEstimate, Plan, Rung
from spotune.contracts.request import JobRequest
from spotune.contracts.scores import Comparison, Scores
from spotune.contracts.training import (
    AdapterConfig,
    CheckpointConfig,
    DataConfig,
    HardwareConfig,
    LimitConfig,
    ModelSource,
    OptimizationConfig,
    TrainingConfig,
    TrainingReport,
)
from spotune.contracts.verdict import Verdict

NOW = 1_790_000_000.0
SPOT_PRICE = 400_000
ON_DEMAND_PRICE = 1_000_000


def request(**changes: object) -> JobRequest:
    return JobRequest.model_validate({"model": "tiny", "training_file": "file-a", **changes})


def job(**changes: object) -> JobRecord:
    values: dict[str, object] = {
        "id": "ftjob-abc",
        "tenant": "acme",
        "state": "validating",
        "request": request(),
        "request_sha256": "0" * 64,
        "created_at": NOW,
        "updated_at": NOW,
        "model": ModelReference(name="tiny", uri="s3://models/base/tiny/", parameters=1_000_000),
        "training_uri": "s3://data/acme/files/file-a/a.jsonl",
        "cap": 5 * MICRO,
    }
    return JobRecord.model_validate({**values, **changes})


def dataset(**changes: object) -> DatasetReport:
    values: dict[str, object] = {
        "uri": "s3://data/acme/files/file-a/a.jsonl",
        "sha256": "1" * 64,
        "bytes": 10_000,
        "rows": 100,
        "format": "chat",
        "tokens": TokenStatistics(
            rows=100,
            total=5000,
            trained=1000,
            mean=50,
            p50=50,
            p95=80,
            longest=90,
            truncated_rows=0,
            untrainable_rows=0,
        ),
    }
    return DatasetReport.model_validate({**values, **changes})


def config(**changes: object) -> TrainingConfig:
    values: dict[str, object] = {
        "job_id": "ftjob-abc",
        "seed": 7,
        "model": ModelSource(name="tiny"),
        "method": "lora",
        "adapter": AdapterConfig(rank=8, alpha=16, dropout=0.0, target_modules="all-linear"),
        "data": DataConfig(max_sequence_length=256, packing=True, eval_fraction=0.1),
        "optimization": OptimizationConfig(
            epochs=2,
            global_batch_size=8,
            learning_rate=1e-3,
            warmup_ratio=0.05,
            weight_decay=0.0,
            optimizer="adamw",
        ),
        "hardware": HardwareConfig(micro_batch_size=4, gradient_checkpointing=False),
        "checkpoint": CheckpointConfig(interval_seconds=120),
        "limits": LimitConfig(max_runtime_seconds=7200, publication_reserve_seconds=60),
    }
    return TrainingConfig.model_validate({**values, **changes})


def plan(**changes: object) -> Plan:
    candidate = Candidate(
        instance_type="ml.g5.xlarge",
        gpu="A10G",
        gpus=1,
        market="spot",
        price=SPOT_PRICE,
        precision="bf16",
        sharding="none",
        micro_batch_size=4,
        gradient_accumulation=2,
        gradient_checkpointing=False,
        memory=MemoryEstimate(parts={"weights": 10}, mid=10, p95=12, usable=24),
        tokens_per_second=Interval(low=900, mid=1000, high=1100),
        billed_hours=Interval(low=0.4, mid=0.5, high=0.8),
        wall_hours=Interval(low=0.5, mid=0.6, high=1.0),
        cost=Interval(low=160_000, mid=200_000, high=320_000),
        worst_case_cost=500_000,
        interruptions=0.1,
        save_interval=300,
    )
    values: dict[str, object] = {
        "chosen": candidate,
        "rungs": (
            Rung(
                market="spot",
                instance_types=("ml.g5.xlarge",),
                instance_count=1,
                prices=(SPOT_PRICE,),
                on_demand_prices=(ON_DEMAND_PRICE,),
                patience=1800,
            ),
            Rung(
                market="on_demand",
                instance_types=("ml.g5.xlarge", "ml.g6.xlarge"),
                instance_count=1,
                prices=(ON_DEMAND_PRICE // 2, ON_DEMAND_PRICE),
                on_demand_prices=(ON_DEMAND_PRICE // 2, ON_DEMAND_PRICE),
                patience=3600,
            ),
        ),
        "on_demand_price": ON_DEMAND_PRICE,
        "on_demand_cost": 500_000,
        "market_as_of": NOW,
    }
    return Plan.model_validate({**values, **changes})


def prepared(**changes: object) -> Prepared:
    values: dict[str, object] = {
        "training": dataset(),
        "validation": None,
        "settings": (),
        "config": config(),
        "plan": plan(),
    }
    return Prepared.model_validate({**values, **changes})


def report(**changes: object) -> TrainingReport:
    values: dict[str, object] = {
        "job_id": "ftjob-abc",
        "method": "lora",
        "base": Scores(eval_loss=2.0, perplexity=7.4, exact_match=0.0),
        "tuned": Scores(eval_loss=0.5, perplexity=1.6, exact_match=0.9),
        "best_step": 20,
        "steps": 20,
        "total_steps": 20,
        "epochs": 2.0,
        "train_rows": 90,
        "eval_rows": 10,
        "generated_rows": 10,
        "tokens_seen": 10_000,
        "trained_tokens_per_epoch": 1000,
        "trainable_parameters": 1000,
        "total_parameters": 1_000_000,
        "train_seconds": 60.0,
        "lost_seconds": 0.0,
        "lost_steps": 0,
        "peak_memory_bytes": 1_000_000,
        "precision": "fp32",
        "device": "cpu",
        "data_sha256": "1" * 64,
        "versions": {},
    }
    return TrainingReport.model_validate({**values, **changes})


def model_version(number: int = 1, *, verdict_reason: str = "It passed.", **changes: object) -> ModelVersion:
    """A version of the group `support` that passed its gate; its job and its name follow from its number."""
    values: dict[str, object] = {
        "group": "support",
        "tenant": "acme",
        "number": number,
        "name": f"ft:tiny::{number}",
        "status": "passed",
        "uri": f"s3://artifacts/acme/jobs/ftjob-{number}/output/ftjob-{number}-1/output/model/",
        "scores": report().tuned,
        "verdict": Verdict(decision="promote", conditions=(), reason=verdict_reason),
        "lineage": lineage(f"ftjob-{number}"),
        "created_at": NOW + number,
        "history": (StatusChange(sequence=1, status="passed", at=NOW + number, by="gate"),),
    }
    return ModelVersion.model_validate({**values, **changes})


def lineage(job_id: str = "ftjob-abc", **changes: object) -> Lineage:
    values: dict[str, object] = {
        "job_id": job_id,
        "base": "tiny",
        "base_revision": "1",
        "data_sha256": "1" * 64,
        "evaluation_sha256": "2" * 64,
        "config_sha256": "3" * 64,
        "code": "lambda/abc.zip",
        "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/spotune:1",
        "seed": 7,
        "method": "lora",
        "cost": 180_000,
        "trained_at": NOW,
    }
    return Lineage.model_validate({**values, **changes})


def champion(**changes: object) -> ChampionReference:
    values: dict[str, object] = {
        "name": "ft:tiny:triage:old",
        "number": 1,
        "uri": "s3://jobs/acme/jobs/ftjob-old/output/ftjob-old-1/output/model/",
        "start": False,
    }
    return ChampionReference.model_validate({**values, **changes})


def comparison(**changes: object) -> Comparison:
    """Of the loss: surely better by 0.1 nats."""
    values: dict[str, object] = {
        "metric": "eval_loss",
        "rows": 40,
        "base": 0.6,
        "tuned": 0.5,
        "difference": -0.1,
        "low": -0.15,
        "high": -0.05,
    }
    return Comparison.model_validate({**values, **changes})


def finished_run(**changes: object) -> FinishedRun:
    values: dict[str, object] = {
        "id": "ftjob-abc",
        "tenant": "acme",
        "created_at": NOW,
        "finished_at": NOW + 3600,
        "model": "tiny",
        "completed": True,
        "forecast": plan().chosen.with_(method="lora"),
        "actual": Actual(
            cost=180_000,
            billed_hours=0.6,
            wall_hours=0.9,
            interruptions=1,
            work_lost_hours=0.02,
            tokens_per_second=800.0,
            peak_memory_bytes=11,
            start_seconds=400.0,
            device="NVIDIA A10G",
        ),
        "stays": (
            Stay(
                instance_type="ml.g5.xlarge",
                instance_count=1,
                market="spot",
                training_seconds=2160,
                billable_seconds=860,
                on_demand_price=ON_DEMAND_PRICE,
                interruptions=1,
            ),
        ),
    }
    return FinishedRun.model_validate({**values, **changes})


def observed(name: str = "ftjob-abc-1", **changes: object) -> TrainingObserved:
    values: dict[str, object] = {"name": name, "status": "InProgress", "secondary_status": "Training"}
    return TrainingObserved.model_validate({**values, **changes})
