"""Whatever the planner takes, the container's own checks take: no machine is paid for to be told no."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import get_args

import pytest

from spotune.contracts.errors import RequestRefused
from spotune.contracts.plan import Optimizer, Sharding
from spotune.contracts.request import AdapterChoice, JobRequest, Method, Quantization
from spotune.contracts.training import ChampionConfig, OptimizationConfig, TrainingConfig
from spotune.planner import Judged
from spotune.planner.catalog import load_catalog
from spotune.planner.combinations import check_combinations
from spotune.planner.layouts import PRESENT_TRAINER, Layouts, Machines, with_shared_states
from spotune.planner.prepare import _beside
from spotune.planner.workload import REPLICATED, Workload
from tests.factories import config
from tests.planner.cases import SMALL, workload_of
from training_container.faults import TrainingFault
from training_container.loading import spreads
from training_container.quantization import quantization_of
from training_container.sharding.fsdp import check_supported

METHODS = tuple(one for one in get_args(Method) if one != "auto")
QUANTIZATIONS = tuple(one for one in get_args(Quantization) if one != "auto")
OPTIMIZERS: tuple[Optimizer, ...] = get_args(OptimizationConfig.model_fields["optimizer"].annotation)
OUTSIDE = frozenset({"prefix", "prompt"})
"""Champions that `training_container/champion.py` measures nowhere where weights are spread."""
MACHINES = Machines(load_catalog().instances["ml.g5.12xlarge"], 2)


def is_taken(method: Method, quantization: Quantization) -> bool:
    choice = AdapterChoice.model_validate({"type": method, "quantization": quantization})
    try:
        check_combinations(JobRequest(model="m", training_file="f", adapter=choice))
    except RequestRefused:
        return False
    return True


def planned(
    method: Method, quantization: Quantization, optimizer: Optimizer, champion: Method | None
) -> Iterator[TrainingConfig]:
    """What the container may be told for this request and champion, for each way to spread it."""
    work = replace(workload_of(SMALL, method), quantization=quantization, optimizer=optimizer)
    judged = Judged() if champion is None else Judged(ChampionConfig(name="c", start=False), champion)
    for open_ in (False, True):
        asked = replace(work, optimizer_open=open_)
        layouts = Layouts((asked,), (False,), MACHINES, _beside(judged, PRESENT_TRAINER))
        for sharding, offload in layouts._spreads(asked):
            yield told(asked if sharding in REPLICATED else with_shared_states(asked), sharding, offload=offload)


def told(work: Workload, sharding: Sharding, *, offload: bool) -> TrainingConfig:
    plain = config()
    return plain.with_(
        method=work.method,
        quantization=work.quantization,
        optimization=plain.optimization.with_(optimizer=work.optimizer),
        hardware=plain.hardware.with_(sharding=sharding, offload=offload),
    )


@pytest.mark.parametrize("method", METHODS)
def test_what_is_planned_the_container_takes(method: Method) -> None:
    seen = 0
    taken = [one for one in QUANTIZATIONS if is_taken(method, one)]
    for quantization, optimizer, champion in product(taken, OPTIMIZERS, (None, *METHODS)):
        for one in planned(method, quantization, optimizer, champion):
            seen += 1
            quantization_of(one)
            if one.hardware.sharding == "fsdp":
                check_supported(one)
            assert not (spreads(one) and champion in OUTSIDE), (champion, one.hardware.sharding)
    assert seen > 50


def test_the_container_would_say_no_to_some_of_what_is_not_planned() -> None:
    """Else the test above would hold of anything."""
    refused = 0
    for method, quantization, optimizer in product(METHODS, QUANTIZATIONS, OPTIMIZERS):
        work = replace(workload_of(SMALL, method), quantization=quantization, optimizer=optimizer)
        try:
            quantization_of(told(work, "fsdp", offload=False))
            check_supported(told(work, "fsdp", offload=False))
        except TrainingFault:
            refused += 1
    assert refused > 50
