"""Data at size: tokens on disk, cached by content, in sequences and in an order that follow from the seed."""

from __future__ import annotations

import os
import signal
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spotune.data import statistics
from spotune.data.formats import FaultList, read_examples
from spotune.data.rows import Example, content_hash
from spotune.data.split import held_out
from spotune.data.tokens import RowTokenizer
from tests.training_container.building import chat, rows, sequences_of, write_rows
from training_container.corpus import Corpus, DataOrder, Loader, Row, Sequences, load_corpus, load_tokenizer, tokens_in
from training_container.corpus import cache as cache_module
from training_container.corpus import encoding as encoding_module
from training_container.corpus import overlap as overlap_module
from training_container.corpus import sequences as sequences_module
from training_container.device import Machine
from training_container.evaluation.evaluator import Evaluator
from training_container.faults import Stopped, TrainingFault
from training_container.folders import Folders
from training_container.inputs import read_inputs
from training_container.stop import StopRequest

pytestmark = pytest.mark.torch

Root = Callable[..., Path]
CPU = Machine(torch.device("cpu"), "cpu", "fp32")


def corpus_of(root: Path) -> Corpus:
    inputs = read_inputs(Folders(root))
    return load_corpus(inputs, load_tokenizer(inputs.model))


def content(corpus: Corpus) -> list[list[tuple[list[int], list[bool]]]]:
    return [
        [(row.ids.tolist(), row.trained.tolist()) for row in sequence]
        for sequence in [*corpus.training, *corpus.evaluation]
    ]


