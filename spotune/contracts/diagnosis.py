"""Why a job is where it is: the typed cause, what shows it, and what to do."""

from __future__ import annotations

from typing import Literal

from spotune.contracts.base import Contract

Cause = Literal[
    "well",
    "paused",
    "cancelled",
    "out_of_memory",
    "bad_data",
    "no_loss_mask",
    "missing_permission",
    "quota",
    "in_line",
    "capacity",
    "interrupted_too_often",
    "loss_not_finite",
    "checkpoint_invalid",
    "model_unavailable",
    "settings_invalid",
    "time_ran_out",
    "money_ran_out",
    "sync_stalled",
    "gate_held",
    "gate_rejected",
    "internal",
]


class Diagnosis(Contract):
    """Of one job, as it is now."""

    job_id: str
    cause: Cause
    message: str
    evidence: tuple[str, ...] = ()
    """What was seen: a status message, a log line, a figure beside its forecast."""
    remedy: str = ""
    command: str = ""
    """What to run next; empty where there is nothing to do."""
