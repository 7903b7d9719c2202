"""What evaluations take: passes over the held-out rows, answers to some of them, and answers to golden prompts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from spotune.contracts.dataset import GoldenReport
from spotune.contracts.job import ResolvedSetting
from spotune.contracts.request import JobRequest, Method
from spotune.contracts.training import ChampionConfig
from spotune.planner.architecture import Architecture
from spotune.planner.volume import Volume
from spotune.planner.workload import WHOLE

GENERATION_BATCH = 16
GENERATED_TOKENS = 64
"""An answer's length, as the container generates."""
GENERATION_LAUNCH = 0.001
"""Seconds of host time a block and generated token: a third of a training pass."""
LOADED_PARAMETERS_PER_SECOND = 250e6
"""From the instance's disk to the GPU: a working guess, two bytes each at the speed of a save."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the gate has the container read beside the dataset."""

    champion: ChampionConfig | None = None
    champion_method: Method | None = None
    champion_bytes: int = 0
    golden: GoldenReport | None = None

    @property
    def bytes(self) -> int:
        """To be downloaded at every start."""
        return self.champion_bytes + (self.golden.bytes if self.golden is not None else 0)

    @property
    def guests(self) -> int:
        """Models that are loaded for nothing but being measured: a champion that training does not go on from; the
        base, where it goes on from whole weights."""
        if self.champion is None:
            return 0
        return int(not self.champion.start or self.champion_method in WHOLE)


NOTHING_JUDGED = Judged()


@dataclass(frozen=True, slots=True)
class Evaluations:
    """Of one run, or of a part of it."""

    tokens: int = 0
    """Read in forward passes."""
    rounds: int = 0
    """Tokens that are made one after another, a batch of answers at once."""
    guests: int = 0
    """Models that are loaded for nothing else."""

    def seconds(self, forward: float, architecture: Architecture) -> float:
        """How long they take; `forward` is tokens a second in a forward pass."""
        answering = self.rounds * architecture.layers * GENERATION_LAUNCH
        return self.tokens / forward + answering + self.guests * architecture.parameters / LOADED_PARAMETERS_PER_SECOND

    def plus(self, other: Evaluations) -> Evaluations:
        """Both."""
        return Evaluations(self.tokens + other.tokens, self.rounds + other.rounds, self.guests + other.guests)


def evaluations(
    request: JobRequest, volume: Volume, *, epochs: float, base_scored: bool, judged: Judged
) -> Evaluations:
    """All of a run: the base once, the tuned model after each share of an epoch, the champion once.

    Args:
        epochs: that are trained.
        base_scored: the base's scores and answers are kept from an earlier run.
    """
    first = 0 if base_scored else 1
    scorings = max(epochs * request.training.evaluations_per_epoch, 1) + first
    answered = (1 + first) * _rounds(request.training.generation_examples, GENERATED_TOKENS)
    found = Evaluations(math.ceil(volume.evaluation_tokens * scorings), answered)
    return found.plus(_of_champion(request, volume, judged)).plus(_of_golden(judged, models=1 + first))


def golden_seconds(judged: Judged, architecture: Architecture) -> int:
    """For one model's answers to the golden prompts: what the last evaluation takes beyond the usual."""
    golden = judged.golden
    rounds = 0 if golden is None else _rounds(golden.prompts, golden.answer_tokens)
    return math.ceil(rounds * architecture.layers * GENERATION_LAUNCH)


def resolved_by_gate(
    request: JobRequest, volume: Volume, judged: Judged, *, forward: float, architecture: Architecture
) -> Iterator[ResolvedSetting]:
    """What the gate's comparisons take, a line each; `forward` as in `Evaluations.seconds`."""
    if judged.champion is not None:
        seconds = _of_champion(request, volume, judged).seconds(forward, architecture)
        start = "training goes on from it, and it is" if judged.champion.start else "the group's champion, which is"
        reason = f"{start} measured on the same rows: about {max(round(seconds), 1)} s of the run"
        yield ResolvedSetting(name="champion", value=judged.champion.name, reason=reason)
    if judged.golden is not None:
        champion = judged.champion is not None
        seconds = _of_golden(judged, models=2).seconds(forward, architecture)
        who = "base, champion and tuned model" if champion else "base and tuned model"
        reason = f"answered by {who}: about {max(round(seconds), 1)} s of the run"
        yield ResolvedSetting(name="golden_prompts", value=str(judged.golden.prompts), reason=reason)


def _of_champion(request: JobRequest, volume: Volume, judged: Judged) -> Evaluations:
    """Once, on the same rows; its golden answers count with the others'."""
    if judged.champion is None:
        return Evaluations()
    answered = _rounds(request.training.generation_examples, GENERATED_TOKENS)
    return Evaluations(volume.evaluation_tokens, answered, judged.guests)


def _of_golden(judged: Judged, *, models: int) -> Evaluations:
    """Of these models, and of the champion where there is one."""
    golden = judged.golden
    if golden is None:
        return Evaluations()
    asked = models + (judged.champion is not None)
    return Evaluations(asked * golden.prompt_tokens, asked * _rounds(golden.prompts, golden.answer_tokens))


def _rounds(answers: int, tokens: int) -> int:
    return math.ceil(answers / GENERATION_BATCH) * tokens
