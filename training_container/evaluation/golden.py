"""Golden prompts: read from their channel, asked as every model is, and judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spotune.contracts.scores import GoldenAnswer
from spotune.data.faults import FaultList
from spotune.data.golden import GoldenPrompt, read_golden
from spotune.data.tokens import RowTokenizer
from training_container.corpus.encoding import chunks
from training_container.evaluation.questions import Question, questions_of
from training_container.faults import TrainingFault


def load_golden(path: Path) -> tuple[GoldenPrompt, ...]:
    """The prompts of the channel.

    Raises:
        TrainingFault: lines have faults; the first are named.
    """
    faults = FaultList()
    prompts = tuple(read_golden(chunks(path), faults))
    if faults.count:
        raise TrainingFault(
            "golden_faults",
            f"The golden prompts have {faults.count} faults.",
            evidence="; ".join(f"line {fault.line}, {fault.field}: {fault.message}" for fault in faults.faults[:3]),
            remedy="Correct the lines named in the evidence.",
        )
    return prompts


def golden_questions(
    prompts: tuple[GoldenPrompt, ...], tokenizer: RowTokenizer, new_tokens: int, positions: int | None
) -> tuple[Question, ...]:
    """The prompts in tokens; `positions` is how many the model has, None for as many as there are.

    Raises:
        TrainingFault: one is so long that it cannot be answered.
    """
    questions = questions_of((prompt.example for prompt in prompts), tokenizer)
    for prompt, question in zip(prompts, questions, strict=True):
        needed = len(question.ids) + new_tokens
        if positions is not None and needed > positions:
            raise TrainingFault(
                "golden_prompt_too_long",
                f"The golden prompt in line {prompt.line} and its answer need {needed} tokens.",
                evidence=f"the base model has {positions} positions; an answer may have {new_tokens} tokens",
                remedy="Shorten the prompt.",
            )
    return questions


def judged(
    prompts: tuple[GoldenPrompt, ...],
    questions: tuple[Question, ...],
    *,
    base: Sequence[str] | None,
    champion: Sequence[str] | None,
    tuned: Sequence[str] | None,
) -> tuple[GoldenAnswer, ...]:
    """Each prompt with every model's answer to it; nothing where the base or the tuned model has not answered all."""
    if base is None or tuned is None:
        return ()
    return tuple(
        GoldenAnswer(
            line=prompt.line,
            prompt=questions[number].text,
            expected=prompt.wanted,
            base=base[number],
            tuned=tuned[number],
            champion=None if champion is None else champion[number],
            base_met=prompt.met(base[number]),
            tuned_met=prompt.met(tuned[number]),
            champion_met=None if champion is None else prompt.met(champion[number]),
        )
        for number, prompt in enumerate(prompts)
    )
