"""The recipe of a run, top to bottom: load, score the base, train, score the tuned, publish."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from safetensors.torch import load_file

from spotune.contracts.base import Contract
from spotune.contracts.checkpoint import BASE_SCORES_NAME, Identity
from spotune.contracts.training import ExitCode, SampleAnswer, TrainingConfig, TrainingReport
from training_container.attention import check_separation, choose_attention
from training_container.checkpoints import Checkpoint, Checkpoints
from training_container.corpus import Corpus, load_corpus, load_tokenizer
from training_container.device import Machine, find_machine
from training_container.evaluation.comparison import Measurement, by_slice, compare, scores
from training_container.evaluation.evaluator import Evaluator
from training_container.faults import Stopped
from training_container.fingerprint import fingerprint
from training_container.folders import read_if_whole, replace_file
from training_container.inputs import Inputs
from training_container.kernels import speed_up
from training_container.loading import load_base
from training_container.methods import adapt, base_of, has_adapter
from training_container.model import carried
from training_container.objectives import objective_of
from training_container.objectives.reference import Reference
from training_container.progress import Clock, Reporter
from training_container.publication.folder import publish, versions
from training_container.publication.outputs import Extras, check_outputs, forget
from training_container.publication.probe import Probe
from training_container.sharding import Engine, Setting, World, make_engine
from training_container.sharding.world import Exchange
from training_container.stop import StopRequest
from training_container.trackers.trackers import Trackers
from training_container.trainer import WEIGHTS_NAME, EarlyEnd, Trainer
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
    engine: Engine
    evaluator: Evaluator
    checkpoints: Checkpoints
    reporter: Reporter
    trackers: Trackers
    stop: StopRequest
    identity: Identity
    clock: Clock

    @property
    def world(self) -> World:
        """All processes of the job."""
        return self.engine.world


def run(inputs: Inputs, stop: StopRequest, *, clock: Clock = time.monotonic, started: float | None = None) -> ExitCode:
    """Carry a training job out; returns how the process should end. `started` is when it began, by the clock.

    Raises:
        TrainingFault: it cannot be carried out.
    """
    first = World.from_environment().first
    with Trackers.of(inputs.config, inputs.folders, first=first) as trackers:
        begun = clock() if started is None else started
        reporter = Reporter(inputs.folders, clock, begun, trackers.log, quiet=not first)
        try:
            with stop.at_once():
                this = _prepare(inputs, stop, reporter, trackers, clock)
            if this.world.size > 1:
                stop.share(partial(_asked_anywhere, this.world))
            with stop.at_once():
                _ask_reference(this)
                base = _base_scores(this)
                trainer = _make_trainer(this, base.seconds)
            trackers.open(trainer.state.step)
            early = trainer.train()
            with stop.at_once():
                report, probe = _finish(this, trainer, base, early)
        except Stopped:
            reporter.phase("stopped")
            return ExitCode.STOPPED
        stop.part()
        del trainer, this  # the model is loaded again, and there is memory for one
        forget()
        if probe is not None:
            report = Extras(inputs, probe, reporter, stop, reporter.loading_seconds).add_to(report)
        reporter.phase("done")
        trackers.publish(report)
        return ExitCode.PUBLISHED


def _asked_anywhere(world: World, asked: bool) -> bool:
    return world.any(asked)[0]


def _prepare(inputs: Inputs, stop: StopRequest, reporter: Reporter, trackers: Trackers, clock: Clock) -> Run:
    """Load everything."""
    config = inputs.config
    check_outputs(inputs)
    world = World.join()
    machine = find_machine(config.hardware, number=world.local_rank, halvings=world.halvings)
    tokenizer = load_tokenizer(inputs.model)
    corpus = load_corpus(inputs, tokenizer)
    identity = Identity.of(config, corpus.sha256)
    checkpoints = Checkpoints(
        inputs.folders.checkpoints,
        identity,
        job_id=config.job_id,
        keep=config.checkpoint.keep,
        world=world,
        base=world.from_first(lambda: fingerprint(inputs.model)),
    )
    checkpoints.check_identity()
    loading = _loading_machine(config, machine)
    model = _load_model(inputs, loading)
    choose_attention(model, machine)
    if loading.device == machine.device:
        machine = speed_up(model, machine)
        if config.data.packing:
            check_separation(model, machine)
    evaluator = Evaluator.of(
        corpus,
        tokenizer,
        inputs.model,
        config,
        machine=machine,
        lines=machine.micro_batch(config.hardware.micro_batch_size, config.data.max_sequence_length),
        check=stop.check,
        world=world,
    )
    engine = make_engine(Setting(model, config, machine, world))
    return Run(inputs, machine, corpus, engine, evaluator, checkpoints, reporter, trackers, stop, identity, clock)


def _load_model(inputs: Inputs, machine: Machine) -> Any:
    """The base model, made trainable. The seed is set before the adapter's weights are drawn."""
    torch.manual_seed(inputs.config.seed)
    return adapt(load_base(inputs.model, inputs.config, machine), inputs.config)


def _loading_machine(config: TrainingConfig, machine: Machine) -> Machine:
    """Weights that are to be spread wait in host memory: whole they may not fit on one GPU. Quantizing needs one."""
    spread = config.hardware.sharding in ("zero3", "fsdp") and config.quantization == "none"
    return replace(machine, device=torch.device("cpu")) if spread else machine


