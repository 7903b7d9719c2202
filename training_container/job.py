"""The recipe of a run, top to bottom: load, score the base and the champion, train, score the tuned, publish."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from safetensors.torch import load_file

from spotune.contracts.checkpoint import Identity
from spotune.contracts.training import ExitCode, TrainingReport
from training_container.attention import check_separation, choose_attention
from training_container.champion import Champion, check_equal
from training_container.checkpoints import Checkpoint, Checkpoints
from training_container.corpus import load_corpus, load_tokenizer
from training_container.device import Machine, find_machine
from training_container.evaluation.evaluator import Evaluator
from training_container.evaluation.golden import golden_questions, load_golden
from training_container.faults import Stopped
from training_container.fingerprint import fingerprint
from training_container.health import check_accelerator, check_machine
from training_container.inputs import Inputs
from training_container.kernels import speed_up
from training_container.loading import load_base, loading_machine, read_facts
from training_container.memory import forget
from training_container.methods import adapt, has_adapter
from training_container.model import carried
from training_container.progress import Clock, Reporter
from training_container.publication.folder import publish
from training_container.publication.outputs import Extras, check_outputs
from training_container.publication.probe import Probe
from training_container.reporting import report_of
from training_container.run import Run
from training_container.scoring import KeptScores, ask_guests, ask_reference, base_scores, champion_scores, in_time
from training_container.sharding import Engine, Setting, World, make_engine
from training_container.sharding.world import Exchange
from training_container.stop import StopRequest
from training_container.trackers.trackers import Trackers
from training_container.trainer import WEIGHTS_NAME, EarlyEnd, Trainer
from training_container.watchdog import end_process

RESERVE_FACTOR = 1.25
"""Scoring the tuned model is expected to take at most this much longer than scoring the base did."""


def run(inputs: Inputs, stop: StopRequest, *, clock: Clock = time.monotonic, started: float | None = None) -> ExitCode:
    """Carry a training job out; returns how the process should end. `started` is when it began, by the clock.

    Raises:
        TrainingFault: it cannot be carried out.
    """
    first = World.from_environment().first
    with Trackers.of(inputs.config, inputs.folders, first=first) as trackers:
        begun = clock() if started is None else started
        unseen = inputs.config.limits.unseen_seconds
        reporter = Reporter(inputs.folders, clock, begun, trackers.log, quiet=not first, unseen_seconds=unseen)
        try:
            with stop.at_once():
                this = _prepare(inputs, stop, reporter, trackers, clock)
            with this.together(), stop.at_once():
                ask_guests(this)
            with stop.at_once():
                this.engine = _load(this)
            with this.together():
                report, probe = _train(this)
        except Stopped:
            reporter.phase("stopped")
            return ExitCode.STOPPED
        del this  # the model is loaded again, and there is memory for one
        forget()
        if probe is not None:
            report = Extras(inputs, probe, reporter, stop, reporter.loading_seconds).add_to(report)
        reporter.phase("done")
        trackers.publish(report)
        return ExitCode.PUBLISHED


def _prepare(inputs: Inputs, stop: StopRequest, reporter: Reporter, trackers: Trackers, clock: Clock) -> Run:
    """Read and check everything but the model."""
    config = inputs.config
    check_outputs(inputs)
    place = World.from_environment()
    check_accelerator(place.local_rank)
    machine = check_machine(find_machine(config.hardware, number=place.local_rank, halvings=place.halvings), config)
    world = World.join()
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
    champion = Champion.of(inputs, checkpoints.base)
    golden = load_golden(inputs.golden) if inputs.golden is not None else ()
    room, positions = config.evaluation.golden_new_tokens, read_facts(inputs.model).get("max_position_embeddings")
    evaluator = Evaluator.of(
        corpus,
        tokenizer,
        inputs.model,
        config,
        golden=golden_questions(golden, tokenizer, room, positions),
        machine=machine,
        lines=machine.micro_batch(config.hardware.micro_batch_size, config.data.max_sequence_length),
        check=stop.check,
        world=world,
    )
    return Run(
        inputs=inputs,
        world=world,
        machine=machine,
        corpus=corpus,
        golden=golden,
        champion=champion,
        evaluator=evaluator,
        checkpoints=checkpoints,
        reporter=reporter,
        trackers=trackers,
        stop=stop,
        identity=identity,
        clock=clock,
    )


def _load(this: Run) -> Engine:
    """The model that is trained, with what spreads its steps over the ranks."""
    config, loading = this.config, loading_machine(this.config, this.machine)
    model = _load_model(this, loading)
    if this.champion is not None and this.champion.start:
        check_equal(model, this.world)
    choose_attention(model, this.machine)
    if loading.device == this.machine.device:
        this.machine = speed_up(model, this.machine)
        if config.data.packing:
            check_separation(model, this.machine)
    return make_engine(Setting(model, config, this.machine, this.world))


def _load_model(this: Run, machine: Machine) -> Any:
    """The base model, made trainable; or the champion, where training goes on from it. The seed is set before the
    adapter's weights are drawn."""
    config, champion = this.config, this.champion
    torch.manual_seed(config.seed)
    if champion is None or not champion.start:
        return adapt(load_base(this.inputs.model, config, machine), config)
    if champion.whole:
        model = adapt(champion.load(machine), config)
    else:
        model = adapt(load_base(this.inputs.model, config, machine), config)
        champion.begin(model)
    return model


def _train(this: Run) -> tuple[TrainingReport, Probe | None]:
    """Score what was there before, train, score what came of it, publish."""
    with this.stop.at_once():
        ask_reference(this)
        base, champion = base_scores(this), champion_scores(this)
        trainer = _make_trainer(this, base.seconds)
    this.trackers.open(trainer.state.step)
    early = trainer.train()
    with this.stop.at_once():
        return _finish(this, trainer, base, champion, early)


def _make_trainer(this: Run, scoring_seconds: float) -> Trainer:
    """A trainer that stands at the newest checkpoint, or at the beginning."""
    config = this.config
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
    this: Run, trainer: Trainer, base: KeptScores, champion: KeptScores | None, early: EarlyEnd | None
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
    tuned = in_time(this, measured)
    this.stop.check()
    this.reporter.phase("publishing")
    rival = champion.measured if champion is not None else None
    report = report_of(this, trainer, base=base.measured, champion=rival, tuned=tuned)
    report = report.with_(best_step=best.manifest.step, stopped_early=early)
    for warning in report.warnings if this.world.first else ():
        print(warning, file=sys.stderr, flush=True)
    probe = _publish(this, best, report) if this.world.first else None
    # In no collective, which would fail where writing a large model takes longer; the job's end is SageMaker's to keep.
    patience = timedelta(seconds=this.config.limits.max_runtime_seconds)
    Exchange(this.world, f"published/{this.config.job_id}", patience).gather(None)
    return report, probe


def _publish(this: Run, best: Checkpoint, report: TrainingReport) -> Probe:
    """Write the model folder; what it holds is told from others by the probe."""
    config, machine = this.config, this.machine
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
    model = _load_model(this, replace(this.machine, device=torch.device("cpu")))
    saved = load_file(best.folder / WEIGHTS_NAME)
    with torch.no_grad():
        for name, tensor in carried(model).items():
            tensor.copy_(saved[name])
    return model
