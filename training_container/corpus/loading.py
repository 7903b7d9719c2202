"""From files to token sequences: read, render, split, pack. Everything here follows from files, config and seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from spotune.contracts.training import DataConfig, TrainingConfig
from spotune.data.formats import FaultList, read_examples
from spotune.data.packing import pack
from spotune.data.rows import Example, content_hash
from spotune.data.split import held_out
from spotune.data.tokens import RowTokenizer
from training_container.corpus.rows import Row, Sequence
from training_container.faults import TrainingFault
from training_container.inputs import Inputs

CHUNK_BYTES = 1 << 20
TOKENIZED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Corpus:
    """The rows to train on and to be held out, packed, with the held-out examples for generation."""

    training: tuple[Sequence, ...]
    evaluation: tuple[Sequence, ...]
    examples: tuple[Example, ...]
    """Held-out examples that have a prompt and an answer, in file order, as many as are generated."""
    train_rows: int
    eval_rows: int
    sha256: str
    """Of the training file, and of the validation file if there is one."""
    warnings: tuple[str, ...]

    @property
    def trained_tokens(self) -> int:
        """Tokens with loss in one epoch."""
        return sum(int(row.trained.sum()) for sequence in self.training for row in sequence)


def load_corpus(inputs: Inputs, tokenizer: RowTokenizer) -> Corpus:
    """Read the channels, split, tokenize and pack.

    Raises:
        TrainingFault: the files have faults, or nothing is left to train on or to hold out.
    """
    config = inputs.config
    training, evaluation = _split(inputs)
    limit = config.data.max_sequence_length
    train_rows = _tokenize(training, tokenizer, limit)
    eval_rows = _tokenize(evaluation, tokenizer, limit)
    if not train_rows:
        raise _no_rows("trainable", len(training), limit)
    if not eval_rows:
        raise _no_rows("held-out", len(evaluation), limit)
    return Corpus(
        training=_packed(train_rows, config.data),
        evaluation=_packed(eval_rows, config.data),
        examples=_to_generate(evaluation, config),
        train_rows=len(train_rows),
        eval_rows=len(eval_rows),
        sha256=_digest(inputs),
        warnings=_warnings(len(training) - len(train_rows), len(evaluation) - len(eval_rows)),
    )


def _split(inputs: Inputs) -> tuple[list[Example], list[Example]]:
    """Training and held-out examples, from two files or by content hash from one."""
    examples = _read(inputs.training)
    if inputs.validation is not None:
        return examples, _read(inputs.validation)
    fraction, seed = inputs.config.data.eval_fraction, inputs.config.seed
    hashes = [content_hash(example) for example in examples]
    chosen = {digest for digest in hashes if held_out(digest, fraction, seed)}
    if len(chosen) in (0, len(set(hashes))):  # a small file may fall on one side; then one content is held out
        chosen = {min(hashes)} if hashes else set()
    pairs = list(zip(examples, hashes, strict=True))
    kept = [example for example, digest in pairs if digest not in chosen]
    return kept, [example for example, digest in pairs if digest in chosen]


def _read(path: Path) -> list[Example]:
    faults = FaultList()
    examples = list(read_examples(_chunks(path), faults))
    if faults.count:
        first = "; ".join(f"line {fault.line}, {fault.field}: {fault.message}" for fault in faults.faults[:3])
        raise TrainingFault(
            "dataset_faults",
            f"{path.name} has {faults.count} faults.",
            evidence=first,
            remedy="Correct the lines named in the evidence; `spotune data check` lists them all.",
        )
    return examples


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _tokenize(examples: list[Example], tokenizer: RowTokenizer, limit: int) -> list[Row]:
    """Rows that carry loss after truncation; the others teach nothing."""
    rows = []
    for start in range(0, len(examples), TOKENIZED_AT_ONCE):
        rendered = [tokenizer.render(example) for example in examples[start : start + TOKENIZED_AT_ONCE]]
        for encoded in tokenizer.encode_rendered(rendered, limit):
            trained = torch.tensor(encoded.trained, dtype=torch.bool)
            trained[:1] = False  # nothing precedes the first token, so nothing can predict it
            if trained.any():
                rows.append(Row(torch.tensor(encoded.ids, dtype=torch.int32), trained))
    return rows


def _packed(rows: list[Row], config: DataConfig) -> tuple[Sequence, ...]:
    if not config.packing:
        return tuple((row,) for row in rows)
    groups = pack([len(row) for row in rows], config.max_sequence_length)
    return tuple(tuple(rows[index] for index in group) for group in groups)


def _to_generate(examples: list[Example], config: TrainingConfig) -> tuple[Example, ...]:
    """The first held-out examples that ask something; plain text does not."""
    asking = [example for example in examples if example.format != "text"]
    return tuple(asking[: config.evaluation.generation_examples])


def _digest(inputs: Inputs) -> str:
    digest = hashlib.sha256()
    for path in (inputs.training, inputs.validation):
        if path is not None:
            for chunk in _chunks(path):
                digest.update(chunk)
    return digest.hexdigest()


def _warnings(training: int, evaluation: int) -> tuple[str, ...]:
    dropped = (("training", training), ("held-out", evaluation))
    reason = "carry no loss after truncation and were left out."
    return tuple(f"{count} {kind} rows {reason}" for kind, count in dropped if count)


def _no_rows(kind: str, read: int, limit: int) -> TrainingFault:
    return TrainingFault(
        "no_trainable_rows" if kind == "trainable" else "no_held_out_rows",
        f"None of {read} rows is left as a {kind} row.",
        evidence=f"rows are cut at {limit} tokens; a row needs a token of the assistant's within them",
        remedy="Raise training.max_sequence_length, check that rows end with an assistant turn, or give more rows.",
    )
