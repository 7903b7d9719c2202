"""What evaluations take: passes over the held-out rows, answers to some of them, and answers to golden prompts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from spotune.contracts.dataset import GoldenReport
from spotune.contracts.job import ResolvedSetting
from spotune.contracts.request import JobRequest
from spotune.contracts.training import ChampionConfig
from spotune.planner.volume import Volume

GENERATION_BATCH = 16
GENERATED_TOKENS = 64
"""An answer's length, as the container generates."""
GENERATION_LAUNCH = 0.001
"""Seconds of host time a block and generated token: a third of a training pass."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the gate has the container read beside the dataset."""

    champion: ChampionConfig | None = None
    champion_bytes: int = 0
    golden: GoldenReport | None = None

    @property
    def bytes(self) -> int:
        """To be downloaded at every start."""
        return self.champion_bytes + (self.golden.bytes if self.golden is not None else 0)


NOTHING_JUDGED = Judged()


@dataclass(frozen=True, slots=True)
class Evaluations:
    """Of one run, or of a part of it."""

    tokens: int = 0
    """Read in forward passes."""
    rounds: int = 0
    """Tokens that are made one after another, a batch of answers at once."""

    def seconds(self, forward: float, layers: int) -> float:
        """How long they take.

        Args:
            forward: tokens a second in a forward pass.
            layers: the model's blocks.
        """
        return self.tokens / forward + self.rounds * layers * GENERATION_LAUNCH

    def plus(self, other: Evaluations) -> Evaluations:
        """Both."""
        return Evaluations(self.tokens + other.tokens, self.rounds + other.rounds)


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


def golden_seconds(judged: Judged, layers: int) -> int:
    """For one model's answers to the golden prompts: what the last evaluation takes beyond the usual."""
    golden = judged.golden
    rounds = 0 if golden is None else _rounds(golden.prompts, golden.answer_tokens)
    return math.ceil(rounds * layers * GENERATION_LAUNCH)


def resolved_by_gate(
    request: JobRequest, volume: Volume, judged: Judged, *, forward: float, layers: int
) -> Iterator[ResolvedSetting]:
    """What the gate's comparisons take, a line each; `forward` and `layers` as in `Evaluations.seconds`."""
    if judged.champion is not None:
        seconds = _of_champion(request, volume, judged).seconds(forward, layers)
        start = "training goes on from it, and it is" if judged.champion.start else "the group's champion, which is"
        reason = f"{start} measured on the same rows: about {max(round(seconds), 1)} s of the run"
        yield ResolvedSetting(name="champion", value=judged.champion.name, reason=reason)
    if judged.golden is not None:
        champion = judged.champion is not None
        seconds = _of_golden(judged, models=2).seconds(forward, layers)
        who = "base, champion and tuned model" if champion else "base and tuned model"
        reason = f"answered by {who}: about {max(round(seconds), 1)} s of the run"
        yield ResolvedSetting(name="golden_prompts", value=str(judged.golden.prompts), reason=reason)


def _of_champion(request: JobRequest, volume: Volume, judged: Judged) -> Evaluations:
    """Once, on the same rows; its golden answers count with the others'."""
    if judged.champion is None:
        return Evaluations()
    return Evaluations(volume.evaluation_tokens, _rounds(request.training.generation_examples, GENERATED_TOKENS))


def _of_golden(judged: Judged, *, models: int) -> Evaluations:
    """Of these models, and of the champion where there is one."""
    golden = judged.golden
    if golden is None:
        return Evaluations()
    asked = models + (judged.champion is not None)
    return Evaluations(asked * golden.prompt_tokens, asked * _rounds(golden.prompts, golden.answer_tokens))


def _rounds(answers: int, tokens: int) -> int:
    return math.ceil(answers / GENERATION_BATCH) * tokens
