"""What a model is worth on the held-out rows: loss on all of them, exact match on those that are answered."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from spotune.contracts.training import Scores, TrainingConfig
from spotune.data.rows import Example
from spotune.data.tokens import RowTokenizer
from training_container.corpus import Batch, Corpus, split
from training_container.device import Machine, evaluating, fitting
from training_container.objectives import Objective, objective_of

GENERATION_BATCH = 20
"""Prompts answered at once. Answering is bound by reading the weights, which a batch shares."""
ANSWER_MARGIN = 8
"""Tokens beyond the longest reference that an answer may have: a longer one can match no reference."""


@dataclass(frozen=True, slots=True)
class Question:
    """A held-out prompt in tokens and as text, and the answer that belongs to it."""

    ids: list[int]
    text: str
    reference: str


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Scores a model on a corpus. `check` runs between batches and tokens, and may raise to leave."""

    corpus: Corpus
    objective: Objective
    questions: tuple[Question, ...]
    tokenizer: RowTokenizer
    decoder: Tokenizer
    machine: Machine
    lines: int
    max_new_tokens: int
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
        asked = tuple(
            Question(tokenizer.prompt(example), _shown(example), tokenizer.reference(example))
            for example in corpus.examples
        )
        decoder = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
        lengths = [len(decoder.encode(question.reference, add_special_tokens=False).ids) for question in asked]
        longest = min(config.evaluation.max_new_tokens, max(lengths, default=0) + ANSWER_MARGIN)
        return cls(corpus, objective_of(config.objective), asked, tokenizer, decoder, machine, lines, longest, check)

    def loss(self, model: Any) -> float:
        """The objective's mean over the held-out rows; in nats a trained token, of a supervised one."""
        with evaluating(model), self.machine.autocast():
            loss, _ = fitting(self.lines, lambda lines: self._loss(model, lines))
        return loss

    def answers(self, model: Any) -> tuple[str, ...]:
        """Greedy answers in the questions' order."""
        with evaluating(model), self.machine.autocast():
            found, _ = fitting(GENERATION_BATCH, lambda lines: self._answer_all(model, lines))
        return found

    def scores(self, loss: float, given: tuple[str, ...] | None) -> Scores:
        """The scores of a model with this loss and these answers; None where there was no time for any."""
        exact = None
        if self.questions and given is not None:
            pairs = zip(self.questions, given, strict=True)
            exact = sum(asked.reference.strip() == answer.strip() for asked, answer in pairs) / len(given)
        return Scores(eval_loss=loss, perplexity=math.exp(min(loss, 700.0)), exact_match=exact)

    def _loss(self, model: Any, lines: int) -> float:
        sequences = self.corpus.evaluation  # read batch by batch

        def batches() -> Iterator[Batch]:
            for part in split(sequences, lines):
                self.check()
                yield self.objective.collate(part, self.tokenizer.pad_token_id).to(self.machine.device)

        totals = self.objective.totals(model, sequences, batches)
        return sum(float(self.objective.loss(model, batch, totals)) for batch in batches())

    def _answer_all(self, model: Any, lines: int) -> tuple[str, ...]:
        """Answers made in batches of prompts of similar length, which need little padding."""
        found: dict[int, str] = {}
        order = sorted(range(len(self.questions)), key=lambda number: len(self.questions[number].ids))
        for start in range(0, len(order), lines):
            part = order[start : start + lines]
            texts = self._answer(model, [self.questions[number].ids for number in part])
            found.update(zip(part, texts, strict=True))
        return tuple(found[number] for number in range(len(order)))

    def _answer(self, model: Any, prompts: list[list[int]]) -> list[str]:
        """Answers of one batch, padded on the left so that all prompts end at the same position."""
        from transformers import GenerationConfig, StoppingCriteriaList

        longest = max(map(len, prompts))
        ids = torch.full((len(prompts), longest), self.tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for line, prompt in enumerate(prompts):
            ids[line, longest - len(prompt) :] = torch.tensor(prompt)
            mask[line, longest - len(prompt) :] = 1
        output = model.generate(
            input_ids=ids.to(self.machine.device),
            attention_mask=mask.to(self.machine.device),
            # The last position as an index: as a slice it is not contiguous, and on a CPU torch then copies the
            # vocabulary projection once for each prompt (1 GB for 20 prompts of SmolLM2-135M).
            logits_to_keep=torch.tensor([-1], device=self.machine.device),
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=self.max_new_tokens,
                eos_token_id=self.tokenizer.eos_token_id,
                pad_token_id=self.tokenizer.pad_token_id,
            ),
            stopping_criteria=StoppingCriteriaList([self._go_on]),
        )
        return self.decoder.decode_batch(output[:, longest:].tolist(), skip_special_tokens=True)

    def _go_on(self, ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        """A stopping criterion that ends no answer, only leaves the whole generation where `check` raises."""
        self.check()
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)


def _shown(example: Example) -> str:
    """The prompt as a person reads it."""
    if example.messages:
        return "\n".join(f"{message.role}: {message.content}" for message in example.messages[: example.answer])
    return example.prompt
