"""Our trainer against TRL's SFTTrainer: tokens a second, start-up and memory.

    make bench-trainer                 with 1,200 rows of GSM8K
    make bench-trainer FILE=rows.jsonl with rows of your own: {"question": ..., "answer": ...}

The same model (SmolLM2-135M-Instruct), rows, LoRA on all linear layers, precision (bf16 where the machine has it,
weights too), AdamW, gradient checkpointing (none), and about the same tokens an optimizer step. The loss is on the same
tokens: each answer and its end. SmolLM2's template writes a line break behind that end, which TRL would train and we
would not, so both are given a template that leaves the last one out; that the whole file then has as many tokens, and
as many with loss, for each of them is checked. TRL runs as people run it, with rows padded to the longest of its
default batch of 8, and with its packing, in micro-batches of as many tokens as ours.

Every run is a process of its own, killed after some steps; runs alternate, so that what else the machine does falls on
all alike. What is compared is the median over rounds of the ratio within a round.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.report import Figure, finish
from spotune.contracts.training import CONFIG_VERSION
from training_container.folders import Folders
from training_container.inputs import read_inputs

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "bench-trainer"
ROWS = Path(__file__).parent / "data" / "gsm8k.jsonl"

ROUNDS = 2
STEPS = 5
"""Optimizer steps of a run. The first belongs to the start-up; the others are timed."""
LENGTH = 512
PACKED_BATCH = 7
"""Packed sequences a step: about as many tokens as 16 rows of GSM8K have."""
PADDED_BATCH = 16
TRL_PADDED_MICRO_BATCH = 8
"""TRL's own default."""
PADDED_BAR = 1.5
"""How many times as fast as TRL without packing."""
RANK, ALPHA, RATE = 16, 32, 1e-4
HELD_OUT = 8
"""Rows that our trainer scores the base model on before its first step; TRL scores nothing."""

VARIANTS = ("ours", "trl", "trl-packing")
LINE_BREAKS = (
    ("'<|im_end|>' + '\n'", "'<|im_end|>' + ('' if loop.last else '\n')"),
    ("{{ '<|im_start|>assistant", "{{ '\n<|im_start|>assistant"),
)
"""In the model's template: none behind the last message, and it goes to the generation prompt."""


@dataclass(frozen=True)
class Run:
    """What one process did. Tokens and seconds are those of the steps after the first."""

    start_seconds: float
    """From the process's start to the end of its first step."""
    seconds: float
    useful: int
    trained: int
    peak_bytes: int
    whole_file: tuple[int, int]
    """Tokens of all training rows, and those with loss, as this trainer counts them."""

    @property
    def speed(self) -> float:
        """Useful tokens a second: padding does not count."""
        return self.useful / self.seconds

    @property
    def trained_speed(self) -> float:
        """Tokens with loss a second."""
        return self.trained / self.seconds

    def __str__(self) -> str:
        first = f"first step after {self.start_seconds:.1f} s, peak {self.peak_bytes / 1e6:.0f} MB"
        return f"{first}, {self.speed:.0f} useful and {self.trained_speed:.0f} trained tokens/s"


