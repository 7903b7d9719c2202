"""The corpus of a run. Everything in it follows from files, config and seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import compress, islice, takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spotune.contracts.training import TrainingConfig
from spotune.data.formats import FaultList, read_examples
from spotune.data.rows import Example
from spotune.data.split import held_out
from spotune.data.tokens import RowTokenizer
from training_container.corpus.cache import cache_folder, cache_key, cached
from training_container.corpus.encoding import ROWS, chunks, encode_file
from training_container.corpus.overlap import overlap
from training_container.corpus.sequences import Numbers, Sequences, one_each, packed
from training_container.corpus.store import TokenStore
from training_container.corpus.tokenizer import tokenizer_files
from training_container.faults import TrainingFault
from training_container.inputs import Inputs

MAX_CHOICE_ROWS = 500
"""Held-out rows that are scored by their choices; more of them would only narrow the interval."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """The rows to train on and to be held out, packed, with the held-out examples for generation.

    Tokens stay on disk until a step takes them.
    """

    training: Sequences
    evaluation: Sequences
    examples: tuple[Example, ...]
    """Held-out examples that have a prompt and an answer, in file order, as many as are generated."""
    choices: tuple[Example, ...]
    """Held-out examples that have choices, in file order, as many as are scored by them."""
    train_rows: int
    eval_rows: int
    trained_tokens: int
    """Tokens with loss in one epoch."""
    sha256: str
    """Of the training file; where there is a validation file, of both files' own."""
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Side:
    """The rows of one file that are trained on, or that are held out.

    Shapes: `chosen` (rows of the file,).
    """

    path: Path
    store: TokenStore
    chosen: NDArray[np.bool_]
    together: int
    """Rows of an example."""

    @property
    def rows(self) -> Numbers:
        """Numbers of the rows of examples of which every row carries loss."""
        whole = (self.chosen & (self.store.lengths > 0)).reshape(-1, self.together).all(axis=1)
        return np.flatnonzero(np.repeat(whole, self.together))

    @property
    def examples(self) -> NDArray[np.bool_]:
        """Which examples of the file belong to it."""
        return self.chosen[:: self.together]


def load_corpus(inputs: Inputs, tokenizer: RowTokenizer) -> Corpus:
    """Read the channels, or their tokens from the cache; split and pack.

    Raises:
        TrainingFault: the files have faults, or nothing is left to train on or to hold out.
    """
    config = inputs.config
    training, evaluation = _sides(inputs, tokenizer)
    for side, kind in ((training, "trainable"), (evaluation, "held-out")):
        if not len(side.rows):
            raise _no_rows(kind, int(side.examples.sum()), config.data.max_sequence_length)
    sequences = _sequences(training, config)
    return Corpus(
        training=sequences,
        evaluation=_sequences(evaluation, config),
        examples=_to_generate(evaluation, config),
        choices=_to_choose(evaluation),
        train_rows=len(training.rows) // training.together,
        eval_rows=len(evaluation.rows) // evaluation.together,
        trained_tokens=int(training.store.targets[_learned(training, config)].sum()),
        sha256=_digest_of_both(inputs.training, inputs.validation),
        warnings=(*_short(len(sequences), config.optimization.global_batch_size), *_warnings(training, evaluation)),
    )


def _sides(inputs: Inputs, tokenizer: RowTokenizer) -> tuple[_Side, _Side]:
    """Training and held-out rows, from two files or by content hash from one."""
    store = _store(inputs.training, inputs, tokenizer)
    together = ROWS[inputs.config.objective.type]
    if inputs.validation is not None:
        other = _store(inputs.validation, inputs, tokenizer)
        everything = np.ones(len(store), np.bool_), np.ones(len(other), np.bool_)
        training = _Side(inputs.training, store, everything[0], together)
        return training, _Side(inputs.validation, other, everything[1], together)
    chosen = _held_out(store, inputs.config.data.eval_fraction, inputs.config.seed)
    return _Side(inputs.training, store, ~chosen, together), _Side(inputs.training, store, chosen, together)


