"""`accuracy` against the real handlers."""

from __future__ import annotations

from spotune.contracts.job import Decision
from tests.cli.conftest import Run, Service
from tests.factories import finished_run, job


def keep(service: Service, **changes: object) -> None:
    run = finished_run(**changes)
    record = job(id=run.id, state="succeeded")
    service.world.store.create_job(Decision(job=record, run=run), limit=10**9)


def test_no_job_has_ended(service: Service, run: Run) -> None:
    assert "No job has ended yet." in run("accuracy").out


def test_each_ended_job_has_its_errors(service: Service, run: Run) -> None:
    keep(service, id="ftjob-one")
    service.world.clock.now += 301
    ran = run("accuracy")
    assert ran.code == 0
    line = next(line for line in ran.out.splitlines() if line.startswith("ftjob-one"))
    assert "-10%" in line
    assert "-20%" in line
    assert "1 (0.10 expected)" in line
    assert "1 in 0.6 instance-hours" in ran.out
    assert "What plans have learnt from 1 runs" in ran.out


def test_a_job_that_published_nothing_has_no_error_of_its_money(service: Service, run: Run) -> None:
    keep(service, completed=False)
    ran = run("accuracy", "--json")
    assert ran.json["data"][0]["completed"] is False
    shown = run("accuracy").out
    assert "-10%" not in shown


def test_pages_go_on_after_a_job(service: Service, run: Run) -> None:
    for number in range(3):
        keep(service, id=f"ftjob-{number}", created_at=1_790_000_000.0 + number)
    first = run("accuracy", "--limit", 2)
    assert "More: spotune accuracy --after ftjob-1" in first.out
    assert "ftjob-0" in run("accuracy", "--after", "ftjob-1").out


def test_a_run_on_a_cpu_says_so_and_has_no_errors(service: Service, run: Run) -> None:
    on_cpu = finished_run().actual.with_(device="AMD EPYC")
    keep(service, actual=on_cpu)
    shown = run("accuracy").out
    assert "ran on AMD EPYC" in " ".join(shown.split())
    assert "%" not in shown
    assert "not corrected yet" in shown
