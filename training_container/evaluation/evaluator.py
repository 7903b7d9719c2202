"""Measures a model on the held-out rows: the loss of each, answers to some, and a choice where a row has choices."""

from __future__ import annotations

import math
from collections import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from spotune.contracts.training import TrainingConfig
from spotune.data.tokens import RowTokenizer
from training_container.corpus import Batch, Corpus, Sequence, Sequences, collate, split
from training_container.device import Machine, evaluating, fitting
from training_container.evaluation.answering import Answering, longest_answer
from training_container.evaluation.comparison import HeldOut, Measurement
from training_container.evaluation.questions import Choice, Question, choices_of, questions_of
from training_container.objectives import Objective, objective_of
from training_container.objectives.supervised import Supervised, row_losses

GENERATION_BATCH = 20
"""Prompts answered at once. Answering is bound by reading the weights, which a batch shares."""


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Measures a model on a corpus. `check` runs between batches and tokens, and may raise to leave."""

    corpus: Corpus
    objective: Objective
    questions: tuple[Question, ...]
    choices: tuple[Choice, ...]
    held_out: HeldOut
    tokenizer: RowTokenizer
    answering: Answering
    machine: Machine
    lines: int
    check: Callable[[], None]

    @classmethod
    def of(
        cls,
        corpus: Corpus,
        tokenizer: RowTokenizer,
        model_folder: Path,
        config: TrainingConfig,
        *,
        machine: Machine,
        lines: int,
        check: Callable[[], None],
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
        )
        held = _held_out(corpus.evaluation, asked, choices)
        objective = objective_of(config.objective)
        return cls(corpus, objective, asked, choices, held, tokenizer, answering, machine, lines, check)

    def checking(self, check: Callable[[], None]) -> Evaluator:
        """The same with another `check`."""
        return replace(self, check=check, answering=replace(self.answering, check=check))

    def measure(self, model: Any) -> Measurement:
        """Loss, answers and choices."""
        return self.measure_loss(model).with_(answers=self.answers(model), choices=self.choose(model))

    def measure_loss(self, model: Any) -> Measurement:
        """The loss alone: its mean, and each row's, in the rows' order, where the objective tells them apart."""
        with evaluating(model), self.machine.autocast():
            if isinstance(self.objective, Supervised):
                each, _ = fitting(self.lines, lambda lines: self._row_losses(model, self.corpus.evaluation, lines))
                loss = math.fsum(each) / sum(self.held_out.weights)
                return Measurement(loss=loss, losses=tuple(each), answers=None, choices=None)
            loss, _ = fitting(self.lines, lambda lines: self._loss(model, lines))
        return Measurement(loss=loss, answers=None, choices=None)

    def answers(self, model: Any) -> tuple[str, ...]:
        """Greedy answers in the questions' order."""
        with evaluating(model), self.machine.autocast():
            found, _ = fitting(GENERATION_BATCH, lambda lines: self.answering.all(model, self.questions, lines))
        return found

    def choose(self, model: Any) -> tuple[int, ...]:
        """Which answer is the likeliest, stop token included, for each row with choices."""
        candidates = tuple((row,) for choice in self.choices for row in choice.rows)
        with evaluating(model), self.machine.autocast():
            losses, _ = fitting(self.lines, lambda lines: self._row_losses(model, candidates, lines))
        chosen, start = [], 0
        for choice in self.choices:
            own = losses[start : start + len(choice.rows)]
            chosen.append(own.index(min(own)))
            start += len(choice.rows)
        return tuple(chosen)

    def _row_losses(self, model: Any, sequences: abc.Sequence[Sequence], lines: int) -> list[float]:
        """Each row's summed cross-entropy in nats, sequence by sequence."""
        found: list[float] = []
        for part in split(sequences, lines):
            self.check()
            batch = collate(part, self.tokenizer.pad_token_id)
            found += row_losses(model, batch.to(self.machine.device), part)
        return found

    def _loss(self, model: Any, lines: int) -> float:
        sequences = self.corpus.evaluation  # read batch by batch

        def batches() -> Iterator[Batch]:
            for part in split(sequences, lines):
                self.check()
                yield self.objective.collate(part, self.tokenizer.pad_token_id).to(self.machine.device)

        totals = self.objective.totals(model, sequences, batches)
        return sum(float(self.objective.loss(model, batch, totals)) for batch in batches())


def _held_out(sequences: Sequences, questions: tuple[Question, ...], choices: tuple[Choice, ...]) -> HeldOut:
    rows = [row for sequence in sequences for row in sequence]
    return HeldOut(
        weights=tuple(int(row.trained.sum()) for row in rows),
        slices=tuple(row.slice for row in rows),
        references=tuple(question.reference for question in questions),
        reference_slices=tuple(question.slice for question in questions),
        right=tuple(choice.right for choice in choices),
        right_slices=tuple(choice.slice for choice in choices),
    )
