"""`submit, retry, list, show, watch, logs, cancel`: jobs through the API."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import httpx
import typer

from spotune.cli import blocks, render, words
from spotune.cli.client import Api
from spotune.cli.connection import find_connection
from spotune.cli.jobfile import Draft, local_files, merge, parse_assignments, read_draft
from spotune.cli.screen import JsonOption, Screen
from spotune.cli.upload import upload
from spotune.cli.watch import POLL_SECONDS, TERMINAL, EventReader, event_words, follow, view_for
from spotune.contracts.errors import RequestRefused
from spotune.contracts.request import JobRequest

JOB_FAILED = 6
"""Exit code of a command that waited for a job which failed or was cancelled."""

FileArgument = Annotated[Path | None, typer.Argument(help="A job file, YAML or JSON, with the API's own names.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Base model.")]
TrainingOption = Annotated[
    str | None, typer.Option("--training-file", help="A path, a file id or an s3:// URI.", show_default=False)
]
ValidationOption = Annotated[str | None, typer.Option("--validation-file", help="As --training-file.")]
BudgetOption = Annotated[float | None, typer.Option("--budget", help="Dollars that the job may cost at most.")]
HoursOption = Annotated[float | None, typer.Option("--within-hours", help="When it has to be done.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Any other field, dotted; may be repeated.")
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.", show_default=False)]


def submit(
    file: FileArgument = None,
    model: ModelOption = None,
    training_file: TrainingOption = None,
    validation_file: ValidationOption = None,
    budget: BudgetOption = None,
    within_hours: HoursOption = None,
    assignments: SetOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Watch it until it ends.")] = False,
    json: JsonOption = False,
) -> int:
    """Submit a job: from a job file, from flags, or from both (a flag wins)."""
    screen = Screen(machine=json)
    draft = draft_of(file, model, training_file, validation_file, budget, within_hours, assignments)
    with Api(find_connection()) as api:
        job = api.create_job(with_uploads(api, draft, screen))
        if wait:
            screen.say(f"Submitted {job.id}.")
            return _watch(api, job.id, screen)
    screen.emit(job.model_dump(mode="json"))
    screen.show(render.job(job, now=time.time()))
    screen.say(f"\nNext: spotune watch {job.id}")
    return 0


def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=100, help="Jobs on a page.")] = 20,
    after: Annotated[str | None, typer.Option(metavar="JOB", help="Go on after this job.")] = None,
    status: Annotated[str | None, typer.Option(help="Those alone: queued, running, paused, failed, ...")] = None,
    json: JsonOption = False,
) -> None:
    """List jobs, newest first."""
    screen = Screen(machine=json)
    with Api(find_connection()) as api:
        page = api.jobs(after=after, limit=limit, status=status)
    screen.emit(page.model_dump(mode="json"))
    if not page.data:
        screen.say("No jobs." if after is None else f"No jobs after {after}.")
        return
    screen.show(render.jobs(page.data, now=time.time()))
    if page.has_more:
        filtered = f" --status {status}" if status else ""
        screen.say(f"\nMore: spotune list{filtered} --after {page.data[-1].id}")


def show(job_id: JobArgument, json: JsonOption = False) -> None:
    """Show a job: state, attempts, settings with their reasons, money, result."""
    screen = Screen(machine=json)
    with Api(find_connection()) as api:
        job = api.job(job_id)
    screen.emit(job.model_dump(mode="json"))
    screen.show(render.job(job, now=time.time()))


def explain(job_id: JobArgument, json: JsonOption = False) -> None:
    """Say why a job is where it is: the cause, what shows it, the remedy, the command to run."""
    screen = Screen(machine=json)
    with Api(find_connection()) as api:
        seen = api.diagnosis(job_id)
    screen.emit(seen.model_dump(mode="json"))
    rows = [("cause", seen.cause.replace("_", " ")), ("message", seen.message)]
    rows += [("evidence", words) for words in seen.evidence]
    rows += [(name, value) for name, value in (("remedy", seen.remedy), ("next", seen.command)) if value]
    screen.show(blocks.facts(seen.job_id, rows))


def watch(job_id: JobArgument, json: JsonOption = False) -> int:
    """Follow a job until it ends. Ctrl-C ends the watching, not the job."""
    with Api(find_connection()) as api:
        return _watch(api, job_id, Screen(machine=json))


def logs(
    job_id: JobArgument,
    follow_log: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    container: Annotated[
        bool, typer.Option("--container", help="What the training container printed (embedded mode).")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Print a job's log, oldest line first."""
    screen = Screen(machine=json)
    with Api(find_connection()) as api:
        source = _ContainerLog(api, job_id, screen) if container else _EventLog(api, job_id, screen)
        while True:
            job = api.job(job_id) if follow_log else None
            source.print_new()
            if job is None or job.status in TERMINAL:
                return
            time.sleep(POLL_SECONDS)


def cancel(job_id: JobArgument, json: JsonOption = False) -> None:
    """Ask a job to end. A running one first saves a checkpoint; nothing is published."""
    screen = Screen(machine=json)
    with Api(find_connection()) as api:
        job = api.cancel(job_id)
    screen.emit(job.model_dump(mode="json"))
    screen.say(f"{job.id}: {words.state_words(job)}.")
    if job.status not in TERMINAL:
        screen.say(f"It is being stopped: spotune watch {job.id}")


