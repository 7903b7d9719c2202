"""Preference objectives: TRL's own losses, whatever the micro-batch, from the base model that they started from."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from spotune.contracts.checkpoint import REFERENCE_NAME
from spotune.contracts.training import ExitCode, ObjectiveConfig
from spotune.data.rows import Example, Message
from tests.training_container.building import StopAfter, report_of, start, write_rows
from training_container.corpus import Row, Sequence, load_corpus, load_tokenizer, split
from training_container.faults import Stopped, TrainingFault
from training_container.folders import Folders
from training_container.inputs import read_inputs
from training_container.objectives import Preference, objective_of
from training_container.objectives.coverage import check_targets
from training_container.objectives.judged import judged, row_logps
from training_container.objectives.supervised import Supervised

pytestmark = pytest.mark.torch

BETA = 0.3
PAD = 257
PAIRS = [([5, 6, 7], [8, 9, 257], [10, 257]), ([40, 41], [42, 257], [43, 44, 45, 257]), ([70], [71, 72], [73, 257])]
"""Prompt, preferred answer, rejected one."""
LABELLED = [([5, 6, 7], [8, 9, 257], True), ([40, 41], [42, 257], False), ([70], [71, 72], True)]
Root = Callable[..., Path]
Train = Callable[..., ExitCode]


@pytest.fixture(scope="module")
def base(model: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(model, dtype=torch.float32).eval()


@pytest.fixture
def moved(base: LlamaForCausalLM) -> LlamaForCausalLM:
    """A model that is no longer the base."""
    found = copy.deepcopy(base)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return found


def row(base: LlamaForCausalLM, prompt: list[int], answer: list[int], desirable: bool = True) -> Row:
    """A row with the loss on its answer and the base model's log-probability of it."""
    trained = torch.tensor([False] * len(prompt) + [True] * len(answer))
    made = Row(torch.tensor(prompt + answer, dtype=torch.int32), trained, desirable=desirable)
    with torch.no_grad():
        return replace(made, reference=float(row_logps(base, judged([made], PAD))))


def pairs(base: LlamaForCausalLM) -> list[Sequence]:
    return [(row(base, prompt, chosen), row(base, prompt, rejected)) for prompt, chosen, rejected in PAIRS]


def answers(base: LlamaForCausalLM) -> list[Sequence]:
    """Labelled rows, mismatched as TRL does it: with the answer of the row before."""
    before = [LABELLED[-1], *LABELLED[:-1]]
    return [
        (row(base, prompt, answer, label), row(base, prompt, other[1], label))
        for (prompt, answer, label), other in zip(LABELLED, before, strict=True)
    ]


def objective(name: Any) -> Preference:
    made = objective_of(ObjectiveConfig(type=name, beta=BETA))
    assert not isinstance(made, Supervised)
    return made


def mean_loss(model: Any, name: str, sequences: list[Sequence], size: int = 3) -> torch.Tensor:
    """Accumulated over micro-batches of this size."""
    ours = objective(name)

    def batches() -> Any:
        return ((ours.collate(part, PAD), True) for part in split(sequences, size))

    totals = ours.totals(model, sequences, batches)
    loss = torch.zeros(())
    for batch, _ in batches():
        share = ours.loss(model, batch, totals)
        if model.training:
            share.backward()
        loss = loss + share.detach()
    return loss


def of_trl(name: str, tmp_path: Path, model: Any, base: Any, folder: Path) -> Any:
    """TRL's whole trainer on a copy of the model."""
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    settings: dict[str, Any] = {"output_dir": str(tmp_path), "beta": BETA, "report_to": "none", "use_cpu": True}
    settings |= {"bf16": False, "gradient_checkpointing": False, "per_device_train_batch_size": 3}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    column = {"prompt": ["ab", "c", "d"]}
    given: dict[str, Any] = {"model": copy.deepcopy(model), "processing_class": tokenizer}
    if name == "kto":
        column |= {"completion": ["x", "y", "z"], "label": [True, False, True]}  # type: ignore[dict-item]
        given |= {"ref_model": copy.deepcopy(base), "train_dataset": Dataset.from_dict(column)}
        return KTOTrainer(args=KTOConfig(**settings), **given)
    column |= {"chosen": ["x", "y", "z"], "rejected": ["u", "v", "w"]}
    given |= {"train_dataset": Dataset.from_dict(column)}
    if name == "orpo":
        return ORPOTrainer(args=ORPOConfig(**settings), **given)
    return DPOTrainer(args=DPOConfig(**settings), ref_model=copy.deepcopy(base), **given)


