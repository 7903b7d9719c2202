"""What the present work is about, and for how long."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from spotune.contracts.subject import about, attempt_number, know, know_job, subject
from spotune.lifecycle import decide
from tests.factories import NOW, job, prepared


def test_what_is_learnt_inside_is_forgotten_outside() -> None:
    with about(service="launch"):
        with about(job="one"):
            know(tenant="acme")
            assert subject() == {"service": "launch", "job": "one", "tenant": "acme"}
        assert subject() == {"service": "launch"}
    assert subject() == {}


def test_it_is_forgotten_after_an_error_too() -> None:
    with pytest.raises(RuntimeError), about(job="one"):
        raise RuntimeError
    assert subject() == {}


def test_nothing_is_kept_where_nobody_would_forget_it() -> None:
    know(job="one")
    assert subject() == {}


def test_a_job_without_attempts_takes_the_last_ones_attempt_away() -> None:
    opened = decide(job(), prepared(), NOW).job
    with about():
        know_job(opened)
        assert subject() == {"job": "ftjob-abc", "tenant": "acme", "attempt": 1}
        know_job(opened, "ftjob-abc-7")
        assert subject()["attempt"] == 7
        know_job(job())
        assert subject() == {"job": "ftjob-abc", "tenant": "acme"}


def test_threads_know_nothing_of_each_other() -> None:
    def look() -> dict[str, object]:
        with about(job="other"):
            return dict(subject())

    with about(job="one", tenant="acme"), ThreadPoolExecutor(1) as threads:
        assert threads.submit(look).result() == {"job": "other"}
        assert subject() == {"job": "one", "tenant": "acme"}


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("ftjob-abc-1", 1),
        ("ftjob-abc-12", 12),
        ("ftjob-abc", None),
        ("", None),
        ("x-" + "9" * 5000, None),
        ("x-²", None),
    ],
)
def test_an_attempts_number_is_the_end_of_its_name(name: str, number: int | None) -> None:
    assert attempt_number(name) == number