def _store(path: Path, inputs: Inputs, tokenizer: RowTokenizer) -> TokenStore:
    """A file's tokens. What they depend on is in the cache's key, and nothing else."""
    config = inputs.config
    settings = f"{config.data.max_sequence_length} {config.objective.type} {config.objective.loss_on}"
    key = cache_key(_digest(path).encode(), settings.encode(), *tokenizer_files(inputs.model))
    limit = config.data.max_sequence_length
    return cached(
        cache_folder(inputs.folders), key, lambda writer: encode_file(path, tokenizer, limit, config.objective, writer)
    )


def _held_out(store: TokenStore, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which rows are held out; at least one content where there are two."""
    chosen = np.fromiter((held_out(digest, fraction, seed) for digest in store.digests()), np.bool_, len(store))
    if chosen.any() and not chosen.all():
        return chosen
    # A small file may fall on one side; then one content is held out.
    least = min(store.digests(), default=b"")
    return np.fromiter((digest == least for digest in store.digests()), np.bool_, len(store))


def _sequences(side: _Side, config: TrainingConfig) -> Sequences:
    if not config.data.packing or side.together > 1:
        return one_each(side.store, side.rows, side.together)
    return packed(side.store, side.rows, config.data.max_sequence_length, config.seed)


def _learned(side: _Side, config: TrainingConfig) -> Numbers:
    """Rows that gradients come from: of a labelled answer's two the first."""
    return side.rows[:: side.together] if config.objective.type == "kto" else side.rows


def _to_generate(side: _Side, config: TrainingConfig) -> tuple[Example, ...]:
    """The first held-out examples that ask something; plain text does not. No more of the file is read than that."""
    examples = read_examples(chunks(side.path), FaultList())
    asking = takewhile(lambda example: example.format != "text", examples)  # a file has one format
    return tuple(islice(compress(asking, side.examples), config.evaluation.generation_examples))


def _to_choose(side: _Side) -> tuple[Example, ...]:
    """The first held-out examples that have choices; the file is not read where it has none."""
    if not side.store.has_choices:
        return ()
    held = compress(read_examples(chunks(side.path), FaultList()), side.examples)
    return tuple(islice((example for example in held if example.choices), MAX_CHOICE_ROWS))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for chunk in chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def _digest_of_both(training: Path, validation: Path | None) -> str:
    """Of one file its own, of two that of both's: a row that moves from one to the other changes it."""
    if validation is None:
        return _digest(training)
    return hashlib.sha256(f"{_digest(training)} {_digest(validation)}".encode()).hexdigest()


def _short(sequences: int, batch: int) -> tuple[str, ...]:
    if sequences >= batch:
        return ()
    return (f"{sequences} sequences are fewer than a batch of {batch}: each step takes all of them.",)


def _warnings(training: _Side, evaluation: _Side) -> tuple[str, ...]:
    dropped = (("training", _dropped(training)), ("held-out", _dropped(evaluation)))
    reason = "carry no loss after truncation and were left out."
    left_out = tuple(f"{count} {kind} rows {reason}" for kind, count in dropped if count)
    return (*left_out, *_leaked(training, evaluation))


def _leaked(training: _Side, evaluation: _Side) -> tuple[str, ...]:
    """What was learned cannot be held out. Sides of one file have nothing in common."""
    if training.store is evaluation.store or not (count := overlap(training.store, evaluation.store)):
        return ()
    what = "rows" if training.together == 1 else "prompts"
    return (f"{count} {what} of the validation file are also trained on: its scores are better than new data's.",)


def _dropped(side: _Side) -> int:
    return int(side.examples.sum()) - len(side.rows) // side.together


def _no_rows(kind: str, read: int, limit: int) -> TrainingFault:
    return TrainingFault(
        "no_trainable_rows" if kind == "trainable" else "no_held_out_rows",
        f"None of {read} rows is left as a {kind} row.",
        evidence=f"rows are cut at {limit} tokens; a row needs a token of the assistant's within them",
        remedy="Raise training.max_sequence_length, check that rows end with an assistant turn, or give more rows.",
    )
