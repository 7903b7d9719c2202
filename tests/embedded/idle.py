"""A stack in which every job's training job is created at once, and none ever gets an instance."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx

from spotune import planner
from spotune.local import stack
from spotune.local.deployment import client
from spotune.local.models import add_base_model
from spotune.local.state import StackState
from tests import tiny_model

PLACES = 1_000_000
LIMITS = ("SPOTUNE_JOBS", "SPOTUNE_JOBS_PER_TENANT")


@contextlib.contextmanager
def idle_stack(home: Path) -> Iterator[StackState]:
    """Started in this folder, with the tiny model in it."""
    state = stack.up(home, emulator_port=0, double_port=0)
    try:
        folder = home / "tiny"
        folder.mkdir()
        for name, body in tiny_model.files().items():
            (folder / name).write_bytes(body)
        add_base_model(state, folder, tiny_model.NAME)
        _take_capacity_and_give_places(state)
        yield state
    finally:
        stack.down(home)


def _take_capacity_and_give_places(state: StackState) -> None:
    with httpx.Client(base_url=f"{state.double_url}/_double", timeout=60) as door:
        for name in planner.load_catalog().instances:
            door.post("/capacity", json={"InstanceType": name, "available": False}).raise_for_status()
            for market in ("spot", "on_demand"):
                quota = {"InstanceType": name, "market": market, "limit": PLACES}
                door.post("/quota", json=quota).raise_for_status()
    functions = client("lambda", state.emulator_url)
    for function in functions.list_functions()["Functions"]:
        variables = function["Environment"]["Variables"] | dict.fromkeys(LIMITS, str(PLACES))
        name = function["FunctionName"]
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})
        if function["Handler"].startswith("handlers.refresh_market"):
            functions.invoke(FunctionName=name, Payload="{}")  # plans know the quotas from here
