"""Who is champion, and whether it has earned it; and what the container says of each model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any

from spotune.contracts.job import JobRecord
from spotune.contracts.models import ChampionChange, ModelGroup, ModelVersion
from spotune.contracts.scores import Comparison, Scores
from spotune.contracts.training import TrainingReport
from tests.factories import report

BASE_LOSS = 2.0
LOSSES = (0.3, 0.6, 0.6, 0.9, 1.2, 1.5, 2.5)
MOVES = ("promote {}", "rollback", "versions/{}/approve")
"""What a person asks for to make a version champion."""


class Losses:
    """What each job's model is worth: by chance good, no better than the champion, or worse than the base."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._of: dict[str, float] = {}

    def of(self, job_id: str) -> float:
        """The loss of this job's model."""
        return self._of.setdefault(job_id, Random(f"{self._seed}:{job_id}:loss").choice(LOSSES))

    def report(self, job: JobRecord) -> TrainingReport:
        """What the container says of it."""
        loss = self.of(job.id)
        values: dict[str, Any] = {"job_id": job.id, "base": _scores(BASE_LOSS), "tuned": _scores(loss)}
        if job.champion is not None:
            other = self.of("ftjob-" + job.champion.name.rpartition(":")[2])
            values |= {"champion": _scores(other), "against_champion": (_compared(other, loss),)}
        return report(**values)


def _scores(loss: float) -> Scores:
    return Scores(eval_loss=loss, perplexity=None)


def _compared(other: float, loss: float) -> Comparison:
    off = loss - other
    return Comparison(
        metric="eval_loss", rows=10, base=other, tuned=loss, difference=off, low=off - 0.1, high=off + 0.1
    )


def misled(
    group: ModelGroup, versions: dict[int, ModelVersion], known: int, losses: Losses, asked: set[str]
) -> Iterator[str]:
    """The champion is the one that its history names, and each change was judged or asked for.

    Args:
        known: how many changes of its history were looked at before.
        asked: what people have asked for so far, as path and version.
    """
    if group.champion != (group.history[-1].number if group.history else None):
        yield f"champion {group.champion} is not the last of its history"
    for one, following in pairwise(group.history):
        if following.before != one.number:
            yield f"version {following.number} replaced {following.before}, and {one.number} was champion"
    for at, change in enumerate(group.history):
        if change.rollback and change.number not in [one.number for one in group.history[:at]]:
            yield f"went back to version {change.number}, which was never champion"
    for change in group.history[known:]:
        yield from _unearned(change, versions, losses, asked)
    crowned = [number for number, version in versions.items() if version.status == "champion"]
    if crowned != ([] if group.champion is None else [group.champion]):
        yield f"champion {group.champion}, and by their status {crowned}"
    for version in versions.values():
        if version.verdict.decision == "reject" and version.status not in ("rejected", "deprecated", "deleted"):
            yield f"version {version.number} was rejected by its gate and is {version.status}"


def _unearned(
    change: ChampionChange, versions: dict[int, ModelVersion], losses: Losses, asked: set[str]
) -> Iterator[str]:
    version = versions[change.number]
    loss, decision = losses.of(version.lineage.job_id), version.verdict.decision
    if decision == "reject" or loss >= BASE_LOSS:
        yield f"version {change.number} is champion with a loss of {loss}, and its gate: {decision}"
    if change.by != "gate":
        wanted = {f"/v1/model_groups/{version.group}/{move.format(change.number)}" for move in MOVES}
        if not wanted & asked:
            yield f"version {change.number} is champion by {change.by}, and nobody asked for it"
    elif decision != "promote":
        yield f"version {change.number} is champion by its gate, which said {decision}"
    elif change.before is not None and loss >= losses.of(versions[change.before].lineage.job_id):
        yield f"version {change.number} with a loss of {loss} replaced the better {change.before}"
