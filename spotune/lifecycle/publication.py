"""The end that a job is for: its model is judged, and goes to the registry with its verdict."""

from __future__ import annotations

from spotune.contracts.commands import RegisterModel
from spotune.contracts.events import TrainingObserved
from spotune.contracts.verdict import Verdict
from spotune.lifecycle.draft import Draft
from spotune.lifecycle.gate import judge, verdict_words


def publish(draft: Draft, seen: TrainingObserved) -> None:
    """Judge the model of a completed attempt, and end the job. A rejected one has no name to be asked for by."""
    report, job = seen.report, draft.job
    if report is None:
        raise ValueError("a completed attempt without a report is classified as internal")
    verdict = judge(job.request.gate, report, job.champion, job.billed)
    draft.set(report=report, output_uri=seen.output_uri, verdict=verdict, gate_verdict=verdict_words(verdict))
    if verdict.decision != "reject":
        draft.set(fine_tuned_model=model_name(job.id, job.model.name, job.request.suffix))
    _say(draft, verdict)
    if job.request.registry.group is not None:
        draft.command(RegisterModel())
    if report.stopped_early:
        draft.say(
            f"Training stopped early ({report.stopped_early}); the best weights so far are published.", level="warn"
        )
    draft.finish("succeeded")


def model_name(job_id: str, base: str, suffix: str | None) -> str:
    """The tuned model's name: OpenAI's form `ft:<base>:<suffix>:<job>`."""
    return f"ft:{base}:{suffix or ''}:{job_id.removeprefix('ftjob-')}"


def _say(draft: Draft, verdict: Verdict) -> None:
    registered, why = f"Model registered: {draft.job.fine_tuned_model}.", verdict.reason
    if verdict.decision == "promote":
        draft.say(f"{registered} The gate: {why}.", decision="promote")
    elif verdict.decision == "hold":
        draft.say(f"{registered} The gate holds it for a person: {why}.", level="warn", decision="hold")
    else:
        words = f"The gate was not passed, so the model is not registered: {why}."
        draft.say(words, level="warn", decision="reject")
