"""The recipe of a run, top to bottom: load, score the base, train, score the tuned, publish."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from spotune.contracts.base import Contract
from spotune.contracts.checkpoint import BASE_SCORES_NAME, Identity
from spotune.contracts.training import ExitCode, SampleAnswer, TrainingReport
from training_container.checkpoints import Checkpoints
from training_container.corpus import Corpus, load_corpus, load_tokenizer
from training_container.device import Machine, find_machine
from training_container.evaluation.comparison import Measurement, by_slice, compare, scores
from training_container.evaluation.evaluator import Evaluator
from training_container.faults import Stopped
from training_container.folders import read_if_whole, replace_file
from training_container.inputs import Inputs
from training_container.loading import load_base
from training_container.methods import adapt, base_of
from training_container.model import count_parameters
from training_container.progress import Clock, Reporter
from training_container.publication import publish, versions
from training_container.stop import StopRequest
from training_container.trackers.trackers import Trackers
from training_container.trainer import EarlyEnd, Trainer
from training_container.watchdog import end_process

SAMPLES = 5
RESERVE_FACTOR = 1.25
"""Scoring the tuned model is expected to take at most this much longer than scoring the base did."""

PUBLICATION_SHARE = 0.5
"""Share of the publication reserve that writing the model keeps for itself."""


class _OutOfTime(Exception):
    """The tuned model's answers would take time that publication needs."""


class BaseScores(Contract):
    """`checkpoints/base_scores.json`: what the base model did on the held-out rows, so that it is measured once."""

    identity: str
    measured: Measurement
    seconds: float


@dataclass(slots=True)
class Run:
    """What the steps of the recipe share."""

    inputs: Inputs
    machine: Machine
    corpus: Corpus
    model: Any
    evaluator: Evaluator
    checkpoints: Checkpoints
    reporter: Reporter
    trackers: Trackers
    stop: StopRequest
    identity: Identity
    clock: Clock


def run(inputs: Inputs, stop: StopRequest, *, clock: Clock = time.monotonic, started: float | None = None) -> ExitCode:
    """Carry a training job out; returns how the process should end. `started` is when it began, by the clock.

    Raises:
        TrainingFault: it cannot be carried out.
    """
    with Trackers.of(inputs.config, inputs.folders) as trackers:
        reporter = Reporter(inputs.folders, clock, clock() if started is None else started, trackers.log)
        try:
            with stop.at_once():
                this = _prepare(inputs, stop, reporter, trackers, clock)
                base = _base_scores(this)
                trainer = _make_trainer(this, base.seconds)
            trackers.open(trainer.state.step)
            early = trainer.train()
            with stop.at_once():
                report = _finish(this, trainer, base, early)
        except Stopped:
            reporter.phase("stopped")
            return ExitCode.STOPPED
        trackers.publish(report)
        return ExitCode.PUBLISHED


def _prepare(inputs: Inputs, stop: StopRequest, reporter: Reporter, trackers: Trackers, clock: Clock) -> Run:
    """Load everything; the seed is set before the adapter's weights are drawn."""
    config = inputs.config
    machine = find_machine(config.hardware)
    tokenizer = load_tokenizer(inputs.model)
    corpus = load_corpus(inputs, tokenizer)
    identity = Identity.of(config, corpus.sha256)
    checkpoints = Checkpoints(inputs.folders.checkpoints, identity, job_id=config.job_id, keep=config.checkpoint.keep)
    checkpoints.check_identity()
    torch.manual_seed(config.seed)
    model = adapt(load_base(inputs.model, config, machine), config)
    evaluator = Evaluator.of(
        corpus,
        tokenizer,
        inputs.model,
        config,
        machine=machine,
        lines=machine.micro_batch(config.hardware.micro_batch_size, config.data.max_sequence_length),
        check=stop.check,
    )
    return Run(inputs, machine, corpus, model, evaluator, checkpoints, reporter, trackers, stop, identity, clock)


def _base_scores(this: Run) -> BaseScores:
    """The base model's scores, from an earlier attempt where there was one."""
    path = this.inputs.folders.checkpoints / BASE_SCORES_NAME
    identity = f"{this.identity.sha256} {this.inputs.config.evaluation.model_dump_json()}"
    known = read_if_whole(BaseScores, path)
    if known is not None and known.identity == identity:
        return known
    this.reporter.phase("evaluating_base")
    began = this.clock()
    with base_of(this.model):
        measured = this.evaluator.measure(this.model)
    made = BaseScores(identity=identity, measured=measured, seconds=this.clock() - began)
    replace_file(path, made.model_dump_json(indent=1).encode())
    return made