def trl_batch(name: str, trainer: Any) -> Any:
    """The same rows, collated by TRL; ORPO's collator makes its own names, which are written here."""
    if name == "kto":
        rows = [{"prompt_ids": prompt, "completion_ids": answer, "label": label} for prompt, answer, label in LABELLED]
        for index, one in enumerate(rows):
            one["KL_completion_ids"] = LABELLED[index - 1][1]
        return trainer.data_collator(rows)
    if name == "dpo":
        names = ("prompt_ids", "chosen_ids", "rejected_ids")
        return trainer.data_collator([dict(zip(names, pair, strict=True)) for pair in PAIRS])
    batch = {}
    for side, place in (("chosen", 1), ("rejected", 2)):
        lines = [(pair[0], pair[place]) for pair in PAIRS]
        longest = max(len(prompt + answer) for prompt, answer in lines)
        padded = [(prompt, answer, longest - len(prompt + answer)) for prompt, answer in lines]
        batch[f"{side}_input_ids"] = torch.tensor([a + b + [PAD] * left for a, b, left in padded])
        batch[f"{side}_attention_mask"] = torch.tensor([[1] * len(a + b) + [0] * left for a, b, left in padded])
        batch[f"{side}_labels"] = torch.tensor([[-100] * len(a) + b + [-100] * left for a, b, left in padded])
    return batch


@pytest.mark.parametrize("name", ["dpo", "orpo", "kto"])
def test_the_loss_is_that_of_trls_own_trainer(
    name: str, tmp_path: Path, base: LlamaForCausalLM, moved: LlamaForCausalLM, model: Path
) -> None:
    trainer = of_trl(name, tmp_path, moved, base, model)
    trainer.model.eval()
    with torch.no_grad():
        theirs = trainer.compute_loss(trainer.model, trl_batch(name, trainer))
        ours = mean_loss(moved, name, answers(base) if name == "kto" else pairs(base))
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)
    assert abs(float(ours) - {"dpo": 0.6931, "orpo": 0.0, "kto": 0.5}[name]) > 1e-3  # the models do differ


@pytest.mark.parametrize("name", ["dpo", "orpo", "kto"])
def test_accumulated_gradients_are_those_of_the_large_batch(
    name: str, base: LlamaForCausalLM, moved: LlamaForCausalLM
) -> None:
    sequences = answers(base) if name == "kto" else pairs(base)
    moved.train()
    found = []
    for size in (1, 2, 3):
        moved.zero_grad()
        loss = mean_loss(moved, name, sequences, size)
        found.append((loss, moved.model.layers[0].mlp.up_proj.weight.grad.clone()))
    for loss, gradient in found[:2]:
        assert torch.allclose(loss, found[2][0], atol=1e-6)
        assert torch.allclose(gradient, found[2][1], atol=1e-6)
        assert gradient.abs().max() > 1e-5


def test_a_base_model_is_its_own_reference(base: LlamaForCausalLM) -> None:
    with torch.no_grad():
        assert float(mean_loss(base, "dpo", pairs(base))) == pytest.approx(0.693147, abs=1e-6)
        assert float(mean_loss(base, "kto", answers(base))) == pytest.approx(0.5, abs=1e-6)


def test_margins_say_which_answer_is_the_likelier(base: LlamaForCausalLM, moved: LlamaForCausalLM) -> None:
    ours, sequences = objective("dpo"), pairs(base)
    batch = ours.collate(sequences, PAD)
    with torch.no_grad():
        _, margins = ours.measured(moved, batch, torch.tensor([3.0]))
        alone = [[float(row_logps(moved, judged([side], PAD))) for side in pair] for pair in sequences]
    assert margins.tolist() == pytest.approx([chosen - rejected for chosen, rejected in alone], abs=1e-5)


def test_a_row_that_the_base_model_was_not_asked_about_trains_nothing(base: LlamaForCausalLM) -> None:
    unknown = tuple(replace(side, reference=float("nan")) for side in pairs(base)[0])
    for name in ("dpo", "kto"):
        with pytest.raises(RuntimeError, match="no reference"):
            objective(name).collate([unknown], PAD)
    assert objective("orpo").collate([unknown], PAD)