def _ask_reference(this: Run) -> None:
    """Give each row what the base model gives to it, where the objective is measured from there."""
    if not objective_of(this.inputs.config.objective).uses_reference:
        return
    this.reporter.phase("evaluating_base")
    reference = Reference(
        this.inputs.folders.checkpoints,
        this.identity.sha256,
        this.machine,
        this.world,
        this.evaluator.lines,
        this.evaluator.tokenizer.pad_token_id,
        this.stop.check,
        this.clock,
        this.inputs.config.checkpoint.interval_seconds,
    )
    with base_of(this.engine.model):
        this.corpus = reference.complete(this.engine.model, this.corpus)
    this.evaluator = replace(this.evaluator, corpus=this.corpus)


def _base_scores(this: Run) -> BaseScores:
    """The base model's scores, from an earlier attempt where there was one."""
    path = this.inputs.folders.checkpoints / BASE_SCORES_NAME
    answered = this.inputs.config.evaluation.model_dump_json(include={"generation_examples", "max_new_tokens"})
    identity = f"{this.identity.sha256} {this.checkpoints.base} {this.machine.precision} {answered}"
    known = this.world.from_first(lambda: read_if_whole(BaseScores, path))
    if known is not None and known.identity == identity:
        return known
    this.reporter.phase("evaluating_base")
    began = this.clock()
    with base_of(this.engine.model):
        measured = this.evaluator.measure(this.engine.model)
    made = BaseScores(identity=identity, measured=measured, seconds=this.clock() - began)
    if this.world.first:
        replace_file(path, made.model_dump_json(indent=1).encode())
    return made


def _make_trainer(this: Run, scoring_seconds: float) -> Trainer:
    """A trainer that stands at the newest checkpoint, or at the beginning."""
    config = this.inputs.config
    trainer = Trainer(
        this.engine,
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
    trainer.probe()
    newest = this.checkpoints.newest()
    if newest is not None:
        trainer.resume(newest)
    this.reporter.resumed(trainer.state.step, trainer.state.train_seconds, this.checkpoints.skipped)
    this.reporter.phase("training", total_steps=trainer.order.total_steps)
    return trainer


def _finish(
    this: Run, trainer: Trainer, base: BaseScores, early: EarlyEnd | None
) -> tuple[TrainingReport, Probe | None]:
    """Score the best weights and publish them; returns the report and, in the first process, what tells them from
    others."""
    this.reporter.phase("evaluating")
    best = this.checkpoints.best()
    if best is None:
        raise RuntimeError("no checkpoint was evaluated, so there is nothing to publish")
    if best.manifest.step != trainer.state.step:
        trainer.load_weights(best)
    measured = trainer.measured(best.manifest.step) or this.evaluator.measure_loss(this.engine.model)
    tuned = _measure_in_time(this, measured)
    this.stop.check()
    this.reporter.phase("publishing")
    report = _report(this, trainer, base.measured, tuned).with_(best_step=best.manifest.step, stopped_early=early)
    probe = _publish(this, best, report) if this.world.first else None
    # In no collective, which would fail where writing a large model takes longer; the job's end is SageMaker's to keep.
    patience = timedelta(seconds=this.inputs.config.limits.max_runtime_seconds)
    Exchange(this.world, f"published/{this.inputs.config.job_id}", patience).gather(None)
    return report, probe


def _publish(this: Run, best: Checkpoint, report: TrainingReport) -> Probe:
    """Write the model folder; what it holds is told from others by the probe."""
    config, machine = this.inputs.config, this.machine
    if not this.engine.whole:
        machine = replace(machine, device=torch.device("cpu"))
    model, pad = _whole_model(this, best), this.evaluator.tokenizer.pad_token_id
    probe = Probe.of(model, this.corpus.evaluation, pad, machine, adapter=has_adapter(config.method))
    publish(model, this.inputs.folders.model, base=this.inputs.model, config=config, report=report)
    return probe


def _whole_model(this: Run, best: Checkpoint) -> Any:
    """What is published: where no rank has all of it, loaded once more, into host memory, with the best weights."""
    if this.engine.whole:
        return this.engine.model
    model = _load_model(this.inputs, replace(this.machine, device=torch.device("cpu")))
    saved = load_file(best.folder / WEIGHTS_NAME)
    with torch.no_grad():
        for name, tensor in carried(model).items():
            tensor.copy_(saved[name])
    return model


def _measure_in_time(this: Run, measured: Measurement) -> Measurement:
    """With answers and choices, but for what the time limit leaves out: publication matters more than a score."""
    limits = this.inputs.config.limits
    latest = limits.max_runtime_seconds - PUBLICATION_SHARE * limits.publication_reserve_seconds

    def check() -> None:
        this.stop.check()
        if this.world.any(this.reporter.elapsed > latest)[0]:
            raise _OutOfTime

    hurried = this.evaluator.checking(check)
    try:
        measured = measured.with_(choices=hurried.choose(this.engine.model))
        return measured.with_(answers=hurried.answers(this.engine.model))
    except _OutOfTime:
        return measured


def _report(this: Run, trainer: Trainer, base: Measurement, tuned: Measurement) -> TrainingReport:
    config, corpus, state, history = this.inputs.config, this.corpus, trainer.state, this.reporter.history
    trainable, total = this.engine.counts
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
        warnings=(*corpus.warnings, *this.machine.warnings, *trainer.warnings, *unscored, *this.trackers.settle()),
    )