def _make_trainer(this: Run, scoring_seconds: float) -> Trainer:
    """A trainer that stands at the newest checkpoint, or at the beginning."""
    config = this.inputs.config
    trainer = Trainer(
        this.model,
        this.corpus,
        config,
        machine=this.machine,
        evaluator=this.evaluator,
        checkpoints=this.checkpoints,
        reporter=this.reporter,
        stop=this.stop,
        end=partial(end_process, folders=this.inputs.folders),
        reserve_seconds=max(config.limits.publication_reserve_seconds, RESERVE_FACTOR * scoring_seconds),
        clock=this.clock,
    )
    newest = this.checkpoints.newest()
    if newest is not None:
        trainer.resume(newest)
    this.reporter.resumed(trainer.state.step, trainer.state.train_seconds, this.checkpoints.skipped)
    this.reporter.phase("training", total_steps=trainer.order.total_steps)
    return trainer


def _finish(this: Run, trainer: Trainer, base: BaseScores, early: EarlyEnd | None) -> TrainingReport:
    """Score the best weights and publish them; returns what the report says."""
    this.reporter.phase("evaluating")
    best = this.checkpoints.best()
    if best is None:
        raise RuntimeError("no checkpoint was evaluated, so there is nothing to publish")
    if best.manifest.step != trainer.state.step:
        trainer.load_weights(best)
    tuned = _measure_in_time(this, trainer.measured(best.manifest.step) or this.evaluator.measure_loss(this.model))
    this.stop.check()
    this.reporter.phase("publishing")
    report = _report(this, trainer, base.measured, tuned).with_(best_step=best.manifest.step, stopped_early=early)
    publish(this.model, this.inputs.folders.model, base=this.inputs.model, config=this.inputs.config, report=report)
    this.reporter.phase("done")
    return report


def _measure_in_time(this: Run, measured: Measurement) -> Measurement:
    """With answers and choices, but for what the time limit leaves out: publication matters more than a score."""
    limits = this.inputs.config.limits
    latest = limits.max_runtime_seconds - PUBLICATION_SHARE * limits.publication_reserve_seconds

    def check() -> None:
        this.stop.check()
        if this.reporter.elapsed > latest:
            raise _OutOfTime

    hurried = this.evaluator.checking(check)
    try:
        measured = measured.with_(choices=hurried.choose(this.model))
        return measured.with_(answers=hurried.answers(this.model))
    except _OutOfTime:
        return measured


def _report(this: Run, trainer: Trainer, base: Measurement, tuned: Measurement) -> TrainingReport:
    config, corpus, state, history = this.inputs.config, this.corpus, trainer.state, this.reporter.history
    trainable, total = count_parameters(this.model)
    samples = [
        SampleAnswer(prompt=asked.text, reference=asked.reference, base=before, tuned=after)
        for asked, before, after in zip(this.evaluator.questions, base.answers or (), tuned.answers or (), strict=False)
    ]
    held = this.evaluator.held_out
    slices, left_out = by_slice(held, base, tuned)
    unscored = ("The time limit left no time to score the tuned model's answers.",) if tuned.answers is None else ()
    return TrainingReport(
        job_id=config.job_id,
        method=config.method,
        base=scores(held, base),
        tuned=scores(held, tuned),
        comparisons=compare(held, base, tuned),
        slices=slices,
        slices_left_out=left_out,
        best_step=state.step,
        steps=state.step,
        total_steps=trainer.order.total_steps,
        epochs=round(state.step / trainer.order.steps_per_epoch, 4),
        train_rows=corpus.train_rows,
        eval_rows=corpus.eval_rows,
        generated_rows=len(this.evaluator.questions),
        tokens_seen=state.tokens_seen,
        trained_tokens_per_epoch=corpus.trained_tokens,
        trainable_parameters=trainable,
        total_parameters=total,
        train_seconds=round(state.train_seconds, 3),
        loading_seconds=round(this.reporter.loading_seconds, 3),
        elapsed_seconds=round(this.reporter.elapsed, 3),
        lost_seconds=round(history.lost_seconds, 3),
        lost_steps=history.lost_steps,
        resumes=history.resumes,
        peak_memory_bytes=trainer.peak_memory(),
        precision=this.machine.precision,
        device=this.machine.name,
        samples=tuple(samples[:SAMPLES]),
        data_sha256=corpus.sha256,
        versions=versions(),
        warnings=(*corpus.warnings, *this.machine.warnings, *unscored, *this.trackers.settle()),
    )
