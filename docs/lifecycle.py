"""Writes docs/lifecycle.md: what every event makes of a job in every state, asked of `lifecycle.decide` itself.

python docs/lifecycle.py [--check]
"""

from __future__ import annotations

import sys

from pages import keep

from spotune.contracts.base import MICRO, Interval
from spotune.contracts.dataset import DatasetReport
from spotune.contracts.events import (
    AttemptAccepted,
    AttemptRefused,
    CancelRequested,
    CopyStarted,
    Event,
    PauseRequested,
    Prepared,
    Refused,
    ResumeRequested,
    RungDue,
    TrainingObserved,
    TurnCame,
)
from spotune.contracts.job import Decision, JobError, JobRecord, ModelReference
from spotune.contracts.plan import Candidate, MemoryEstimate, Plan, Rung
from spotune.contracts.request import JobRequest
from spotune.contracts.scores import Scores
from spotune.contracts.training import (
    CheckpointConfig,
    DataConfig,
    Failure,
    HardwareConfig,
    LimitConfig,
    ModelSource,
    OptimizationConfig,
    TrainingConfig,
    TrainingReport,
)
from spotune.lifecycle import decide, open_job, open_prepared

NOW, LATER = 1_800_000_000.0, 1_800_007_200.0
NAME = "ftjob-1-1"
TYPE = "ml.g5.xlarge"

HEAD = """# The life of a job, state by state

Made from the code by `python docs/lifecycle.py`; `make check` refuses a page that is out of date. Each cell is what
`lifecycle.decide` answered for a job of one attempt on the first of two rungs. A dash: the event changes nothing, even
where it comes again. **Bold**: the state that follows. `start`, `stop`, `notify`: the command that is written with it.

Whatever is not a dash is one transaction: the job's next version, lines of its log without a gap, its commands, and the
money that moves.

"""


def page() -> str:
    """The page's text."""
    return HEAD + _table()


def _table() -> str:
    jobs = _jobs()
    lines = ["| event | " + " | ".join(jobs) + " |", "|---" * (1 + len(jobs)) + "|"]
    for words, event in _events().items():
        cells = [_cell(job, event) for job in jobs.values()]
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(job: JobRecord, event: Event) -> str:
    decision = decide(job, event, LATER)
    if decision is None:
        return "-"
    said = [f"**{decision.job.state}**" if decision.job.state != job.state else "noted"]
    said += [f"`{command.kind.partition('_')[0]}`" for command in decision.commands]
    return " ".join(said)


def _jobs() -> dict[str, JobRecord]:
    """A job in each state, and one in line, brought there by events."""
    checking = open_job(_job(), NOW).job
    queued = open_prepared(_job(), _prepared(), NOW).job
    starting = _after(queued, AttemptAccepted(name=NAME))
    running = _after(starting, _seen("Training"))
    failed = _seen("Failed", status="Failed", failure=Failure(code="bad_rows", message="line 3"), exit_code=2)
    stopped = _seen("Stopped", status="Stopped")
    return {
        "validating": checking,
        "queued": queued,
        "queued, in line": open_prepared(_job(), _prepared(), NOW, full_line="jobs").job,
        "starting": starting,
        "running": running,
        "interrupted": _after(running, _seen("Interrupted", interruptions=1)),
        "evaluating": _after(running, _seen("Uploading")),
        "paused": _after(running, PauseRequested(), stopped),
        "succeeded": _after(running, _seen("Completed", status="Completed", report=_report())),
        "failed": _after(running, failed),
        "cancelled": _after(running, CancelRequested(), stopped),
    }


def _events() -> dict[str, Event]:
    capacity = "CapacityError: Unable to provision requested ML compute capacity."
    return {
        "files checked, planned": _prepared(),
        "files or plan refused": Refused(error=JobError(code="no_rows", message="There is no row.")),
        "copy to another region begins": CopyStarted(name=NAME),
        "attempt accepted": AttemptAccepted(name=NAME),
        "attempt refused: quota": AttemptRefused(name=NAME, reason="quota", message=""),
        "attempt refused: capacity": AttemptRefused(name=NAME, reason="capacity", message=""),
        "attempt refused: invalid": AttemptRefused(name=NAME, reason="invalid", message=""),
        "attempt refused: inputs changed": AttemptRefused(name=NAME, reason="inputs", message=""),
        "attempt refused: cancelled": AttemptRefused(name=NAME, reason="cancelled", message=""),
        "seen: Starting": _seen("Starting"),
        "seen: Training": _seen("Training"),
        "seen: Interrupted": _seen("Interrupted", interruptions=2),
        "seen: Restarting, after an error of SageMaker's": _seen("Restarting", restarts=1),
        "seen: Uploading": _seen("Uploading"),
        "seen: Completed, with a report": _seen("Completed", status="Completed", report=_report()),
        "seen: Completed, without one": _seen("Completed", status="Completed"),
        "seen: Failed, exit code 2": _seen(
            "Failed", status="Failed", failure=Failure(code="bad_rows", message="line 3"), exit_code=2
        ),
        "seen: Failed, capacity": _seen("Failed", status="Failed", failure_reason=capacity),
        "seen: Failed, otherwise": _seen("Failed", status="Failed", failure_reason="InternalServerError"),
        "seen: Stopped": _seen("Stopped", status="Stopped"),
        "seen: Stopped, MaxWaitTimeExceeded": _seen("MaxWaitTimeExceeded", status="Stopped"),
        "seen: Stopped, MaxRuntimeExceeded": _seen("MaxRuntimeExceeded", status="Stopped"),
        "cancel": CancelRequested(),
        "pause": PauseRequested(),
        "resume": ResumeRequested(),
        "time to look (two hours on)": RungDue(),
        "its turn in line came": TurnCame(),
    }