@pytest.mark.parametrize("damage", ["padding", "next_row", "other_token"])
def test_a_target_that_is_padding_or_of_another_row_is_a_fault(base: LlamaForCausalLM, damage: str) -> None:
    batch = judged([side for pair in pairs(base) for side in pair], PAD).batch
    assert check_targets(batch) is batch
    kept, chosen, targets, positions = (
        getattr(batch, name).clone() for name in ("kept", "chosen", "targets", "positions")
    )
    if damage == "other_token":
        targets[0] += 1
    elif damage == "next_row":
        positions[:, 2:] -= 2
    else:
        chosen[-1, -1] = True
        targets = torch.cat([targets, torch.tensor([PAD])])
    with pytest.raises(TrainingFault) as fault:
        check_targets(replace(batch, kept=kept, chosen=chosen, targets=targets, positions=positions))
    assert fault.value.code == "loss_mask_broken"


PREFERENCES = [{"prompt": f"Row {number}", "chosen": " yes", "rejected": " no"} for number in range(24)]
JUDGED = [
    {"prompt": f"Row {number}", "completion": (" yes", " no")[number % 2], "label": number % 2 == 0}
    for number in range(24)
]


def make(root: Root, name: str, folder: str = "ml", **change: Any) -> Path:
    settings: dict[str, Any] = {
        "objective": {"type": name},
        "data": {"packing": False},
        "evaluation": {"generation_examples": 0},
        "optimization": {"epochs": 3, "learning_rate": 0.01, "global_batch_size": 4},
    }
    made = root(folder, **(settings | change))
    write_rows(made / "input/data/training/train.jsonl", JUDGED if name == "kto" else PREFERENCES)
    return made


FULL: dict[str, Any] = {"method": "full", "adapter": None}
METHODS: dict[str, dict[str, Any]] = {
    "full": FULL,
    "freeze": {"method": "freeze", "adapter": {"trained_layers": 1}},
    "qlora": {"method": "qlora", "quantization": "nf4"},
    "prefix": {"method": "prefix", "adapter": {"virtual_tokens": 4}},
}


@pytest.mark.proves
@pytest.mark.parametrize(
    ("objective", "method", "quantization"),
    [
        ("dpo", "lora", "none"),
        ("dpo", "full", "none"),
        ("dpo", "freeze", "none"),
        ("dpo", "qlora", "nf4"),
        ("dpo", "pissa", "none"),
        ("dpo", "bottleneck", "none"),
        ("dpo", "prefix", "none"),
        ("orpo", "lora", "none"),
        ("orpo", "full", "none"),
        ("kto", "lora", "none"),
        ("kto", "full", "none"),
    ],
)
def test_a_run_raises_the_margin_and_says_so(
    root: Root, train: Train, objective: str, method: str, quantization: str
) -> None:
    name, rate = objective, 0.05 if method == "prefix" else 0.01
    optimization = {"epochs": 3, "learning_rate": rate, "global_batch_size": 4}
    folder = make(root, name, optimization=optimization, **METHODS.get(method, {"method": method}))
    assert train(folder) == ExitCode.PUBLISHED
    report = report_of(folder)
    assert report.tuned.eval_loss < report.base.eval_loss
    assert report.tuned.preference_margin is not None
    assert report.base.preference_margin is not None
    assert report.tuned.preference_margin > report.base.preference_margin + 0.1
    assert report.tuned.preference_accuracy is not None
    assert report.base.perplexity is None
    if name == "dpo":
        assert report.base.eval_loss == pytest.approx(0.693147, abs=1e-4)
    assert (Folders(folder).checkpoints / REFERENCE_NAME).exists() == (name != "orpo")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    [file] = Folders(folder).model.glob("*.safetensors")
    return load_file(file)


@pytest.mark.parametrize(("name", "change"), [("dpo", FULL), ("kto", {})])
def test_a_run_stopped_while_asking_training_or_evaluating_resumes_bit_for_bit(
    root: Root, train: Train, name: str, change: dict[str, Any]
) -> None:
    whole = make(root, name, "whole", **change)
    train(whole)
    cut = make(root, name, "cut", **change)
    ends = []
    for looks in (2, 40, 60):
        try:
            ends.append(train(cut, stop=StopAfter(looks)))
        except Stopped:
            ends.append(ExitCode.STOPPED)
    assert ends[0] == ExitCode.STOPPED
    train(cut)
    expected, found = weights(whole), weights(cut)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[tensor], found[tensor]) for tensor in expected)