def pause(job_id: JobArgument, json: JsonOption = False) -> None:
    """Stop a job where it is. Its checkpoints are kept; nothing is billed until it is resumed."""
    screen = Screen(machine=json)
    with Api(find_connection()) as api:
        job = api.pause(job_id)
    screen.emit(job.model_dump(mode="json"))
    screen.say(f"{job.id}: {words.state_words(job)}.")
    screen.say(f"Later: spotune resume {job.id}")


def resume(job_id: JobArgument, json: JsonOption = False) -> None:
    """Let a paused job go on from its newest checkpoint."""
    screen = Screen(machine=json)
    with Api(find_connection()) as api:
        job = api.resume(job_id)
    screen.emit(job.model_dump(mode="json"))
    screen.say(f"{job.id}: {words.state_words(job)}.")
    screen.say(f"Follow it: spotune watch {job.id}")


def retry(
    job_id: JobArgument,
    assignments: SetOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Watch it until it ends.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take; start nothing.")] = False,
    json: JsonOption = False,
) -> int:
    """Do a failed or cancelled job again, with changed fields, as a new job.

    It goes on from the old job's checkpoint where the changes allow that, and says so; FIELD=null sets a field back to
    its default. The same retry twice is one job.
    """
    screen = Screen(machine=json)
    with Api(find_connection()) as api:
        changes = _with_uploads_in(api, merge({}, parse_assignments(assignments or ())), screen)
        if dry_run:
            answer = api.plan_retry(job_id, changes)
            screen.emit(answer.model_dump(mode="json"))
            screen.show(render.plan(answer, now=time.time()))
            return 0
        job = api.retry(job_id, changes)
        if wait:
            screen.say(f"Submitted {job.id}, a retry of {job_id}.")
            return _watch(api, job.id, screen)
    screen.emit(job.model_dump(mode="json"))
    screen.show(render.job(job, now=time.time()))
    screen.say(f"\nNext: spotune watch {job.id}")
    return 0


def draft_of(
    file: Path | None,
    model: str | None,
    training_file: str | None,
    validation_file: str | None,
    budget: float | None,
    within_hours: float | None,
    assignments: list[str] | None,
) -> Draft:
    """A job file with the flags put over it.

    Raises:
        RequestRefused: nothing was given, or what was given is no valid request.
    """
    flags: dict[str, object] = {
        "model": model,
        "training_file": training_file,
        "validation_file": validation_file,
        "constraints.budget_usd": budget,
        "constraints.finish_within_hours": within_hours,
    }
    given = {name: value for name, value in flags.items() if value is not None} | parse_assignments(assignments or ())
    if file is None and not given:
        raise RequestRefused(
            "There is nothing to submit.",
            code="job_file_missing",
            remedy="Give a job file, or --model and --training-file.",
        )
    return read_draft(file, given)


def with_uploads(api: Api, draft: Draft, screen: Screen) -> JobRequest:
    """The request with the local files that it names uploaded."""
    return draft.with_ids({name: upload(api, path, screen).id for name, path in draft.files.items()})


def _with_uploads_in(api: Api, changes: dict[str, object], screen: Screen) -> dict[str, object]:
    files = local_files(changes, Path.cwd())
    return merge(changes, {name: upload(api, path, screen).id for name, path in files.items()})


def _watch(api: Api, job_id: str, screen: Screen) -> int:
    with view_for(screen) as view:
        job = follow(api, job_id, view)
    screen.show(render.job(job, now=time.time()))
    if job.status == "succeeded":
        screen.say(f"\nNext: spotune chat {job.id}")
        return 0
    return JOB_FAILED


class _EventLog:
    def __init__(self, api: Api, job_id: str, screen: Screen) -> None:
        self._reader = EventReader(api, job_id)
        self._screen = screen

    def print_new(self) -> None:
        for event in self._reader.new():
            self._screen.say(event_words(event))
            self._screen.emit_line(event.model_dump(mode="json"))


class _ContainerLog:
    """The double keeps each training job's output; a deployed API leaves it in CloudWatch."""

    def __init__(self, api: Api, job_id: str, screen: Screen) -> None:
        stack = api.connection.stack
        if stack is None:
            raise RequestRefused(
                "The container's own log can be read here in embedded mode only.",
                code="container_log_elsewhere",
                remedy=f"Read it in CloudWatch: log group /aws/sagemaker/TrainingJobs, streams {job_id}-<attempt>.",
            )
        self._double_url = stack.double_url
        self._api = api
        self._job_id = job_id
        self._screen = screen
        self._offsets: dict[str, int] = {}

    def print_new(self) -> None:
        for attempt in self._api.job(self._job_id).spotune.attempts:
            for line in self._text(attempt.name).splitlines():
                self._screen.say(line)
                self._screen.emit_line({"attempt": attempt.name, "line": line})

    def _text(self, name: str) -> str:
        """What was printed since the last call; empty where the training job has not started."""
        url, text = f"{self._double_url}/_double/logs/{name}", ""
        while True:
            offset = self._offsets.get(name, 0)
            answer = httpx.get(url, params={"offset": offset}, timeout=10, trust_env=False)
            if not answer.is_success or answer.json()["NextOffset"] == offset:
                return text
            text += answer.json()["Text"]
            self._offsets[name] = answer.json()["NextOffset"]