def _after(job: JobRecord, *events: Event) -> JobRecord:
    for event in events:
        decision: Decision | None = decide(job, event, NOW)
        if decision is None:
            raise ValueError(f"{event.kind} changes nothing in {job.state}")
        job = decision.job
    return job


def _seen(secondary: str, **more: object) -> TrainingObserved:
    values = {"name": NAME, "status": "InProgress", "secondary_status": secondary, **more}
    return TrainingObserved.model_validate(values)


def _job() -> JobRecord:
    return JobRecord(
        id="ftjob-1",
        tenant="acme",
        state="validating",
        request=JobRequest(model="m", training_file="file-1"),
        request_sha256="",
        created_at=NOW,
        updated_at=NOW,
        model=ModelReference(name="m", uri="s3://models/m/", parameters=1),
        training_uri="s3://data/acme/rows.jsonl",
        cap=5 * MICRO,
    )


def _prepared() -> Prepared:
    files = DatasetReport(uri="s3://data/acme/rows.jsonl", sha256="", bytes=1, rows=1, format="chat", tokens=None)
    return Prepared(training=files, validation=None, settings=(), config=_config(), plan=_plan())


def _plan() -> Plan:
    one = Interval(low=1, mid=1, high=1)
    chosen = Candidate(
        instance_type=TYPE,
        gpu="A10G",
        gpus=1,
        market="spot",
        price=400_000,
        precision="bf16",
        sharding="none",
        micro_batch_size=1,
        gradient_accumulation=1,
        gradient_checkpointing=False,
        memory=MemoryEstimate(parts={}, mid=1, p95=1, usable=1),
        tokens_per_second=one,
        billed_hours=one,
        wall_hours=one,
        cost=one,
        worst_case_cost=1,
        interruptions=0.0,
        save_interval=300,
    )
    rung = Rung(
        market="spot",
        instance_types=(TYPE,),
        instance_count=1,
        prices=(400_000,),
        on_demand_prices=(1_000_000,),
        patience=1800,
    )
    rungs = (rung, rung.with_(market="on_demand", prices=(1_000_000,)))
    return Plan(chosen=chosen, rungs=rungs, on_demand_price=1_000_000, on_demand_cost=1, market_as_of=NOW)


def _config() -> TrainingConfig:
    return TrainingConfig(
        job_id="ftjob-1",
        seed=1,
        model=ModelSource(name="m"),
        method="full",
        adapter=None,
        data=DataConfig(max_sequence_length=64, packing=True, eval_fraction=0.1),
        optimization=OptimizationConfig(
            epochs=1, global_batch_size=1, learning_rate=1e-4, warmup_ratio=0, weight_decay=0, optimizer="adamw"
        ),
        hardware=HardwareConfig(micro_batch_size=1, gradient_checkpointing=False),
        checkpoint=CheckpointConfig(interval_seconds=300),
        limits=LimitConfig(max_runtime_seconds=3600, publication_reserve_seconds=60),
    )


def _report() -> TrainingReport:
    scores = Scores(eval_loss=1.0, perplexity=2.7)
    counts = dict.fromkeys(
        (
            "best_step",
            "steps",
            "total_steps",
            "train_rows",
            "eval_rows",
            "generated_rows",
            "tokens_seen",
            "trained_tokens_per_epoch",
            "trainable_parameters",
            "total_parameters",
            "lost_steps",
            "peak_memory_bytes",
        ),
        1,
    )
    return TrainingReport.model_validate(
        {
            "job_id": "ftjob-1",
            "method": "full",
            "base": scores,
            "tuned": scores,
            "epochs": 1.0,
            "train_seconds": 1.0,
            "lost_seconds": 0.0,
            "precision": "bf16",
            "device": "NVIDIA A10G",
            "data_sha256": "",
            "versions": {},
            **counts,
        }
    )


if __name__ == "__main__":
    sys.exit(keep(__file__, page()))
