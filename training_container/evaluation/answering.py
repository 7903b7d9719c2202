"""Greedy answers of a model to prompts, many at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer

from training_container.ends import ends_of
from training_container.evaluation.questions import Question
from training_container.sharding.rounds import rounds
from training_container.sharding.world import ALONE, World

ANSWER_MARGIN = 8
"""Tokens beyond the longest reference that an answer may have: a longer one can match no reference."""


@dataclass(frozen=True, slots=True)
class Answering:
    """How answers are made. `check` runs before each token, and may raise to leave.

    Several ranks share the prompts out and make their tokens in lockstep. They check between batches alone, since their
    answers have different lengths.
    """

    decoder: Tokenizer
    pad_token_id: int
    eos_token_id: int
    device: torch.device
    max_new_tokens: int
    check: Callable[[], None]
    world: World = ALONE

    def all(self, model: Any, questions: tuple[Question, ...], lines: int) -> tuple[str, ...]:
        """Answers in the questions' order, made in batches of prompts of similar length, which need little padding."""
        found: dict[int, str] = {}
        order = sorted(range(len(questions)), key=lambda number: len(questions[number].ids))
        for one in rounds(order, lines, self.world):
            self.check()
            texts = self._batch(model, [questions[number].ids for number in one.items])
            found.update(zip(one.items, texts, strict=True))
        everyones = self.world.merge(found)
        return tuple(everyones[number] for number in range(len(order)))

    def _batch(self, model: Any, prompts: list[list[int]]) -> list[str]:
        """Answers of one batch, padded on the left so that all prompts end at the same position."""
        from transformers import GenerationConfig, StoppingCriteriaList

        longest = max(map(len, prompts))
        ids = torch.full((len(prompts), longest), self.pad_token_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for line, prompt in enumerate(prompts):
            ids[line, longest - len(prompt) :] = torch.tensor(prompt)
            mask[line, longest - len(prompt) :] = 1
        output = model.generate(
            input_ids=ids.to(self.device),
            attention_mask=mask.to(self.device),
            # The last position as an index: as a slice it is not contiguous, and on a CPU torch then copies the
            # vocabulary projection once for each prompt (1 GB for 20 prompts of SmolLM2-135M).
            logits_to_keep=torch.tensor([-1], device=self.device),
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=self.max_new_tokens,
                eos_token_id=ends_of(self.eos_token_id, model.generation_config),
                pad_token_id=self.pad_token_id,
            ),
            synced_gpus=self.world.size > 1,
            stopping_criteria=StoppingCriteriaList([self._go_on]),
        )
        return self.decoder.decode_batch(output[:, longest:].tolist(), skip_special_tokens=True)

    def _go_on(self, ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        """A stopping criterion that ends no answer, only leaves the whole generation where `check` raises."""
        if self.world.size == 1:
            self.check()
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)


def longest_answer(references: list[str], decoder: Tokenizer, limit: int) -> int:
    """Tokens that an answer may have: a little more than the longest reference, at most `limit`."""
    lengths = [len(decoder.encode(reference, add_special_tokens=False).ids) for reference in references]
    return min(limit, max(lengths, default=0) + ANSWER_MARGIN)
