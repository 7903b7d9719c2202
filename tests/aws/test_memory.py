"""The twin of SageMaker keeps the rules that the service leans on."""

from __future__ import annotations

import pytest

from spotune.aws.base import NameTaken, TrainingJobRefused
from spotune.aws.memory import MemoryTrainingJobs
from spotune.contracts.errors import Unavailable
from tests.aws.test_training_jobs import NAME, spec


def test_a_name_is_taken_once_and_for_all() -> None:
    jobs = MemoryTrainingJobs()
    jobs.create(spec())
    jobs.observe(NAME, status="Failed", secondary_status="Failed")
    with pytest.raises(NameTaken):
        jobs.create(spec())
    assert list(jobs.specs) == [NAME]


def test_scripted_answers_come_in_their_order_and_start_nothing() -> None:
    jobs = MemoryTrainingJobs((TrainingJobRefused("quota", "0 instances"), None))
    with pytest.raises(TrainingJobRefused):
        jobs.create(spec())
    assert jobs.describe(NAME) is None
    jobs.create(spec())
    assert jobs.describe(NAME) is not None


def test_a_lost_answer_leaves_the_job_running() -> None:
    jobs = MemoryTrainingJobs()
    jobs.lose_answer_of_next_create()
    with pytest.raises(Unavailable):
        jobs.create(spec())
    assert jobs.describe(NAME) is not None
    with pytest.raises(NameTaken):
        jobs.create(spec())


def test_only_what_runs_is_stopped() -> None:
    jobs = MemoryTrainingJobs()
    jobs.stop(NAME)
    jobs.create(spec())
    jobs.stop(NAME)
    seen = jobs.describe(NAME)
    assert seen is not None
    assert seen.status == "Stopping"
    jobs.observe(NAME, status="Stopped", secondary_status="Stopped")
    jobs.stop(NAME)
    assert jobs.stopped == [NAME]
