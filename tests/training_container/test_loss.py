"""The loss: exact under packing, equal weight for every token, nothing but the assistant's tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import LlamaForCausalLM

from spotune.contracts.training import ExitCode
from tests.training_container.building import chat, sequences_of, write_rows
from training_container.corpus import (
    Corpus,
    DataOrder,
    Row,
    collate,
    load_corpus,
    load_tokenizer,
    split,
    targets_in,
    tokens_in,
)
from training_container.folders import Folders
from training_container.inputs import read_inputs
from training_container.objectives.supervised import loss_sum

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def llama(model: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(model, dtype=torch.float32)


def row(*ids: int, trained: int) -> Row:
    """A row whose last `trained` tokens carry loss."""
    flags = torch.zeros(len(ids), dtype=torch.bool)
    flags[len(ids) - trained :] = True
    return Row(torch.tensor(ids, dtype=torch.int32), flags)


ROWS = (row(5, 6, 7, 8, 9, trained=2), row(9, 8, 7, trained=1), row(40, 41, 42, 43, trained=3))


def plain_loss(llama: LlamaForCausalLM, one: Row) -> torch.Tensor:
    """The loss of one row, written down directly: all logits, shifted by one."""
    logits = llama(input_ids=one.ids.long()[None]).logits[0, :-1]
    return functional.cross_entropy(logits[one.trained[1:]], one.ids.long()[1:][one.trained[1:]], reduction="sum")


def test_rows_packed_side_by_side_have_the_loss_that_each_has_alone(llama: LlamaForCausalLM) -> None:
    alone = sum(plain_loss(llama, one) for one in ROWS)
    packed = loss_sum(llama, collate([ROWS], pad=0))
    padded = loss_sum(llama, collate([(one,) for one in ROWS], pad=0))
    assert torch.allclose(packed, alone, rtol=1e-5)
    assert torch.allclose(padded, alone, rtol=1e-5)


def test_a_row_does_not_see_its_neighbours_in_the_pack(llama: LlamaForCausalLM) -> None:
    def logits(first: Row) -> torch.Tensor:
        batch = collate([(first, ROWS[1])], pad=0)
        output = llama(input_ids=batch.ids, position_ids=batch.positions, attention_mask=None, use_cache=False)
        return output.logits[0, len(first) :]

    changed = row(100, 101, 102, 103, 104, trained=2)
    assert torch.equal(logits(ROWS[0]), logits(changed))


def test_gradients_of_accumulated_micro_batches_equal_those_of_the_large_batch(llama: LlamaForCausalLM) -> None:
    sequences = [(ROWS[0], ROWS[1]), (ROWS[2],), (ROWS[1],)]

    def gradient(size: int) -> torch.Tensor:
        llama.zero_grad()
        for part in split(sequences, size):
            (loss_sum(llama, collate(part, pad=0)) / targets_in(sequences)).backward()
        return llama.lm_head.weight.grad.clone()

    assert torch.allclose(gradient(1), gradient(3), atol=1e-6)
    assert torch.allclose(gradient(2), gradient(3), atol=1e-6)


def test_padding_with_the_end_token_does_not_train_it_or_forget_it(llama: LlamaForCausalLM) -> None:
    ends = row(5, 6, 257, trained=1)
    batch = collate([(ends,), (ROWS[0],)], pad=257)
    assert batch.targets.tolist() == [257, 8, 9]


def corpus_of(root: Path) -> Corpus:
    inputs = read_inputs(Folders(root))
    return load_corpus(inputs, load_tokenizer(inputs.model))


def test_only_the_assistants_tokens_and_their_end_carry_loss(root: Callable[..., Path], model: Path) -> None:
    folder = root(data={"packing": False})
    write_rows(folder / "input/data/training/train.jsonl", [chat("Question?", "Answer!")])
    write_rows(folder / "input/data/validation/heldout.jsonl", [chat("Other?", "No.")])
    ((one,),) = corpus_of(folder).training
    tokenizer = load_tokenizer(model)
    text = bytes_of(tokenizer, one.ids[one.trained].tolist())
    assert text == "Answer!<|im_end|>"


def bytes_of(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer._tokenizer.decode(ids, skip_special_tokens=False)


def test_held_out_rows_and_their_duplicates_are_never_trained_on(root: Callable[..., Path]) -> None:
    folder = root(data={"packing": False, "eval_fraction": 0.3})
    content = [chat(f"Question {number % 20}?", str(number % 20)) for number in range(60)]
    write_rows(folder / "input/data/training/train.jsonl", content)
    corpus = corpus_of(folder)
    trained = {tuple(one.ids.tolist()) for (one,) in corpus.training}
    held_out = {tuple(one.ids.tolist()) for (one,) in corpus.evaluation}
    assert trained
    assert held_out
    assert trained.isdisjoint(held_out)
    assert corpus.train_rows + corpus.eval_rows == 60


def test_two_different_rows_are_enough_for_one_on_each_side(root: Callable[..., Path]) -> None:
    folder = root(data={"eval_fraction": 0.01})
    write_rows(folder / "input/data/training/train.jsonl", [chat("One?", "1"), chat("Two?", "2"), chat("One?", "1")])
    corpus = corpus_of(folder)
    assert corpus.train_rows + corpus.eval_rows == 3
    assert corpus.train_rows
    assert corpus.eval_rows


def test_every_epoch_takes_every_sequence_once_in_an_order_of_its_own() -> None:
    sequences = sequences_of((row(number, number, trained=1),) for number in range(7))
    order = DataOrder(sequences, global_batch=3, epochs=2, seed=1, grouped=False)
    assert (order.steps_per_epoch, order.total_steps) == (3, 6)
    taken = [[int(sequence[0].ids[0]) for sequence in order.at(step)] for step in range(6)]
    epochs = [[number for step in steps for number in step] for steps in (taken[:3], taken[3:])]
    assert [sorted(epoch) for epoch in epochs] == [list(range(7))] * 2
    assert epochs[0] != epochs[1]
    again = DataOrder(sequences, global_batch=3, epochs=2, seed=1, grouped=False)
    assert [int(sequence[0].ids[0]) for sequence in again.at(4)] == taken[4]


def test_tokens_are_counted_without_padding() -> None:
    assert tokens_in(ROWS) == 12
    assert targets_in([ROWS]) == 6


def test_the_projection_runs_at_trained_positions_only(llama: LlamaForCausalLM) -> None:
    seen: list[int] = []
    hook = llama.lm_head.register_forward_hook(lambda module, given, output: seen.append(output.shape[1]))
    loss_sum(llama, collate([ROWS], pad=0))
    hook.remove()
    assert seen == [6]


def test_training_in_micro_batches_gives_the_same_losses_as_the_whole_batch(
    root: Callable[..., Path], train: Callable[..., ExitCode], capsys: pytest.CaptureFixture[str]
) -> None:
    logs = []
    for size in (1, 4):
        change = {"adapter": {"dropout": 0.0}, "optimization": {"global_batch_size": 4}}
        train(root(f"micro-{size}", hardware={"micro_batch_size": size}, **change))
        lines = [line for line in capsys.readouterr().out.splitlines() if "train_loss" in line]
        logs.append([float(line.split('"train_loss": ')[1].split(",")[0]) for line in lines])
    assert logs[0] == pytest.approx(logs[1], abs=2e-5)
