"""The report of a run: what was trained, what it is worth beside the base and the champion, and what it cost."""

from __future__ import annotations

from typing import Any

from spotune.contracts.training import SampleAnswer, TrainingReport
from training_container.evaluation.comparison import Measurement, by_slice, compare, scores
from training_container.evaluation.forgetting import forgotten, warnings_of
from training_container.evaluation.golden import judged
from training_container.publication.folder import versions
from training_container.quantization import quantization_of
from training_container.run import Run
from training_container.trainer import Trainer

SAMPLES = 5


def report_of(
    this: Run, trainer: Trainer, *, base: Measurement, champion: Measurement | None, tuned: Measurement
) -> TrainingReport:
    """The report as it stands before anything is published; `best_step` is the last one's."""
    state, history, corpus = trainer.state, this.reporter.history, this.corpus
    trainable, total = this.engine.counts
    worth = _worth(this, base, champion, tuned)
    return TrainingReport(
        job_id=this.config.job_id,
        method=this.config.method,
        **worth,
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
        samples=_samples(this, base, tuned),
        data_sha256=corpus.sha256,
        base_sha256=this.checkpoints.base,
        quantization=quantization_of(this.config),
        versions=versions(),
        warnings=(
            *corpus.warnings,
            *this.machine.warnings,
            *(this.champion.warnings if this.champion is not None else ()),
            *trainer.warnings,
            *_unscored(this, tuned),
            *warnings_of(worth["forgotten"], this.config),
            *this.trackers.settle(),
        ),
    )


def _worth(this: Run, base: Measurement, champion: Measurement | None, tuned: Measurement) -> dict[str, Any]:
    """The fields that compare models."""
    held = this.evaluator.held_out
    slices, left_out = by_slice(held, base, tuned, champion)
    compared = compare(held, base, tuned)
    against = () if champion is None else compare(held, champion, tuned)
    warm = this.champion is not None and this.champion.start
    parts = {part.name: part.against_champion if warm else part.comparisons for part in slices}
    return {
        "base": scores(held, base),
        "tuned": scores(held, tuned),
        "comparisons": compared,
        "champion": None if champion is None else scores(held, champion),
        "against_champion": against,
        "began_from": "champion" if warm else "base",
        "forgotten": forgotten(against if warm else compared, parts),
        "golden": judged(
            this.golden,
            this.evaluator.golden,
            base=base.golden,
            champion=None if champion is None else champion.golden,
            tuned=tuned.golden,
        ),
        "slices": slices,
        "slices_left_out": left_out,
    }


def _samples(this: Run, base: Measurement, tuned: Measurement) -> tuple[SampleAnswer, ...]:
    answers = zip(this.evaluator.questions, base.answers or (), tuned.answers or (), strict=False)
    return tuple(
        SampleAnswer(prompt=asked.text, reference=asked.reference, base=before, tuned=after)
        for asked, before, after in answers
    )[:SAMPLES]


def _unscored(this: Run, tuned: Measurement) -> tuple[str, ...]:
    late = "The time limit left no time to"
    answers = (f"{late} score the tuned model's answers.",) if tuned.answers is None else ()
    return (*answers, f"{late} answer the golden prompts.") if this.golden and tuned.golden is None else answers
