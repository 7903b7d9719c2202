"""`explain` against the real handlers."""

from __future__ import annotations

from spotune.contracts.job import Decision, JobError
from tests.cli.conftest import Run, Service
from tests.factories import job


def test_a_failed_job_is_explained_with_what_to_run_next(service: Service, run: Run) -> None:
    error = JobError(code="loss_not_finite", message="Training diverged at step 7.", remedy="Lower the learning rate.")
    service.world.store.create_job(Decision(job=job(state="failed", error=error)), limit=10**9)
    ran = run("explain", "ftjob-abc")
    assert ran.code == 0
    assert "loss not finite" in ran.out
    assert "Lower the learning rate." in ran.out
    assert "spotune logs ftjob-abc" in ran.out
    assert run("explain", "ftjob-abc", "--json").json["cause"] == "loss_not_finite"


def test_a_job_that_is_not_there_is_not_found(service: Service, run: Run) -> None:
    assert run("explain", "ftjob-none").code == 3
