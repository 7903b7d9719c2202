"""The model card, with the front matter that the hub reads."""

from __future__ import annotations

import re
from collections.abc import Iterator

from spotune.contracts.scores import Comparison, Metric
from spotune.contracts.training import TrainingConfig, TrainingReport
from training_container.methods import has_adapter

CARD_NAME = "README.md"
NAMES: dict[Metric, str] = {
    "eval_loss": "Held-out loss",
    "exact_match": "Exact match",
    "rouge_l": "ROUGE-L",
    "json_valid": "Valid JSON",
    "json_keys": "The reference's JSON keys",
    "multiple_choice": "Multiple choice",
    "preference_accuracy": "Preference accuracy",
    "preference_margin": "Preference margin",
}
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def model_card(config: TrainingConfig, report: TrainingReport, *, picture: str | None) -> str:
    """The card of a published model; `picture` is the file of the run's plot, where there is one."""
    kind = f"{config.method} adapter" if has_adapter(config.method) else f"model ({config.method} fine-tuning)"
    parts = [
        f"---\n{_front_matter(config, report)}\n---",
        f"# {config.job_id}",
        f"A {kind} for `{config.model.name}`, trained by Spotune.",
        "## Intended use\n\nNot stated. Whoever shares this model says here what it is for, and what it is not for.",
        "\n".join(["## Evaluation", "", *_evaluation(report)]),
        *("\n".join(part) for part in _comparisons(config, report)),
        "\n".join(["## Training", "", *_facts(config, report)]),
    ]
    if picture is not None:
        parts.append(f"![Loss and learning rate by step]({picture})")
    if report.warnings:
        parts.append("\n".join(["## Warnings", "", *(f"- {warning}" for warning in report.warnings)]))
    return "\n\n".join(parts) + "\n"


def _front_matter(config: TrainingConfig, report: TrainingReport) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type="held-out-rows",
            dataset_name=f"{report.eval_rows} held-out rows",
            metric_type=metric,
            metric_name=name,
            metric_value=round(value, 6),
        )
        for metric, name, value in _tuned(report)
    ]
    front_matter: str = ModelCardData(
        base_model=config.model.name if HUB_ID.fullmatch(config.model.name) else None,
        library_name="peft" if has_adapter(config.method) else "transformers",
        pipeline_tag="text-generation",
        tags=["spotune", config.method, config.objective.type],
        model_name=config.job_id,
        eval_results=results,
    ).to_yaml()
    return front_matter


def _tuned(report: TrainingReport) -> Iterator[tuple[str, str, float]]:
    if report.tuned.perplexity is not None:
        yield "perplexity", "Perplexity", report.tuned.perplexity
    for metric, name in NAMES.items():
        value = getattr(report.tuned, metric, None)
        if value is not None:
            yield metric, name, value


def _evaluation(report: TrainingReport) -> Iterator[str]:
    """Both models on the same rows."""
    yield from _table("base", [])
    if not any(each.metric == "eval_loss" for each in report.comparisons):
        yield f"| Held-out loss | {report.eval_rows} | {report.base.eval_loss:.4f} | {report.tuned.eval_loss:.4f} | |"
    for each in report.comparisons:
        yield _row(NAMES[each.metric], each)
    if report.base.perplexity is not None and report.tuned.perplexity is not None:
        yield f"| Perplexity | {report.eval_rows} | {report.base.perplexity:.2f} | {report.tuned.perplexity:.2f} | |"
    for part in report.slices:
        for each in part.comparisons:
            yield _row(f"{NAMES[each.metric]}, slice `{part.name}`", each)
    yield ""
    yield "Intervals are by paired bootstrap over the rows; with few rows they are too narrow."


def _comparisons(config: TrainingConfig, report: TrainingReport) -> Iterator[list[str]]:
    """Sections that not every run has: against the champion, what got worse, golden prompts."""
    if report.champion is not None and config.champion is not None:
        rows = [_row(NAMES[each.metric], each) for each in report.against_champion]
        rows += [
            _row(f"{NAMES[each.metric]}, slice `{part.name}`", each)
            for part in report.slices
            for each in part.against_champion
        ]
        yield [f"## Against the champion `{config.champion.name}`", "", *_table("champion", rows)]
    if report.forgotten:
        rows = [
            _row(f"{NAMES[each.comparison.metric]}{f', slice `{each.slice}`' if each.slice else ''}", each.comparison)
            for each in report.forgotten
        ]
        yield [f"## Worse than the {report.began_from} that training began from", "", *_table(report.began_from, rows)]
    if report.golden:
        yield ["## Golden prompts", "", *_golden(report)]


def _table(other: str, rows: list[str]) -> list[str]:
    return [f"| held-out rows | rows | {other} | tuned | difference, 95 % interval |", "|---|---|---|---|---|", *rows]


def _golden(report: TrainingReport) -> Iterator[str]:
    """How many each model met; and which of them the tuned one does not."""
    asked = report.golden
    met = {"base": [each.base_met for each in asked], "tuned": [each.tuned_met for each in asked]}
    if report.champion is not None:
        met["champion"] = [bool(each.champion_met) for each in asked]
    yield ", ".join(f"{name}: {sum(found)} of {len(asked)} met" for name, found in met.items())
    missed = [str(each.line) for each in asked if not each.tuned_met]
    if missed:
        yield f"\nNot met by the tuned model: line {', '.join(missed)}"


def _row(name: str, each: Comparison) -> str:
    share = each.metric not in ("eval_loss", "preference_margin")
    show = "{:.1%}".format if share else "{:.4f}".format
    signed = "{:+.1%}".format if share else "{:+.4f}".format
    interval = f"{signed(each.difference)} ({signed(each.low)} to {signed(each.high)})"
    return f"| {name.replace('|', '/')} | {each.rows} | {show(each.base)} | {show(each.tuned)} | {interval} |"


def _facts(config: TrainingConfig, report: TrainingReport) -> Iterator[str]:
    adapter, optimization = config.adapter, config.optimization
    revision = f", revision `{config.model.revision}`" if config.model.revision else ""
    yield f"- Base model: `{config.model.name}`{revision}"
    settings = f", {adapter.model_dump_json()}" if adapter else ""
    yield f"- Method: {config.method}{settings}; quantization {config.quantization}"
    yield f"- Objective: {config.objective.type}, loss on {config.objective.loss_on}"
    yield f"- Data: {report.train_rows} rows, SHA-256 `{report.data_sha256}`; {report.eval_rows} rows held out"
    yield f"- Steps: {report.steps} of {report.total_steps} ({report.epochs:g} epochs), best at {report.best_step}"
    if report.stopped_early:
        yield f"- Ended early: {report.stopped_early}"
    yield (
        f"- Learning rate {optimization.learning_rate:g} with {optimization.optimizer}, warm-up "
        f"{optimization.warmup_ratio:g}, weight decay {optimization.weight_decay:g}, global batch "
        f"{optimization.global_batch_size}, sequences of {config.data.max_sequence_length} tokens, packing "
        f"{'on' if config.data.packing else 'off'}, seed {config.seed}"
    )
    yield f"- Computed in {report.precision} on {report.device}; resumed {len(report.resumes)} times"
    # Billed seconds and their price are known only when the machine is given back: the job's receipt has them.
    yield f"- Cost: {report.train_seconds:.0f} s of training steps; dollars: `spotune show {config.job_id}`"
    yield f"- Versions: {', '.join(f'{name} {version}' for name, version in report.versions.items())}"