def main() -> None:
    """Measure, print and check the bars; or be one of the processes that are measured."""
    if sys.argv[1:2] == ["--trl"]:
        train_with_trl(Path(sys.argv[2]), Path(sys.argv[3]), packing=sys.argv[4] == "trl-packing")
        return
    rows = Path(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    model = WORK / "model"
    subprocess.run([sys.executable, "-m", "training_container.base_model", "--out", model], check=True, cwd=ROOT)
    leave_out_last_line_break(model / "chat_template.jinja")
    chats = WORK / "train.jsonl"
    chats.write_text("".join(json.dumps(_chat(json.loads(line))) + "\n" for line in rows.read_text().splitlines()))
    rounds = []
    for number in range(ROUNDS):
        order = [*VARIANTS[number % 3 :], *VARIANTS[: number % 3]]
        rounds.append({variant: measure(variant, model, chats) for variant in order})
        check_same_tokens(rounds[-1])
    finish("trainer", figures(rounds))


def leave_out_last_line_break(template: Path) -> None:
    """Change the template in its file, unless it is changed already."""
    text = template.read_text()
    for old, new in LINE_BREAKS:
        if new not in text:
            if text.count(old) != 1:
                raise SystemExit(f"{template} is not the template that this benchmark knows: no {old!r} in it")
            text = text.replace(old, new)
    template.write_text(text)


def check_same_tokens(runs: dict[str, Run]) -> None:
    """The same rows have as many tokens, and as many with loss, for every trainer."""
    counts = {variant: run.whole_file for variant, run in runs.items()}
    if len(set(counts.values())) > 1:
        raise SystemExit(f"the trainers do not train the same tokens of the file (all, with loss): {counts}")


def measure(variant: str, model: Path, chats: Path) -> Run:
    """One process, from its start to its last step."""
    scratch = WORK / "run"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(scratch / "datasets")}
    command = [sys.executable, "-m", "benchmarks.trainer", "--trl", str(model), str(chats), variant]
    if variant == "ours":
        command = [sys.executable, "-m", "training_container"]
        environment["SPOTUNE_ML_ROOT"] = str(make_root(scratch / "ml", model, chats))
    began = time.perf_counter()
    with (scratch / "errors").open("w") as errors:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT)
        steps = list(islice(_steps(process, began), STEPS))
        whole_file = None if variant == "ours" else _whole_file(process)
        process.kill()
        _, _, usage = os.wait4(process.pid, 0)
    if len(steps) < STEPS:
        raise SystemExit(f"{variant} ended after {len(steps)} steps:\n{(scratch / 'errors').read_text()[-3000:]}")
    counts = [step[1:] for step in steps]
    if whole_file is None:
        counts, whole_file = our_counts(Folders(scratch / "ml"))
    run = Run(
        start_seconds=steps[0][0],
        seconds=steps[-1][0] - steps[0][0],
        useful=sum(useful for useful, _ in counts[1:]),
        trained=sum(trained for _, trained in counts[1:]),
        peak_bytes=usage.ru_maxrss * 1024,
        whole_file=whole_file,
    )
    print(f"{variant}: {run}", flush=True)
    return run


def make_root(root: Path, model: Path, chats: Path) -> Path:
    """The folder that our trainer's process works in."""
    config = {
        "version": CONFIG_VERSION,
        "job_id": "bench",
        "seed": 1,
        "model": {"name": "base"},
        "method": "lora",
        "adapter": {"rank": RANK, "alpha": ALPHA, "dropout": 0.0, "target_modules": "all-linear"},
        "data": {"max_sequence_length": LENGTH, "packing": True, "eval_fraction": 0.1},
        "optimization": {
            "epochs": 1,
            "global_batch_size": PACKED_BATCH,
            "learning_rate": RATE,
            "warmup_ratio": 0.0,
            "weight_decay": 0.0,
            "optimizer": "adamw",
        },
        "hardware": {"micro_batch_size": PACKED_BATCH, "gradient_checkpointing": False},
        "checkpoint": {"interval_seconds": 3600},
        "limits": {"max_runtime_seconds": 36000, "publication_reserve_seconds": 60},
    }
    folders = Folders(root)
    folders.config.parent.mkdir(parents=True)
    folders.config.write_text(json.dumps(config))
    for channel in ("training", "validation"):
        folders.channel(channel).mkdir()
    shutil.copy(chats, folders.channel("training") / "train.jsonl")
    lines = chats.read_text().splitlines(keepends=True)[:HELD_OUT]
    (folders.channel("validation") / "heldout.jsonl").write_text("".join(lines))
    folders.channel("model").symlink_to(model)
    return root


