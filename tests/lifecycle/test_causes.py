"""Each cause from the words that SageMaker or the container really gives."""

from __future__ import annotations

import pytest

from spotune.aws.training_jobs import observed
from spotune.contracts.diagnosis import Cause
from spotune.contracts.training import ExitCode
from spotune.data.faults import REMEDIES
from spotune.lifecycle import decide, diagnose
from spotune.lifecycle.causes import CAUSES
from tests import pages
from tests.explained import container_failed, description, ended, explained
from tests.factories import NOW, job, prepared
from training_container.faults import failure_of

DENIED = (
    "ClientError: Data download failed:Unable to download object s3://models/base/tiny/model.safetensors "
    "(AccessDenied: Access Denied)"
)
CUDA = (
    "CUDA out of memory. Tried to allocate 1.17 GiB. GPU 0 has a total capacity of 22.06 GiB of which 311.44 MiB is "
    "free. Including non-PyTorch memory, this process has 21.75 GiB memory in use. Of the allocated memory 21.20 GiB "
    "is allocated by PyTorch, and 240.79 MiB is reserved by PyTorch but unallocated."
)


class OutOfMemoryError(RuntimeError):
    """By this name the container knows torch's own, which it does not import to tell."""


@pytest.mark.parametrize(
    ("reason", "cause", "attempts"),
    [
        (DENIED, "missing_permission", 1),
        (
            "ClientError: Cannot pull algorithm container. Either the image does not exist or its permissions are "
            "incorrect.",
            "missing_permission",
            1,
        ),
        (
            "ClientError: Data download failed: An error occurred (AccessDenied) when calling the ListObjectsV2 "
            "operation: Access Denied",
            "missing_permission",
            1,
        ),
        (
            "ClientError: Data download failed: S3 key: s3://models/base/tiny/ matched no files on s3",
            "model_unavailable",
            1,
        ),
        (
            "ClientError: Data download failed:Failed to download data. s3://models/base/tiny/model.safetensors: "
            "Please reduce your request rate. (SlowDown)",
            "model_unavailable",
            3,
        ),
        (
            "ClientError: Data download failed: S3 key: s3://data/acme/files/file-a/a.jsonl matched no files on s3",
            "bad_data",
            1,
        ),
        ("AlgorithmError: , exit code: 137", "out_of_memory", 3),
        ("AlgorithmError: , exit code: 1", "internal", 3),
        ("InternalServerError: We encountered an internal error. Please try again.", "internal", 3),
    ],
)
def test_what_sagemaker_says_of_a_failure_is_told_as_its_cause(reason: str, cause: Cause, attempts: int) -> None:
    record = ended(reason)
    seen = diagnose(record, None, NOW + 6000)
    assert (seen.cause, len(record.attempts)) == (cause, attempts)
    assert any(reason in words for words in seen.evidence)
    assert seen.remedy
    assert seen.command


def test_no_capacity_is_waited_for_and_told_as_such() -> None:
    seen = explained(
        "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance "
        "type."
    )
    assert seen.cause == "capacity"


def test_cudas_end_of_memory_has_its_peak_beside_the_forecast() -> None:
    failure, code = failure_of(OutOfMemoryError(CUDA))
    assert code == ExitCode.USER_ERROR
    seen = explained(container_failed(failure, code))
    assert seen.cause == "out_of_memory"
    assert any(words.startswith("Forecast: ") for words in seen.evidence)
    assert "Peak: 21.75 GiB in use when it failed." in seen.evidence
    assert seen.command == "spotune retry ftjob-abc --set training.max_sequence_length=128"


def test_without_cudas_figure_the_containers_last_one_is_the_peak() -> None:
    failure, code = failure_of(MemoryError())
    record = ended(container_failed(failure, code))
    assert "Peak: 3.0 GiB before it failed." in diagnose(record, None, NOW, peak_memory=3 * 2**30).evidence


def test_an_end_by_the_time_limit_is_laid_to_what_cut_it() -> None:
    by_money = ended("", "Stopped", "MaxRuntimeExceeded")
    assert by_money.error is not None
    assert by_money.error.code == "time_or_money_ran_out"
    assert diagnose(by_money, None, NOW).cause == "money_ran_out"
    by_deadline = ended("", "Stopped", "MaxRuntimeExceeded", deadline=NOW + 3600)
    assert diagnose(by_deadline, None, NOW).cause == "time_ran_out"


def test_the_trainers_own_fault_is_tried_again_and_then_internal() -> None:
    failure, code = failure_of(ZeroDivisionError("division by zero"))
    record = ended(container_failed(failure, code))
    assert len(record.attempts) == 3
    seen = diagnose(record, None, NOW)
    assert seen.cause == "internal"
    assert any("ZeroDivisionError" in words for words in seen.evidence)


def test_every_code_of_the_table_is_one_that_the_code_gives() -> None:
    page = pages.script("errors")
    assert set(CAUSES) <= {entry.code for entry in page["entries"]()} | set(REMEDIES)


def test_a_time_limit_that_interruptions_ate_is_laid_to_them() -> None:
    away, back = {"Status": "Interrupted"}, {"Status": "Training"}
    seen = {
        **description("ftjob-abc-1", "", "Stopped", "MaxRuntimeExceeded"),
        "SecondaryStatusTransitions": [{"Status": "Starting"}, *[away, back] * 5],
    }
    record = decide(decide(job(), prepared(), NOW).job, observed(seen), NOW + 600).job  # type: ignore[union-attr]
    told = diagnose(record, None, NOW)
    assert told.cause == "interrupted_too_often"
    assert "5 interruptions; 0.10 were expected." in told.evidence
    assert told.command == "spotune retry ftjob-abc --set constraints.market=on_demand"
