"""Training goes on from the champion: its very weights, an optimizer that begins anew, and what was forgotten."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file

from spotune.contracts.request import Method
from spotune.contracts.scores import Comparison, Metric
from spotune.contracts.training import ExitCode, TrainingConfig
from tests.training_container.building import CONFIG, report_of
from tests.training_container.reigning import NAME, StopOnceSaved
from training_container.evaluation.forgetting import forgotten, warnings_of
from training_container.faults import TrainingFault
from training_container.folders import Folders

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("without_plot")]

Make = Callable[..., Path]
Train = Callable[..., ExitCode]
Champions = Callable[[Method], Path]
STILL = {"optimization": {"learning_rate": 0.0, "global_batch_size": 12}}
"""What is published then is what training began with."""


def published(root: Path) -> dict[str, torch.Tensor]:
    (path,) = (root / "model").glob("*model.safetensors")
    return load_file(path)


def assert_same(one: Path, other: Path) -> None:
    weights, others = published(one), published(other)
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.proves
@pytest.mark.parametrize("method", get_args(Method))
def test_training_begins_with_the_very_weights_of_the_champion(
    make: Make, train: Train, champions: Champions, method: Method
) -> None:
    champion = champions(method)
    still = make("still", method, champion, start=True, **STILL)
    assert train(still) == ExitCode.PUBLISHED
    assert_same(still, champion)
    before, report = report_of(champion), report_of(still)
    assert report.champion == before.tuned
    assert report.tuned == before.tuned
    assert report.base == before.base
    assert report.began_from == "champion"
    assert {each.difference for each in report.against_champion} == {0.0}
    assert report.forgotten == ()


@pytest.mark.parametrize("method", ["lora", "pissa", "full"])
def test_a_warm_start_that_is_stopped_goes_on_from_its_own_checkpoint(
    make: Make, train: Train, champions: Champions, method: Method
) -> None:
    whole, stopped = (make(name, method, champions(method), start=True) for name in ("whole", "stopped"))
    assert train(whole) == ExitCode.PUBLISHED
    assert train(stopped, stop=StopOnceSaved(stopped)) == ExitCode.STOPPED
    assert train(stopped) == ExitCode.PUBLISHED
    assert_same(stopped, whole)
    found, expected = report_of(stopped), report_of(whole)
    assert found.resumes[-1].step > 0
    assert (found.base, found.champion, found.tuned) == (expected.base, expected.champion, expected.tuned)
    assert found.tuned.eval_loss < report_of(champions(method)).tuned.eval_loss


@pytest.mark.proves(method="full", objective="dpo")
def test_preferences_go_on_from_whole_weights_and_are_still_measured_from_the_base(make: Make, train: Train) -> None:
    preference = [{"prompt": f"Row {n}", "chosen": "yes", "rejected": "no"} for n in range(10)]
    jobs: list[Path] = []
    for name in ("champion", "job", "cut"):
        more: dict[str, Any] = {"objective": {"type": "dpo"}}
        root = make(name, "full", *jobs[:1], start=True, **more)
        for side, count in (("training/train.jsonl", 10), ("validation/heldout.jsonl", 6)):
            (root / "input/data" / side).write_text("".join(json.dumps(row) + "\n" for row in preference[:count]))
        jobs.append(root)
    champion, job, cut = jobs
    assert train(champion) == ExitCode.PUBLISHED
    assert train(job) == ExitCode.PUBLISHED
    before, report = report_of(champion), report_of(job)
    assert report.champion == before.tuned
    assert report.base == before.base
    assert report.champion is not None
    assert report.champion.preference_margin is not None
    assert report.tuned.preference_margin is not None
    assert report.tuned.preference_margin > report.champion.preference_margin > 0
    assert train(cut, stop=StopOnceSaved(cut)) == ExitCode.STOPPED
    (Folders(cut).checkpoints / "reference.safetensors").unlink()  # the base is asked again, not the champion
    assert train(cut) == ExitCode.PUBLISHED
    assert_same(cut, job)


@pytest.mark.parametrize(
    ("method", "other", "code"),
    [
        ("lora", {"method": "rslora"}, "champion_of_another_method"),
        ("lora", {"method": "full", "adapter": None}, "champion_of_another_method"),
        ("lora", {"adapter": {"rank": 8}}, "champion_of_another_shape"),
        ("lora", {"adapter": {"alpha": 4}}, "champion_of_another_shape"),
        ("lora", {"adapter": {"target_modules": "attention"}}, "champion_of_another_shape"),
        ("pissa", {"adapter": {"rank": 8}}, "champion_of_another_shape"),
        ("prompt", {"adapter": {"virtual_tokens": 4}}, "champion_of_another_shape"),
        ("bottleneck", {"adapter": {"rank": 2}}, "champion_of_another_shape"),
    ],
)
def test_another_method_or_shape_is_refused_by_name(
    make: Make, train: Train, champions: Champions, method: Method, other: dict[str, Any], code: str
) -> None:
    groups = {name: change for name, change in other.items() if name != "method"}
    root = make("job", other.get("method", method), champions(method), start=True, **groups)
    with pytest.raises(TrainingFault) as caught:
        train(root)
    assert caught.value.code == code
    assert NAME in caught.value.message
    assert not list(Folders(root).checkpoints.glob("checkpoint-*"))


def test_an_adapter_whose_maker_is_not_known_is_told_by_its_shape(
    make: Make, train: Train, champions: Champions, tmp_path: Path
) -> None:
    champion = tmp_path / "unknown"
    shutil.copytree(champions("lora") / "model", champion / "model")
    (champion / "model" / "report.json").unlink()
    with pytest.raises(TrainingFault) as caught:
        train(make("dora", "dora", champion, start=True))
    assert caught.value.code == "champion_of_another_shape"
    with pytest.raises(TrainingFault) as caught:
        train(make("full", "full", champion, start=True))
    assert caught.value.code == "champion_of_another_method"
    still = make("still", "lora", champion, start=True, **STILL)
    assert train(still) == ExitCode.PUBLISHED
    assert_same(still, champion)


def compared(metric: Metric, low: float, high: float) -> Comparison:
    return Comparison(metric=metric, rows=9, base=1.0, tuned=1.0, difference=(low + high) / 2, low=low, high=high)


def warm(replayed: int | None, start: bool = True) -> TrainingConfig:
    champion = {"name": NAME, "start": start, "replayed_rows": replayed}
    return TrainingConfig.model_validate({**CONFIG, "champion": champion})


WORSE = [compared("eval_loss", 0.1, 0.2), compared("exact_match", -0.2, -0.1), compared("preference_margin", -2, -1)]
NOT_WORSE = [
    compared("eval_loss", -0.2, -0.1),
    compared("eval_loss", -0.1, 0.2),
    compared("exact_match", 0.1, 0.2),
    compared("exact_match", -0.1, 0.0),
    compared("eval_loss", 0.0, 0.1),
]


def test_what_is_surely_worse_is_forgotten_and_nothing_else() -> None:
    found = forgotten([*NOT_WORSE, WORSE[0]], {"new": NOT_WORSE, "old": [*WORSE, *NOT_WORSE]})
    assert [(each.slice, each.comparison) for each in found] == [
        ("", WORSE[0]),
        *(("old", each) for each in WORSE),
    ]
    (said,) = warnings_of(found, warm(replayed=3))
    assert said == (
        f"Worse than the champion {NAME}, which training began from: all rows in loss; "
        "slice old in loss, exact match, preference margin."
    )
    assert list(warnings_of((), warm(replayed=None))) == []


def test_replay_is_named_where_slices_got_worse_after_a_warm_start_without_it() -> None:
    found = forgotten([], {"old": WORSE})
    for config, named in ((warm(None), True), (warm(0), True), (warm(1), False), (warm(None, start=False), False)):
        assert any("replay_share" in line for line in warnings_of(found, config)) == named
    assert not any("replay_share" in line for line in warnings_of(forgotten(WORSE, {}), warm(None)))
