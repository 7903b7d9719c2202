"""Tiny models, datasets and /opt/ml folders, made on the spot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from spotune.contracts.training import CONFIG_VERSION, Failure, TrainingReport
from training_container.corpus import Sequence, Sequences, tokens_in
from training_container.folders import Folders
from training_container.stop import StopRequest

ROOT = Path(__file__).parents[2]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<|im_start|>", "<|im_end|>")
CONFIG: dict[str, Any] = {
    "version": CONFIG_VERSION,
    "job_id": "ftjob-1",
    "seed": 11,
    "model": {"name": "tiny/llama"},
    "method": "lora",
    "adapter": {"rank": 4, "alpha": 8, "dropout": 0.1, "target_modules": "all-linear"},
    "data": {"max_sequence_length": 128, "packing": True, "eval_fraction": 0.2},
    "optimization": {
        "epochs": 2,
        "global_batch_size": 2,
        "learning_rate": 0.01,
        "warmup_ratio": 0.1,
        "weight_decay": 0.0,
        "optimizer": "adamw",
    },
    "hardware": {"precision": "fp32", "micro_batch_size": 1, "gradient_checkpointing": False},
    "checkpoint": {"interval_seconds": 0},
    "limits": {"max_runtime_seconds": 3600, "publication_reserve_seconds": 5},
    "evaluation": {"generation_examples": 3, "max_new_tokens": 4},
}


def save_model(folder: Path, merges: tuple[tuple[str, str], ...] = ()) -> Path:
    """A random Llama of 2 layers with a tokenizer of bytes, and of merges where there are some, and a template."""
    torch.manual_seed(0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(left + right for left, right in merges)]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    shape = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": SPECIAL[1], "pad_token": SPECIAL[1]}))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def chat(question: str, answer: str) -> dict[str, Any]:
    """One row."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def rows(count: int) -> list[dict[str, Any]]:
    """Different rows of different lengths."""
    return [chat(f"What is {number}{' please' * (number % 4)}?", str(number % 7)) for number in range(count)]


def make_root(folder: Path, model: Path, count: int = 30, **groups: Any) -> Path:
    """A /opt/ml with `count` training rows. A dict changes fields of its config group, anything else replaces it."""
    root = Folders(folder)
    config = dict(CONFIG)
    for name, change in groups.items():
        config[name] = {**CONFIG.get(name, {}), **change} if isinstance(change, dict) else change
    root.config.parent.mkdir(parents=True)
    root.config.write_text(json.dumps(config))
    write_rows(root.channel("training") / "train.jsonl", rows(count))
    root.channel("model").symlink_to(model)
    return folder


def write_rows(path: Path, content: list[dict[str, Any]]) -> None:
    """A JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in content))


def start(root: Path) -> subprocess.Popen[str]:
    """The container's process, its stdout to be read."""
    environment = {**os.environ, "SPOTUNE_ML_ROOT": str(root), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "training_container"]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=root
    )


def wait_for_step(process: subprocess.Popen[str], step: int) -> None:
    """Read stdout until this step is logged."""
    assert process.stdout is not None
    for line in process.stdout:
        if '"train_loss"' in line and json.loads(line)["step"] >= step:
            return
    raise AssertionError(f"the container ended before step {step}")


def report_of(root: Path) -> TrainingReport:
    """What was published."""
    return TrainingReport.model_validate_json((Folders(root).model / "report.json").read_bytes())


def failure_of(root: Path) -> Failure:
    """Why it failed."""
    return Failure.model_validate_json(Folders(root).failure.read_bytes())


def sequences_of(groups: Iterable[Sequence]) -> Sequences:
    """Sequences of rows that are in memory."""
    listed = list(groups)
    rows = [row for group in listed for row in group]
    lengths = np.array([tokens_in(group) for group in listed])
    return Sequences(rows.__getitem__, np.arange(len(rows)), np.cumsum([0, *map(len, listed)]), lengths)


class StopAfter(StopRequest):
    """Asks to stop at the n-th look."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def check(self) -> None:
        self.looks -= 1
        if self.looks <= 0:
            self.ask()
        super().check()
