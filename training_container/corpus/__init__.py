"""From the channels' files to batches: read, render, split, pack, shuffle."""

from training_container.corpus.batches import Batch, collate, split
from training_container.corpus.loader import Loader
from training_container.corpus.loading import Corpus, load_corpus
from training_container.corpus.order import DataOrder
from training_container.corpus.rows import Row, Sequence, targets_in, tokens_in
from training_container.corpus.sequences import Sequences
from training_container.corpus.tokenizer import load_tokenizer

__all__ = [
    "Batch",
    "Corpus",
    "DataOrder",
    "Loader",
    "Row",
    "Sequence",
    "Sequences",
    "collate",
    "load_corpus",
    "load_tokenizer",
    "split",
    "targets_in",
    "tokens_in",
]