def test_a_damaged_reference_is_asked_for_again(root: Root, train: Train) -> None:
    folder = make(root, "dpo", "damaged")
    assert train(folder, stop=StopAfter(40)) == ExitCode.STOPPED
    file = Folders(folder).checkpoints / REFERENCE_NAME
    known = bytearray(file.read_bytes())
    known[-3] ^= 0xFF
    file.write_bytes(known)
    assert train(folder) == ExitCode.PUBLISHED
    whole = make(root, "dpo", "whole")
    train(whole)
    assert all(torch.equal(tensor, weights(folder)[name]) for name, tensor in weights(whole).items())


def test_rows_of_another_objective_are_refused(root: Root) -> None:
    folder = make(root, "kto")
    write_rows(folder / "input/data/training/train.jsonl", PREFERENCES)
    inputs = read_inputs(Folders(folder))
    with pytest.raises(TrainingFault, match="1 faults") as fault:
        load_corpus(inputs, load_tokenizer(inputs.model))
    assert "kto learns from labelled" in fault.value.evidence


def test_a_pair_of_which_one_side_is_cut_away_is_left_out_whole(root: Root) -> None:
    folder = make(root, "dpo", data={"packing": False, "max_sequence_length": 16})
    long = {"prompt": "a prompt of more than sixteen tokens", "chosen": " yes", "rejected": " no"}
    write_rows(folder / "input/data/training/train.jsonl", [*PREFERENCES, long, long])
    inputs = read_inputs(Folders(folder))
    corpus = load_corpus(inputs, load_tokenizer(inputs.model))
    assert corpus.train_rows + corpus.eval_rows == len(PREFERENCES)
    assert all(len(corpus.training[number]) == 2 for number in range(corpus.train_rows))
    assert any("left out" in warning for warning in corpus.warnings)


def test_only_what_loss_on_says_is_learned(root: Root, model: Path) -> None:
    turns = ["a", "One", "b", "Two"]
    roles = ("user", "assistant") * 2
    chats = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=True)]
    tokenizer = load_tokenizer(model)
    learned = {}
    for loss_on in ("assistant", "last_turn", "all"):
        folder = root(loss_on, data={"packing": False}, objective={"loss_on": loss_on})
        write_rows(folder / "input/data/training/train.jsonl", [{"messages": chats}])
        write_rows(folder / "input/data/validation/heldout.jsonl", [{"messages": chats}])
        inputs = read_inputs(Folders(folder))
        ((one,),) = load_corpus(inputs, tokenizer).training
        learned[loss_on] = tokenizer.decode(one.ids[one.trained].tolist())
    assert learned["assistant"] == "One<|im_end|>Two<|im_end|>"
    assert learned["last_turn"] == "Two<|im_end|>"
    whole = tokenizer.render(Example(1, "chat", tuple(Message(r, t) for r, t in zip(roles, turns, strict=True)))).text
    assert learned["all"] == whole.removeprefix("<|im_start|>").rstrip()


@pytest.mark.proves(objective="kto", sharding="ddp")
def test_two_processes_train_the_weights_of_one_though_shares_are_uneven(
    root: Root, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    change: dict[str, Any] = {
        "adapter": {"dropout": 0.0},
        "optimization": {"epochs": 1, "learning_rate": 0.01, "global_batch_size": 3},
    }
    alone = make(root, "kto", "alone", **change)
    assert train(alone) == ExitCode.PUBLISHED
    spread = make(root, "kto", "spread", hardware={"sharding": "ddp"}, **change)
    monkeypatch.setenv("SPOTUNE_PROCESSES_PER_HOST", "2")
    assert start(spread).wait(300) == ExitCode.PUBLISHED
    expected, found = weights(alone), weights(spread)
    assert all(torch.allclose(expected[name], found[name], atol=1e-5) for name in expected)
    assert report_of(spread).tuned.preference_margin == pytest.approx(
        report_of(alone).tuned.preference_margin, abs=1e-4
    )
