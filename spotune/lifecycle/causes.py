"""From an error's code to the one cause that a person is told."""

from __future__ import annotations

from spotune.contracts.diagnosis import Cause
from spotune.contracts.job import Attempt, JobError, JobRecord

OFTEN = 3.0
"""Interruptions beyond this multiple of the forecast, and two, are what ate time or money."""

CAUSES: dict[str, Cause] = {
    "out_of_memory": "out_of_memory",
    "process_killed": "out_of_memory",
    # The model's own template or tokenizer, or rows that leave nothing to learn.
    "broken_chat_template": "no_loss_mask",
    "broken_tokenizer": "no_loss_mask",
    "no_chat_template": "no_loss_mask",
    "no_held_out_rows": "no_loss_mask",
    "no_trainable_rows": "no_loss_mask",
    "template_without_loss_mask": "no_loss_mask",
    "template_without_stop_token": "no_loss_mask",
    "tokenizer_missing": "no_loss_mask",
    "tokenizer_without_eos": "no_loss_mask",
    "permission_missing": "missing_permission",
    "capacity": "capacity",
    "capacity_wait_over": "capacity",
    "loss_not_finite": "loss_not_finite",
    "checkpoint_of_another_config": "checkpoint_invalid",
    "checkpoint_of_another_model": "checkpoint_invalid",
    "checkpoint_gone": "checkpoint_invalid",
    "base_model_incomplete": "model_unavailable",
    "model_differs": "model_unavailable",
    "model_download_failed": "model_unavailable",
    "model_incomplete": "model_unavailable",
    "model_missing": "model_unavailable",
    "model_not_found": "model_unavailable",
    "model_unreadable": "model_unavailable",
    "model_without_weights": "model_unavailable",
    "pickled_weights": "model_unavailable",
    "deadline_missed": "time_ran_out",
    "budget_exhausted": "money_ran_out",
    "monthly_limit_reached": "money_ran_out",
    "check_timed_out": "bad_data",
    "data_download_failed": "bad_data",
    "dataset_faults": "bad_data",
    "file_changed": "bad_data",
    "file_not_found": "bad_data",
    "template_refused_row": "bad_data",
    # What Spotune itself writes for the container, or how the installation is set up.
    "channel_ambiguous": "internal",
    "config_invalid": "internal",
    "config_unreadable": "internal",
    "config_version": "internal",
    "disk_full": "internal",
    "host_lost": "internal",
    "hosts_not_supported": "internal",
    "internal": "internal",
    "missing_channel": "internal",
    "report_missing": "internal",
    "process_died": "internal",
    "step_hangs": "internal",
    "training_job_invalid": "internal",
    "inputs_changed": "bad_data",
}
"""By an error's code. Any other means bad rows where a dataset has faults, else settings that do not go together."""

_LIMITED = frozenset({"time_or_money_ran_out", "runtime_too_short"})
"""Ends of MaxRuntime, which is cut by the cap or by the deadline, whichever comes first."""


def cause_of(job: JobRecord, error: JobError) -> Cause:
    """The cause of a failed job."""
    cause = _by_time_limit(job) if error.code in _LIMITED else CAUSES.get(error.code)
    if cause in ("money_ran_out", "time_ran_out") and interruptions(job) > OFTEN * expected(job) + 2:
        return "interrupted_too_often"
    if cause is not None:
        return cause
    reports = (job.training, job.validation)
    return "bad_data" if any(report is not None and not report.ok for report in reports) else "settings_invalid"


def interruptions(job: JobRecord) -> int:
    """Of all attempts."""
    return sum(attempt.interruptions for attempt in job.attempts)


def expected(job: JobRecord) -> float:
    """Interruptions that the plan expected."""
    return job.plan.chosen.interruptions if job.plan is not None else 0.0


def _by_time_limit(job: JobRecord) -> Cause:
    last = job.attempt
    return "time_ran_out" if last is not None and _ends_with_deadline(job, last) else "money_ran_out"


def _ends_with_deadline(job: JobRecord, attempt: Attempt) -> bool:
    return job.deadline is not None and attempt.requested_at + attempt.max_runtime >= job.deadline - 1
