"""From what SageMaker says of a training job to what a person is told: description, outcome, decision, diagnosis."""

from __future__ import annotations

from typing import Any

from spotune.aws.training_jobs import observed
from spotune.contracts.diagnosis import Diagnosis
from spotune.contracts.job import JobRecord
from spotune.contracts.training import Failure
from spotune.lifecycle import decide, diagnose
from tests.factories import NOW, job, prepared

SHOWN = 1024
"""Characters of FailureReason."""


def container_failed(failure: Failure, exit_code: int) -> str:
    """SageMaker's FailureReason for what a container left in `output/failure`."""
    return f"AlgorithmError: {failure.model_dump_json()}"[:SHOWN] + f", exit code: {exit_code}"


def description(name: str, reason: str = "", status: str = "Failed", secondary: str = "Failed") -> dict[str, Any]:
    """DescribeTrainingJob's answer, as far as it is read."""
    return {
        "TrainingJobName": name,
        "TrainingJobStatus": status,
        "SecondaryStatus": secondary,
        "FailureReason": reason,
        "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1},
        "TrainingTimeInSeconds": 60,
        "BillableTimeInSeconds": 24,
    }


def ended(reason: str, status: str = "Failed", secondary: str = "Failed", **changes: Any) -> JobRecord:
    """A job whose every attempt ends so, when nothing is left to try."""
    record = decide(job(**changes), prepared(), NOW).job  # type: ignore[union-attr]
    for number in range(1, 9):
        if record.terminal or record.attempt is None or record.attempt.number != number:
            break
        seen = observed(description(f"ftjob-abc-{number}", reason, status, secondary))
        decision = decide(record, seen, NOW + 600 * number)
        assert decision is not None
        record = decision.job
    return record


def explained(reason: str, **changes: Any) -> Diagnosis:
    """What a person is told of it."""
    return diagnose(ended(reason, **changes), None, NOW + 6000)
