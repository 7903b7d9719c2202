"""Measures a model on the held-out rows: the loss of each, answers to some, and a choice where a row has choices."""

from __future__ import annotations

import math
from collections import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from tokenizers import Tokenizer

from spotune.contracts.training import TrainingConfig
from spotune.data.tokens import RowTokenizer
from training_container.corpus import Corpus, Sequence, Sequences, collate
from training_container.device import Machine, evaluating, fitting
from training_container.evaluation.answering import Answering, longest_answer
from training_container.evaluation.comparison import HeldOut, Measurement
from training_container.evaluation.questions import Choice, Question, choices_of, questions_of
from training_container.faults import TrainingFault
from training_container.objectives import Preference, objective_of
from training_container.objectives.supervised import Supervised, row_losses
from training_container.sharding.rounds import rounds, share
from training_container.sharding.world import ALONE, World

T = TypeVar("T")

GENERATION_BATCH = 20
"""Prompts answered at once. Answering is bound by reading the weights, which a batch shares."""


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Measures a model on a corpus. `check` runs between batches and tokens, and may raise to leave."""

    corpus: Corpus
    objective: Supervised | Preference
    questions: tuple[Question, ...]
    choices: tuple[Choice, ...]
    golden: tuple[Question, ...]
    golden_new_tokens: int
    held_out: HeldOut
    tokenizer: RowTokenizer
    answering: Answering
    machine: Machine
    lines: int
    check: Callable[[], None]
    world: World = ALONE

    @classmethod
    def of(
        cls,
        corpus: Corpus,
        tokenizer: RowTokenizer,
        model_folder: Path,
        config: TrainingConfig,
        *,
        golden: tuple[Question, ...] = (),
        machine: Machine,
        lines: int,
        check: Callable[[], None],
        world: World = ALONE,
    ) -> Evaluator:
        """An evaluator for the corpus; `lines` is the size of its batches for the loss."""
        asked = questions_of(corpus.examples, tokenizer)
        choices = choices_of(corpus.choices, tokenizer, config.data.max_sequence_length)
        decoder = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
        answering = Answering(
            decoder,
            tokenizer.pad_token_id,
            tokenizer.eos_token_id,
            machine.device,
            longest_answer([each.reference for each in asked], decoder, config.evaluation.max_new_tokens),
            check,
            world,
        )
        return cls(
            corpus=corpus,
            objective=objective_of(config.objective),
            questions=asked,
            choices=choices,
            golden=golden,
            golden_new_tokens=config.evaluation.golden_new_tokens,
            held_out=_held_out(corpus.evaluation, asked, choices),
            tokenizer=tokenizer,
            answering=answering,
            machine=machine,
            lines=lines,
            check=check,
            world=world,
        )

    def checking(self, check: Callable[[], None]) -> Evaluator:
        """The same with another `check`."""
        return replace(self, check=check, answering=replace(self.answering, check=check))

    def apart(self) -> Evaluator:
        """The same over the same rows in the same order, of which no two lie side by side."""
        return replace(self, corpus=replace(self.corpus, evaluation=self.corpus.evaluation.apart()))

    def measure(self, model: Any) -> Measurement:
        """Loss, answers and choices, and the golden prompts' answers."""
        measured = self.measure_loss(model).with_(answers=self.answers(model), choices=self.choose(model))
        return measured.with_(golden=self.golden_answers(model))

    def measure_loss(self, model: Any) -> Measurement:
        """The loss alone: its mean, and each row's, in the rows' order, where the objective tells them apart.

        Raises:
            TrainingFault: it is not finite.
        """
        with evaluating(model), self.machine.autocast():
            measured = self._measured_loss(model)
        if math.isfinite(measured.loss):
            return measured
        raise TrainingFault(
            "eval_loss_not_finite",
            f"The model's held-out loss is {measured.loss}.",
            evidence=f"{len(self.corpus.evaluation)} sequences, in {self.machine.precision}",
            remedy="Lower the learning rate. Where it is the base model: check its weights, or try another precision.",
        )

    def answers(self, model: Any) -> tuple[str, ...]:
        """Greedy answers in the questions' order."""
        return self._answers(model, self.questions, self.answering)

    def golden_answers(self, model: Any) -> tuple[str, ...]:
        """The same of the golden prompts."""
        return self._answers(model, self.golden, replace(self.answering, max_new_tokens=self.golden_new_tokens))

    def choose(self, model: Any) -> tuple[int, ...]:
        """Which answer is the likeliest, stop token included, for each row with choices."""
        candidates = tuple((row,) for choice in self.choices for row in choice.rows)
        with evaluating(model), self.machine.autocast():
            losses = self._fitting(self.lines, lambda lines: self._row_losses(model, candidates, lines))
        chosen, start = [], 0
        for choice in self.choices:
            own = losses[start : start + len(choice.rows)]
            chosen.append(own.index(min(own)))
            start += len(choice.rows)
        return tuple(chosen)

    def _measured_loss(self, model: Any) -> Measurement:
        objective = self.objective
        if isinstance(objective, Supervised):
            each = self._fitting(self.lines, lambda lines: self._row_losses(model, self.corpus.evaluation, lines))
            loss = math.fsum(each) / sum(self.held_out.weights)
            return Measurement(loss=loss, losses=tuple(each), answers=None, choices=None, golden=None)
        loss, margins = self._fitting(self.lines, lambda lines: self._compared(objective, model, lines))
        return Measurement(loss=loss, margins=margins, answers=None, choices=None, golden=None)

    def _answers(self, model: Any, questions: tuple[Question, ...], answering: Answering) -> tuple[str, ...]:
        with evaluating(model), self.machine.autocast():
            lines = self.machine.halved(GENERATION_BATCH)
            return self._fitting(lines, lambda lines: answering.all(model, questions, lines))

    def _fitting(self, lines: int, work: Callable[[int], T]) -> T:
        return fitting(lines, work, alone=self.world.size == 1)[0]

    def _row_losses(self, model: Any, sequences: abc.Sequence[Sequence], lines: int) -> list[float]:
        """Each row's summed cross-entropy in nats, sequence by sequence. Each rank computes its share."""
        found: dict[int, list[float]] = {}
        for one in rounds(range(len(sequences)), lines, self.world):
            self.check()
            part = [sequences[number] for number in one.items]
            batch = collate(part, self.tokenizer.pad_token_id)
            losses = iter(row_losses(model, batch.to(self.machine.device), part))
            found |= {number: list(islice(losses, len(rows))) for number, rows in zip(one.items, part, strict=True)}
        everyones = self.world.merge(found)
        return [loss for number in range(len(sequences)) for loss in everyones[number]]

    def _compared(self, objective: Preference, model: Any, lines: int) -> tuple[float, tuple[float, ...]]:
        """The objective's mean, and the margin of each sequence. Each rank computes its share."""
        sequences = self.corpus.evaluation  # read batch by batch
        planned = list(rounds(range(len(sequences)), lines, self.world))

        def batches() -> Iterator[tuple[Any, bool]]:
            for one in planned:
                self.check()
                part = [sequences[number] for number in one.items]
                yield objective.collate(part, self.tokenizer.pad_token_id).to(self.machine.device), one.counts

        totals = self.world.add(objective.totals(model, share(sequences, self.world), batches))
        total = 0.0
        found: dict[int, float] = {}
        for one, (batch, counts) in zip(planned, batches(), strict=True):
            loss, margins = objective.measured(model, batch, totals)
            total += float(loss) * counts
            found |= dict(zip(one.items, margins.tolist(), strict=True)) if counts else {}
        everyones = self.world.merge(found)
        mean = float(self.world.add(torch.tensor(total, dtype=torch.float64)))
        return mean, tuple(everyones[number] for number in range(len(sequences)))


def _held_out(sequences: Sequences, questions: tuple[Question, ...], choices: tuple[Choice, ...]) -> HeldOut:
    """Reads every held-out row once, and keeps none of their tokens."""
    facts = [[(int(row.trained.sum()), row.slice) for row in sequence] for sequence in sequences]
    rows = [fact for sequence in facts for fact in sequence]
    return HeldOut(
        weights=tuple(weight for weight, _ in rows),
        slices=tuple(name for _, name in rows),
        compared_slices=tuple(sequence[0][1] for sequence in facts),
        references=tuple(question.reference for question in questions),
        reference_slices=tuple(question.slice for question in questions),
        right=tuple(choice.right for choice in choices),
        right_slices=tuple(choice.slice for choice in choices),
    )
