"""What a checkpoint keeps of its run, and what must be equal for another run to go on from it.

The container asks before it resumes; the service asks before it plans a retry. Both ask `differences`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from spotune.contracts.base import Contract, Fraction
from spotune.contracts.training import Manifest, TrainingConfig

STATE_NAME = "state.json"
BASE_SCORES_NAME = "base_scores.json"
CHAMPION_SCORES_NAME = "champion_scores.json"
REFERENCE_NAME = "reference.safetensors"
"""What the base model gives to each row of a preference objective."""
HISTORY_NAME = "history.json"
CHECKPOINT_PREFIX = "checkpoint-"
SHARD_MARK = ".rank-"
"""In the names of a checkpoint's files that are one process's own part; hosts carry theirs to S3 independently."""

RESUME_FIELDS = frozenset(
    {"version", "seed", "model", "method", "adapter", "quantization", "objective", "data", "optimization", "champion"}
)
"""Of the container's config, those that decide what is learnt. Machine, limits, intervals and evaluation may change."""

WRITES_APART = 3
"""Checkpoints are to lie as far apart as so many writes take: closer together, training would wait for the disk."""
MOST_STRETCH = 2.5
"""Of the interval asked for. Less than what a checkpoint that never arrives is known by (lifecycle/diagnosis.py)."""


class RunState(Contract):
    """Where a run is. Together with weights and optimizer it is all that a resume needs: the order of the data and
    the dropout of a step follow from seed and step."""

    step: int = 0
    tokens_seen: int = 0
    train_seconds: float = 0.0
    evaluated_step: int = -1
    """The last step whose held-out loss is known; -1 for none."""
    eval_loss: float | None = None
    """At `evaluated_step`."""
    best_step: int | None = None
    """Where the lowest held-out loss so far was; None before the first evaluation."""
    evaluations_without_gain: int = 0
    """Since then."""
    train_loss: float | None = None
    peak_memory_bytes: int = 0
    micro_batch: int = 0
    """That fitted into the memory of `micro_batch_on`; 0 where it is not known."""
    micro_batch_on: str = ""
    """The machine's device, by name."""
    loss_scale: dict[str, float] = {}
    """Of fp16's gradient scaler; empty in other precisions."""


class Identity(Contract):
    """What a resume must agree with: `RESUME_FIELDS` of the config, and the bytes of the data."""

    config: dict[str, Any]
    data_sha256: str

    @classmethod
    def of(cls, config: TrainingConfig, data_sha256: str) -> Identity:
        """The identity of a run. A champion that it does not start from, and how many rows of its data are the
        champion's, change nothing of what is learnt."""
        if config.champion is not None:
            start = config.champion if config.champion.start else None
            config = config.with_(champion=start and start.with_(replayed_rows=None))
        return cls(config=config.model_dump(mode="json", include=set(RESUME_FIELDS)), data_sha256=data_sha256)

    @property
    def sha256(self) -> str:
        """Of the canonical JSON; the manifest's `config_sha256`."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()


class StateFile(Contract):
    """`state.json`."""

    identity: Identity
    base: str = ""
    """Fingerprint of the base model's weights, which the container alone knows; empty where it was not taken."""
    state: RunState


class Resumption(Contract):
    """What a retry takes over from the job before it."""

    job_id: str
    """The job whose checkpoint it is, or would have been."""
    step: int = 0
    """That training goes on from; 0: it starts from the beginning."""
    total_steps: int = 0
    """0 where the earlier job had not said."""
    best_step: int | None = None
    """The best checkpoint so far, which comes along."""
    differences: tuple[str, ...] = ()
    """Fields for whose sake the checkpoint does not serve, each as `field: old -> new`."""
    message: str
    """The same in words."""

    @property
    def used(self) -> bool:
        """True where a checkpoint is gone on from."""
        return self.step > 0

    @property
    def done(self) -> Fraction:
        """Share of the optimizer steps that need not be taken again, as far as that is known."""
        return min(self.step / self.total_steps, 1.0) if self.total_steps else 0.0


@dataclass(frozen=True, slots=True)
class WholeCheckpoint:
    """A checkpoint in S3 whose files are all there, as long as its manifest says. The container alone reads all."""

    manifest: Manifest
    state: RunState


def stretched(interval: float, write: float) -> float:
    """Seconds between checkpoints where a disk takes `write` seconds for one: `interval`, or what the disk allows.

    The container saves by it, and the planner knows by it what its choice comes to.
    """
    return min(max(interval, WRITES_APART * write), MOST_STRETCH * interval)


def differences(written: Identity, wanted: Identity) -> tuple[str, ...]:
    """What keeps a run from going on from a checkpoint, each as `field: old -> new`; nothing where it may.

    Args:
        written: the checkpoint's. One of an earlier version may hold further fields, which do not count.
        wanted: the run's.
    """
    old, new = ({name: one.config.get(name) for name in RESUME_FIELDS} for one in (written, wanted))
    data = _leaves(written.data_sha256, wanted.data_sha256, "data_sha256")
    return (*_leaves(old, new, ""), *data)


def newest_whole(newest_first: Iterable[RunState], there: Callable[[int], bool]) -> RunState | None:
    """The checkpoint to go on from: the newest whose best one before it is there, too.

    A sync that was cut off can leave a checkpoint without the best one before it, which would be published in the end;
    going on from an earlier one makes that best one again. Where there is no earlier one, work counts more.
    """
    newest = None
    for state in newest_first:
        if state.best_step is None or there(state.best_step):
            return state
        newest = newest or state
    return newest


def needed_folders(manifests: Mapping[str, Manifest], newest: int) -> frozenset[str]:
    """Of whole checkpoints, by folder: those that a resume needs, which are the newest and the best."""
    by_step = sorted(manifests, key=lambda name: manifests[name].step)
    best = best_of(manifests)
    return frozenset(by_step[-newest:]) | ({best} if best is not None else frozenset())


def best_of(manifests: Mapping[str, Manifest]) -> str | None:
    """The folder with the lowest held-out loss, of equals the earliest; None where none was evaluated."""
    losses = {name: (loss, one.step) for name, one in manifests.items() if (loss := one.eval_loss) is not None}
    return min(losses, key=lambda name: losses[name], default=None)


def superseded(steps: Iterable[int], whole: Mapping[int, WholeCheckpoint], newest: int) -> tuple[int, ...]:
    """Which steps' folders no run of a job has a use for, oldest first; none that is newer than the newest whole one.

    The `newest` newest whole ones stay, the best, and what a resume would go on from. A run that went on from an
    earlier checkpoint, for a later one did not verify, makes lower steps again: the last that were made stay, too.
    Those that the states of all these name as the best stay, on their way or not.

    Args:
        steps: of all the folders that are there, whole or not.
        whole: the checkpoints whose files are all there, by step.
    """
    by_step = [whole[step] for step in sorted(whole)]
    made_last = sorted(by_step, key=lambda one: one.manifest.created_at)[-newest:]
    resumed = newest_whole((one.state for one in reversed(by_step)), whole.__contains__)
    last = (one.state for one in (*by_step[-newest:], *made_last))
    states = [*last, *([] if resumed is None else [resumed])]
    kept = {int(name) for name in needed_folders({str(step): one.manifest for step, one in whole.items()}, newest)}
    kept.update(step for state in states for step in (state.step, state.best_step) if step is not None)
    return tuple(step for step in sorted(steps) if step not in kept and step < max(whole, default=0))


def _leaves(old: object, new: object, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from _leaves(old.get(name), new.get(name), f"{path}.{name}".strip("."))
    elif old != new:
        yield f"{path}: {old!r} -> {new!r}"