def our_counts(folders: Folders) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Useful and trained tokens of each step of our run and of the whole file, which follow from its files."""
    from training_container.corpus import DataOrder, load_corpus, load_tokenizer, targets_in, tokens_in

    inputs = read_inputs(folders)
    config = inputs.config
    corpus = load_corpus(inputs, load_tokenizer(inputs.model))
    order = DataOrder(
        corpus.training,
        global_batch=config.optimization.global_batch_size,
        epochs=config.optimization.epochs,
        seed=config.seed,
        grouped=not config.data.packing,
    )
    batches = [order.at(step) for step in range(STEPS)]
    steps = [(sum(map(tokens_in, batch)), targets_in(batch)) for batch in batches]
    return steps, (int(corpus.training.lengths.sum()), corpus.trained_tokens)


def train_with_trl(model: Path, chats: Path, *, packing: bool) -> None:
    """TRL's trainer on the same rows; prints each step's tokens. Runs in a process of its own."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from spotune.contracts.training import HardwareConfig
    from training_container.device import find_machine

    class Counting(SFTTrainer):
        counted = [0, 0]

        def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **options: Any) -> Any:
            mask = inputs.get("attention_mask")
            self.counted[0] += int(inputs["input_ids"].numel() if mask is None else mask.sum())
            self.counted[1] += int((inputs["labels"] != -100).sum())
            return super().compute_loss(model, inputs, *args, **options)

    class Printing(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            print(json.dumps({"bench": trainer.counted}), flush=True)
            trainer.counted = [0, 0]

    machine = find_machine(HardwareConfig(micro_batch_size=1, gradient_checkpointing=False))
    rows = [json.loads(line)["messages"] for line in chats.read_text().splitlines()]
    ours = machine.micro_batch(PACKED_BATCH, LENGTH)
    micro_batch, batch = (ours, PACKED_BATCH) if packing else (TRL_PADDED_MICRO_BATCH, PADDED_BATCH)
    trainer = Counting(
        model=str(model),
        train_dataset=Dataset.from_list([{"prompt": row[:-1], "completion": row[-1:]} for row in rows]),
        peft_config=LoraConfig(
            r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        callbacks=[Printing()],
        args=SFTConfig(
            output_dir=str(chats.parent / "run" / "trl"),
            max_length=LENGTH,
            packing=packing,
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=batch // micro_batch,
            gradient_checkpointing=False,
            learning_rate=RATE,
            max_steps=STEPS,
            bf16=machine.precision == "bf16",
            use_cpu=machine.device.type == "cpu",
            model_init_kwargs={"dtype": str(machine.dtype).removeprefix("torch.")},
            save_strategy="no",
            report_to="none",
            seed=1,
        ),
    )
    trainer.train()
    labels = [label for row in trainer.train_dataset["labels"] for label in row]
    print(json.dumps({"whole_file": [len(labels), sum(label != -100 for label in labels)]}), flush=True)


def figures(rounds: list[dict[str, Run]]) -> list[Figure]:
    """Medians of each variant, and our ratios to TRL's, each below its bar."""

    def median(value: Callable[[dict[str, Run]], float]) -> float:
        return statistics.median(map(value, rounds))

    found = []
    for variant in VARIANTS:
        for name, unit, value in (
            ("useful tokens", "1/s", lambda run: run.speed),
            ("trained tokens", "1/s", lambda run: run.trained_speed),
            ("useful tokens a step", "", lambda run: run.useful / (STEPS - 1)),
            ("start to first step", "s", lambda run: run.start_seconds),
            ("peak memory", "MB", lambda run: run.peak_bytes / 1e6),
        ):
            found.append(Figure(f"{variant}: {name}", median(lambda one, f=value, v=variant: f(one[v])), unit))
    for other, bar in (("trl", 1 / PADDED_BAR), ("trl-packing", 1.0)):
        for name, limit, ratio in (
            ("time a useful token", bar, lambda ours, theirs: theirs.speed / ours.speed),
            ("time a trained token", bar, lambda ours, theirs: theirs.trained_speed / ours.trained_speed),
            ("start to first step", 1.0, lambda ours, theirs: ours.start_seconds / theirs.start_seconds),
            ("peak memory", 1.0, lambda ours, theirs: ours.peak_bytes / theirs.peak_bytes),
        ):
            value = median(lambda one, f=ratio, o=other: f(one["ours"], one[o]))
            found.append(Figure(f"ours / {other}: {name}", value, "", limit))
    return found


def _chat(row: dict[str, str]) -> dict[str, object]:
    turns = (("user", row["question"]), ("assistant", row["answer"]))
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def _steps(process: subprocess.Popen[str], began: float) -> Iterator[tuple[float, int, int]]:
    """For each step that the process prints: when it ended, and its tokens where the process counts them."""
    assert process.stdout is not None
    for line in process.stdout:
        if "train_loss" in line and "learning_rate" in line:
            yield time.perf_counter() - began, 0, 0
        elif line.startswith('{"bench"'):
            useful, trained = json.loads(line)["bench"]
            yield time.perf_counter() - began, useful, trained


def _whole_file(process: subprocess.Popen[str]) -> tuple[int, int]:
    """What a process of TRL's prints at its end."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith('{"whole_file"'):
            tokens, trained = json.loads(line)["whole_file"]
            return tokens, trained
    return 0, 0


if __name__ == "__main__":
    main()