def stores(root: Path) -> list[Path]:
    return [path for path in (root / "cache" / "corpus").iterdir() if path.is_dir()]


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each block had that was encoded."""
    blocks: list[int] = []
    real = encoding_module._encode

    def counted(tokenizer: RowTokenizer, block: list[Example], *rest: Any) -> Any:
        blocks.append(len(block))
        return real(tokenizer, block, *rest)

    monkeypatch.setattr(encoding_module, "_encode", counted)
    return blocks


def test_rows_read_back_from_the_store_are_what_the_tokenizer_made_of_them(root: Root, model: Path) -> None:
    folder = root(data={"packing": False})
    tokenizer = load_tokenizer(model)
    path = next(Folders(folder).channel("training").iterdir())
    made = [tokenizer.encode(example, 128) for example in read_examples([path.read_bytes()], FaultList())]
    corpus = corpus_of(folder)
    assert sorted(content(corpus)) == sorted([[(row.ids, row.trained)] for row in made])
    assert corpus.trained_tokens == sum(int(row.trained.sum()) for (row,) in corpus.training)


def test_the_second_process_encodes_nothing_and_has_the_same_corpus(root: Root, encoded: list[int]) -> None:
    folder = root()
    first = corpus_of(folder)
    assert sum(encoded) == 30
    again = corpus_of(folder)
    assert sum(encoded) == 30
    assert content(again) == content(first)
    assert (again.examples, again.sha256, again.trained_tokens) == (first.examples, first.sha256, first.trained_tokens)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: write_rows(next(Folders(root).channel("training").iterdir()), rows(31)),
        lambda root: _edit(Folders(root).config, '"max_sequence_length": 128', '"max_sequence_length": 127'),
        lambda root: _edit(_own_model(root) / "chat_template.jinja", "<|im_end|>\n", "<|im_end|>"),
        lambda root: _edit(_own_model(root) / "tokenizer_config.json", "{", "{ "),
    ],
    ids=["data", "length", "template", "tokenizer"],
)
def test_whatever_the_tokens_depend_on_makes_the_cache_miss(
    root: Root, encoded: list[int], change: Callable[[Path], None]
) -> None:
    folder = root()
    corpus_of(folder)
    before = sum(encoded)
    change(folder)
    corpus_of(folder)
    assert sum(encoded) > before


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def _own_model(root: Path) -> Path:
    link = Folders(root).channel("model")
    shared = link.resolve()
    link.unlink()
    link.mkdir()
    for path in shared.iterdir():
        (link / path.name).write_bytes(path.read_bytes())
    return link


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "harm",
    [
        lambda store: _flip(store / "ids"),
        lambda store: _flip(store / "trained"),
        lambda store: os.truncate(store / "lengths", 4),
        lambda store: (store / "digests").unlink(),
        lambda store: (store / "index.json").write_text("{"),
        lambda store: (store / "index.json").unlink(),
    ],
    ids=["ids", "trained", "lengths", "digests", "index", "no-index"],
)
def test_a_damaged_cache_is_made_again(root: Root, encoded: list[int], harm: Callable[[Path], None]) -> None:
    folder = root()
    first = content(corpus_of(folder))
    (store,) = stores(folder)
    harm(store)
    assert content(corpus_of(folder)) == first
    assert sum(encoded) == 60
    assert content(corpus_of(folder)) == first
    assert sum(encoded) == 60


def test_a_file_with_faults_leaves_no_store_and_no_part_of_one(root: Root) -> None:
    folder = root()
    path = next(Folders(folder).channel("training").iterdir())
    path.write_text(path.read_text() + '{"messages": []}\n')
    with pytest.raises(TrainingFault, match="1 faults") as caught:
        corpus_of(folder)
    assert "line 31" in caught.value.evidence
    assert stores(folder) == []


def test_what_a_killed_process_left_of_a_store_is_replaced(root: Root) -> None:
    folder = root()
    first = content(corpus_of(folder))
    (store,) = stores(folder)
    store.rename(store.with_name(f".{store.name}.partial"))
    assert content(corpus_of(folder)) == first
    assert stores(folder) == [store]


def test_the_cache_is_where_it_is_asked_for_and_never_among_the_checkpoints(
    root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = root()
    monkeypatch.setenv("SPOTUNE_CACHE", str(tmp_path / "shared"))
    corpus_of(folder)
    assert len(list((tmp_path / "shared" / "corpus").glob("*/index.json"))) == 1
    assert not (folder / "cache").exists()
    assert not (folder / "checkpoints").exists()


def test_the_cache_keeps_the_files_that_were_asked_for_last(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "KEPT_STORES", 2)
    folder = root()
    path = next(Folders(folder).channel("training").iterdir())
    corpora = {}
    for count in (30, 31, 30, 32):
        write_rows(path, rows(count))
        corpora[count] = corpus_of(folder)
        for age, store in enumerate(sorted(stores(folder), key=lambda store: -store.stat().st_mtime)):
            os.utime(store, (1000 - age, 1000 - age))  # what is touched next is the newest, however coarse the clock
    assert len(stores(folder)) == 2
    assert len(list((folder / "cache" / "corpus").glob("*.lock"))) == 2
    assert content(corpora[31])  # a run that has it goes on
    blocks: list[int] = []
    real = encoding_module._encode
    monkeypatch.setattr(encoding_module, "_encode", lambda *given: (blocks.append(1), real(*given))[1])
    for count, made in ((32, 0), (30, 0), (31, 1)):
        write_rows(path, rows(count))
        corpus_of(folder)
        assert len(blocks) == made


def test_a_stop_request_while_tokenizing_is_heard_at_once_and_leaves_no_store(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "BATCH_ROWS", 2)
    folder, blocks = root(), []
    real = encoding_module._encode

    def asked_meanwhile(*given: Any) -> Any:
        blocks.append(1)
        if len(blocks) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*given)

    monkeypatch.setattr(encoding_module, "_encode", asked_meanwhile)
    before = signal.getsignal(signal.SIGTERM)
    stop = StopRequest()
    try:
        stop.listen()
        with pytest.raises(Stopped), stop.at_once():
            corpus_of(folder)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(blocks) < 6
    assert stores(folder) == []


def test_the_held_out_rows_are_those_that_the_rule_chooses(root: Root, model: Path) -> None:
    folder = root(data={"packing": False, "eval_fraction": 0.3})
    path = next(Folders(folder).channel("training").iterdir())
    tokenizer = load_tokenizer(model)
    examples = list(read_examples([path.read_bytes()], FaultList()))
    chosen = [example for example in examples if held_out(content_hash(example), 0.3, 11)]
    corpus = corpus_of(folder)
    assert [row.ids.tolist() for (row,) in corpus.evaluation] == [tokenizer.encode(one, 128).ids for one in chosen]
    assert list(corpus.examples) == chosen[:3]


def test_a_row_that_moves_between_the_files_makes_other_data(root: Root) -> None:
    digests = set()
    for name, cut in (("one", 10), ("other", 12)):
        folder = root(name)
        write_rows(next(Folders(folder).channel("training").iterdir()), rows(20)[:cut])
        _give_validation(folder, rows(20)[cut:])
        digests.add(corpus_of(folder).sha256)
    assert len(digests) == 2


@pytest.mark.parametrize(("learned", "held"), [(30, 5), (5, 30)])
def test_rows_that_are_learned_and_held_out_are_counted(
    root: Root, monkeypatch: pytest.MonkeyPatch, learned: int, held: int
) -> None:
    monkeypatch.setattr(overlap_module, "BLOCK_ROWS", 4)
    folder, made = root(), rows(60)
    write_rows(next(Folders(folder).channel("training").iterdir()), made[:learned])
    _give_validation(folder, [made[1], made[1], made[3], *made[30 : 30 + held]])
    (warning,) = [text for text in corpus_of(folder).warnings if "validation" in text]
    assert warning.startswith("2 rows of the validation file are also trained on")
    _give_validation(folder, made[30 : 30 + held])
    assert not any("validation" in text for text in corpus_of(folder).warnings)


def _give_validation(root: Path, given: list[dict[str, Any]]) -> None:
    channel = Folders(root).channel("validation")
    channel.mkdir(exist_ok=True)
    write_rows(channel / "rows.jsonl", given)


def test_windows_line_ends_and_a_last_line_without_one_change_nothing(root: Root) -> None:
    folder, other = root("one"), root("other")
    path = next(Folders(other).channel("training").iterdir())
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n").removesuffix(b"\r\n"))
    assert content(corpus_of(other)) == content(corpus_of(folder))


def test_a_row_far_longer_than_the_rest_is_cut_and_one_without_an_answer_left_is_named(root: Root) -> None:
    folder = root()
    giant = [chat("Say it.", "x" * 300_000), chat("y" * 300_000, "x")]
    write_rows(next(Folders(folder).channel("training").iterdir()), [*rows(30), *giant])
    corpus = corpus_of(folder)
    assert max(corpus.training.lengths.max(), corpus.evaluation.lengths.max()) == 128
    assert corpus.train_rows + corpus.eval_rows == 31
    assert len(corpus.warnings) == 1
    assert corpus.warnings[0].startswith("1 ")


def test_packing_in_windows_loses_and_repeats_no_row_and_fills_as_one_window_does(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, windows = root("whole"), root("windows")
    for folder in (whole, windows):
        write_rows(
            next(Folders(folder).channel("training").iterdir()), sorted(rows(300), key=lambda row: len(str(row)))
        )
    expected = corpus_of(whole)
    monkeypatch.setattr(sequences_module, "PACKED_AT_ONCE", 64)
    corpus = corpus_of(windows)

    def listed(part: Corpus) -> list[tuple[int, ...]]:
        return sorted(tuple(row.ids.tolist()) for sequence in part.training for row in sequence)

    assert listed(corpus) == listed(expected)
    assert max(corpus.training.lengths) <= 128
    assert len(corpus.training) <= 1.1 * len(expected.training)
    assert corpus.training.lengths.tolist() == [tokens_in(sequence) for sequence in corpus.training]


def test_no_step_from_the_file_to_the_last_batch_holds_the_tokens_of_the_whole_file(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks are made small, so that what is held of the file shows beside them. Measured for each token that is added:
    0.003 bytes, and 3.3 where only the held-out half was held."""
    monkeypatch.setattr(statistics, "BATCH_BYTES", 4_000)
    monkeypatch.setattr(encoding_module, "CHUNK_BYTES", 4_000)
    small, large = (traced_pass(root(str(count), data=UNCUT), count) for count in (30, 160))
    assert large.tokens - small.tokens > 200_000
    assert large.peak - small.peak < 0.2 * (large.tokens - small.tokens)


