"""What a model is worth on the held-out rows, alone, against its base, and for each slice of the rows."""

from __future__ import annotations

from typing import Literal

from spotune.contracts.base import Contract, Fraction

Metric = Literal[
    "eval_loss",
    "exact_match",
    "rouge_l",
    "json_valid",
    "json_keys",
    "multiple_choice",
    "preference_accuracy",
    "preference_margin",
]

METRIC_NAMES: dict[Metric, str] = {
    "eval_loss": "loss",
    "exact_match": "exact match",
    "rouge_l": "ROUGE-L",
    "json_valid": "valid JSON",
    "json_keys": "the reference's keys",
    "multiple_choice": "multiple choice",
    "preference_accuracy": "preferred rightly",
    "preference_margin": "preference margin",
}
IN_NATS: frozenset[Metric] = frozenset({"eval_loss", "preference_margin"})
"""The others are shares."""
LOWER_IS_BETTER: frozenset[Metric] = frozenset({"eval_loss"})


class Scores(Contract):
    """One model on the held-out rows. A share is None where no row was scored by it."""

    eval_loss: float
    """The objective's mean loss; of a supervised one, cross-entropy in nats over the rows' trained tokens."""
    perplexity: float | None
    """None where the loss is no cross-entropy."""
    exact_match: Fraction | None = None
    """Share of `generated_rows` whose answer equals the reference after trimming; None where none was generated."""
    rouge_l: Fraction | None = None
    """Mean ROUGE-L F-measure of the same answers."""
    json_valid: Fraction | None = None
    """Of the answers whose reference is a JSON object or array, the share that is one, too."""
    json_keys: Fraction | None = None
    """Of the same, the share that has the reference's keys at every depth."""
    multiple_choice: Fraction | None = None
    """Of the rows with `choices`, the share whose own answer is the likeliest of them."""
    preference_accuracy: Fraction | None = None
    """Of preferences, the share whose preferred answer is the likelier one. Under KTO, of labelled answers the share
    that became likelier than for the base model where good, less likely where bad."""
    preference_margin: float | None = None
    """Mean of what the preferred answer is ahead by, in nats (under ORPO, nats a token). Under DPO, beta times what the
    tuned model gained over the base is the reward margin."""


class Comparison(Contract):
    """One metric of the tuned model against another, on the same rows."""

    metric: Metric
    rows: int
    base: float
    """Of the other model: the base, or the champion."""
    tuned: float
    difference: float
    """`tuned` - `base`: below 0 is better for the loss, above 0 for the others."""
    low: float
    high: float
    """95 % interval of the difference by paired bootstrap over the rows."""

    @property
    def sure(self) -> bool:
        """True where the interval leaves 0 out."""
        return self.low > 0 or self.high < 0

    @property
    def worse(self) -> bool:
        """True where the tuned model is worse for sure: the whole interval lies on the worse side of 0."""
        return self.low > 0 if self.metric in LOWER_IS_BETTER else self.high < 0


class SliceScores(Contract):
    """The rows that carry this `slice`."""

    name: str
    rows: int
    comparisons: tuple[Comparison, ...]
    against_champion: tuple[Comparison, ...] = ()


class Forgotten(Contract):
    """What the tuned model does worse, for sure, than the model that its training began from."""

    slice: str = ""
    """Of the held-out rows; empty for all of them."""
    comparison: Comparison
    """`base` is what training began from."""


class GoldenAnswer(Contract):
    """One golden prompt, answered by each model, and whether each answer is what was expected. A job's record has the
    beginning of each text; the report in S3 has all of it."""

    line: int
    prompt: str
    expected: str
    base: str
    tuned: str
    champion: str | None = None
    base_met: bool
    tuned_met: bool
    champion_met: bool | None = None
