"""Lambda processes: how many there are, and who gets the next that is free. The processes are real."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ministack.core import lambda_runtime
from ministack.services import lambda_svc

from spotune.local.workers import Worker, Workers, limit_processes
from tests.polling import wait_for

CONFIG = {
    "FunctionName": "echo",
    "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:echo",
    "Runtime": "python3.11",
    "Handler": "echo.handler",
    "Timeout": 20,
}
CODE = """
import os, sys

def handler(event, context):
    print("said", file=sys.stderr, flush=True)
    return {"pid": os.getpid(), "file": __file__}
"""


@pytest.fixture(autouse=True)
def no_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield
    lambda_runtime.reset()


@pytest.fixture
def code() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("echo.py", CODE)
    return packed.getvalue()


def acquire(workers: Workers, code: bytes, **config: Any) -> Worker | None:
    return workers.acquire("echo", {**CONFIG, **config}, code)[0]


def count() -> int:
    return sum(map(len, lambda_runtime._workers.values()))


def in_threads(number: int, work: Any) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(number)]
    for thread in threads:
        thread.start()
    return threads


def test_a_process_answers_out_of_the_one_copy_of_its_code_and_its_log_comes_along(code: bytes, tmp_path: Path) -> None:
    workers = Workers()
    worker = acquire(workers, code)
    assert worker is not None
    answer = worker.invoke({}, "request-1")
    assert answer["status"] == "ok", answer
    assert answer["log"] == "said"
    assert Path(answer["result"]["file"]).parent.name.startswith("spotune-code-")
    assert len(list(tmp_path.glob("spotune-code-*"))) == 1


def test_many_calls_at_once_share_a_few_processes_and_all_are_answered(code: bytes) -> None:
    workers = Workers(few=2)
    answers: list[int] = []

    def call(_: int) -> None:
        worker = acquire(workers, code)
        assert worker is not None
        answers.append(worker.invoke({}, "request")["result"]["pid"])
        workers.release(worker)

    for thread in in_threads(30, call):
        thread.join(30)
    assert len(answers) == 30
    assert len(set(answers)) <= 2
    assert count() <= 2


def test_a_free_process_goes_to_the_call_that_has_waited_longest(code: bytes) -> None:
    workers = Workers(few=1, standstill=1000)
    worker = acquire(workers, code)
    served: list[int] = []
    gate = threading.Semaphore(0)

    def call(number: int) -> None:
        held = acquire(workers, code)
        served.append(number)
        gate.acquire()
        workers.release(held)

    threads = []
    for number in range(4):
        threads += in_threads(1, lambda _, number=number: call(number))
        wait_for(lambda number=number: sum(map(len, workers._queues.values())) == number + 1 or None, "its turn")
    workers.release(worker)
    for number in range(4):
        wait_for(lambda number=number: len(served) == number + 1 or None, "a call that is served")
        gate.release()
    for thread in threads:
        thread.join(10)
    assert served == [0, 1, 2, 3]


def test_where_no_call_ends_another_process_is_started_up_to_the_most(code: bytes) -> None:
    workers = Workers(few=1, most=3, standstill=0.3)
    held: list[Worker | None] = []

    def call(_: int) -> None:
        worker = acquire(workers, code, Timeout=8)
        if worker is not None:
            worker.invoke({}, "request")
        held.append(worker)

    in_threads(5, call)
    wait_for(lambda: len([one for one in held if one]) == 3 or None, "three processes")
    assert wait_for(lambda: held.count(None) == 2 or None, "two calls that gave up", 20)
    assert count() == 3


def test_where_calls_end_no_more_than_a_few_are_started(code: bytes) -> None:
    workers = Workers(few=1, most=5, standstill=0.5)
    worker = acquire(workers, code)
    assert worker is not None
    waiting = in_threads(12, lambda _: workers.release(acquire(workers, code)))
    for thread in waiting:
        workers.release(worker)
        worker = acquire(workers, code)
        thread.join(0.01)
    workers.release(worker)
    for thread in waiting:
        thread.join(10)
    assert count() == 1


def test_a_call_that_nobody_serves_gives_up_after_its_functions_timeout(code: bytes) -> None:
    workers = Workers(few=1, most=1)
    assert acquire(workers, code) is not None
    assert workers.acquire("echo", {**CONFIG, "Timeout": 0.3}, code) == (None, "func_cap")
    assert not any(workers._queues.values())


def test_functions_do_not_wait_for_each_others_processes(code: bytes) -> None:
    workers = Workers(few=1, most=1)
    assert acquire(workers, code) is not None
    assert workers.acquire("other", {**CONFIG, "FunctionName": "other"}, code)[0] is not None


def test_it_stands_in_for_ministacks_own_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are looked up by these names at each call; another version of ministack may call them otherwise."""
    for name in ("acquire_worker", "release_worker"):
        monkeypatch.setattr(lambda_svc, name, getattr(lambda_svc, name))
    limit_processes()
    assert isinstance(lambda_svc.acquire_worker.__self__, Workers)
    names = lambda_svc._execute_function_warm.__code__.co_names
    assert {"acquire_worker", "release_worker"} <= set(names)
