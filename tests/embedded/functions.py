"""Calls of the deployed functions that no request of the API makes."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

from spotune.local.deployment import client
from spotune.local.state import StackState


def invoke(state: StackState, part: str) -> Any:
    """Call the function whose name has this part, with an empty event; its answer."""
    functions = client("lambda", state.emulator_url)
    name = next(one["FunctionName"] for one in functions.list_functions()["Functions"] if part in one["FunctionName"])
    answer = json.loads(functions.invoke(FunctionName=name, Payload="{}")["Payload"].read())
    assert "errorMessage" not in (answer or {}), answer
    return answer


@contextlib.contextmanager
def reconciling(state: StackState) -> Iterator[None]:
    """The reconciler passes by again and again, so that nothing waits for its schedule, which is once a minute."""
    over = threading.Event()

    def pass_by() -> None:
        while not over.wait(2):
            invoke(state, "Reconcile")

    thread = threading.Thread(target=pass_by)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