UNCUT = {"max_sequence_length": 8192, "eval_fraction": 0.5}


class Pass(NamedTuple):
    """Tokens that were trained on, and bytes that were in use at once."""

    tokens: int
    peak: int


def traced_pass(folder: Path, count: int) -> Pass:
    """Everything that happens to the data in a run of one epoch, but for what the model does with it."""
    content = (chat(f"What is {number}?", "a word or two " * 300) for number in range(count))
    write_rows(next(Folders(folder).channel("training").iterdir()), list(content))
    inputs = read_inputs(Folders(folder))
    tokenizer = load_tokenizer(inputs.model)
    tracemalloc.start()
    try:
        corpus = load_corpus(inputs, tokenizer)
        Evaluator.of(corpus, tokenizer, inputs.model, inputs.config, machine=CPU, lines=1, check=lambda: None)
        order = DataOrder(corpus.training, global_batch=2, epochs=1, seed=1, grouped=False)
        loader = Loader(order)
        tokens = sum(tokens_in(sequence) for step in range(order.total_steps) for sequence in loader.at(step))
        return Pass(tokens, tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


lengths_of_rows = st.lists(st.integers(1, 40), min_size=1, max_size=120)


@given(lengths=lengths_of_rows, batch=st.integers(1, 9), seed=st.integers(0, 5), grouped=st.booleans())
def test_an_epoch_takes_every_sequence_once_and_a_step_number_is_a_position(
    lengths: list[int], batch: int, seed: int, grouped: bool
) -> None:
    sequences = sequences_of((row_of(number, length),) for number, length in enumerate(lengths))
    order = DataOrder(sequences, global_batch=batch, epochs=2, seed=seed, grouped=grouped)
    taken = [order.at(step) for step in range(order.total_steps)]
    per_epoch = order.steps_per_epoch
    for epoch in (taken[:per_epoch], taken[per_epoch:]):
        assert sorted(first_id(sequence) for part in epoch for sequence in part) == list(range(len(lengths)))
        assert all(len(part) == batch for part in epoch[:-1])
    another = DataOrder(sequences, global_batch=batch, epochs=2, seed=seed, grouped=grouped)
    last = order.total_steps - 1
    assert list(map(first_id, another.at(last))) == list(map(first_id, taken[last]))


def test_the_loader_gives_what_the_order_says_ahead_or_not() -> None:
    sequences = sequences_of((row_of(number, 3),) for number in range(20))
    order = DataOrder(sequences, global_batch=3, epochs=2, seed=1, grouped=False)
    loader = Loader(order)
    for step in (0, 1, 2, 9, 10, 4, 4, 5, 13):
        assert list(map(first_id, loader.at(step))) == list(map(first_id, order.at(step)))


def test_a_token_file_that_cannot_be_read_any_more_fails_the_step_that_needs_it() -> None:
    def gone(number: int) -> Row:
        if number > 2:
            raise OSError("the disk is gone")
        return row_of(number, 3)

    order = DataOrder(
        Sequences(gone, np.arange(6), np.arange(7), np.full(6, 3)), global_batch=6, epochs=1, seed=1, grouped=False
    )
    with pytest.raises(OSError, match="gone"):
        Loader(order).at(0)


def row_of(number: int, length: int) -> Row:
    return Row(torch.full((length,), number, dtype=torch.int32), torch.ones(length, dtype=torch.bool))


def first_id(sequence: tuple[Row, ...]) -> int:
    return int(sequence[0].ids[0])


def test_batches_of_rows_that_are_not_packed_pad_little() -> None:
    lengths = np.random.default_rng(3).integers(1, 400, 1000).tolist()
    sequences = sequences_of((row_of(number, length),) for number, length in enumerate(lengths))

    def padding(grouped: bool) -> float:
        order = DataOrder(sequences, global_batch=8, epochs=1, seed=0, grouped=grouped)
        batches = [[tokens_in(sequence) for sequence in order.at(step)] for step in range(order.total_steps)]
        return 1 - sum(map(sum, batches)) / sum(len(batch) * max(batch) for batch in batches)

    assert padding(grouped=False) > 0.3
    assert padding(grouped=True) < 0.08


def test_a_file_shorter_than_a_batch_is_trained_on_and_named(root: Root) -> None:
    folder = root(data={"packing": False}, optimization={"global_batch_size": 64, "epochs": 1})
    corpus = corpus_of(folder)
    order = DataOrder(corpus.training, global_batch=64, epochs=1, seed=1, grouped=True)
    assert len(order.at(0)) == corpus.train_rows
    assert f"{corpus.train_rows} sequences are fewer than a batch of 64" in corpus.warnings[0]
