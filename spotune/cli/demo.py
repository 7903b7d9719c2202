"""`demo`: one real job on this machine, from a dataset to a tuned and checked adapter, spot interruption included."""

from __future__ import annotations

import contextlib
import json as json_format
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import httpx
import typer

import spotune
from spotune.cli import blocks, demo_report, render
from spotune.cli.adapters import fetch_adapter
from spotune.cli.client import Api
from spotune.cli.connection import Connection
from spotune.cli.data import cached_model
from spotune.cli.demo_remains import DemoRemains
from spotune.cli.jobfile import Draft, read_draft
from spotune.cli.jobs import JOB_FAILED, with_uploads
from spotune.cli.memory import MemoryMeter
from spotune.cli.screen import JsonOption, Screen
from spotune.cli.watch import TERMINAL, follow, view_for
from spotune.contracts.api import JobObject, PlanObject
from spotune.contracts.errors import Conflict, NotFound, SpotuneError, Unavailable
from spotune.local import stack, supervisor
from spotune.local.models import add_base_model
from spotune.local.state import StackState, default_home

EXAMPLE = Path(spotune.__file__).parents[1] / "examples" / "support_routing"
INTERRUPT_AFTER = 0.45
RESTART_SECONDS = 5
CANCEL_PATIENCE_SECONDS = 20.0


def demo(
    no_interruption: Annotated[
        bool, typer.Option("--no-interruption", help="Let the spot instance live to the end.")
    ] = False,
    keep_up: Annotated[bool, typer.Option("--keep-up", help="Leave embedded mode up at the end.")] = False,
    json: JsonOption = False,
) -> int:
    """Tune a real model here, in minutes: plan, upload, train, survive a spot interruption, check, download."""
    began = time.time()
    screen = Screen(machine=json)
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)
    draft = read_draft(EXAMPLE / "job.yaml", {})
    with _remains() as remains, MemoryMeter(_stack_processes) as meter:
        base = _base_model(draft.request.model, screen)
        with _embedded_mode(remains, screen, keep_up=keep_up) as state:
            add_base_model(state, base, draft.request.model)
            run = _Run(state, remains, screen)
            plan, job = run.train(draft, interrupt=not no_interruption)
            if job.status != "succeeded":
                screen.emit(job.model_dump(mode="json"))
                screen.show(render.job(job, now=time.time()))
                return JOB_FAILED
            adapter = fetch_adapter(run.connection, job)
    return demo_report.close(
        demo_report.Outcome(
            job=job,
            plan=plan,
            adapter=adapter,
            began_at=began,
            set_up_at=float(os.environ.get("SPOTUNE_DEMO_STARTED_AT") or began),
            ended_at=time.time(),
            peak_bytes=meter.peak_bytes,
            interruption_wanted=not no_interruption,
            interrupted_at_step=run.interrupted_at_step,
            stack_is_up=stack.status().running,
            system_message=_system_message(draft.files["training_file"]),
        ),
        screen,
    )


def _system_message(dataset: Path) -> str:
    with dataset.open(encoding="utf-8") as rows:
        return str(json_format.loads(rows.readline())["messages"][0]["content"])


@contextlib.contextmanager
def _remains() -> Iterator[DemoRemains]:
    remains = DemoRemains(default_home())
    remains.claim()
    try:
        yield remains
    finally:
        remains.release()


def _base_model(name: str, screen: Screen) -> Path:
    """The base model's folder, made once and cached.

    Raises:
        Unavailable: no source has it.
    """
    folder = cached_model(name)
    screen.say(f"Base model {name}", style="bold")
    command = [sys.executable, "-m", "training_container.base_model", "--name", name, "--out", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise Unavailable(
            f"The base model {name} could not be made: {made.stderr.strip()[-1000:]}", code="base_model_unavailable"
        )
    screen.say(f"  in {folder}")
    return folder


@contextlib.contextmanager
def _embedded_mode(remains: DemoRemains, screen: Screen, *, keep_up: bool) -> Iterator[StackState]:
    """The stack, ended at the end if this demo started it, or a killed one before did."""
    found = stack.status()
    state = _up()
    ours = not found.running or state.supervisor == (remains.before and remains.before.supervisor)
    remains.keep(supervisor=state.supervisor if ours else None)
    screen.say(f"\nEmbedded mode {'is up' if found.running else 'started'}", style="bold")
    screen.say(f"  API {state.api_url}/v1")
    try:
        yield state
    finally:
        if ours and not keep_up:
            stack.down()
        remains.keep(supervisor=None)


def _up() -> StackState:
    """On the usual ports, else on free ones: a demo minds no port."""
    try:
        return stack.up()
    except Conflict as error:
        if error.code != "port_taken":
            raise
        return stack.up(emulator_port=0, double_port=0)


def _stack_processes() -> Iterator[int]:
    running = supervisor.read_running(default_home())
    if running is not None:
        yield running.supervisor.pid
        yield from (child.pid for child in running.children.values())


class _Run:
    """The demo's job, from upload to its end."""

    def __init__(self, state: StackState, remains: DemoRemains, screen: Screen) -> None:
        self.connection = Connection(state.api_url, state.api_key, state)
        self.interrupted_at_step: int | None = None
        self._state = state
        self._remains = remains
        self._screen = screen

    def train(self, draft: Draft, *, interrupt: bool) -> tuple[PlanObject, JobObject]:
        """Upload, plan, submit and follow; on the way, take the instance away once. A job that is left is cancelled."""
        with Api(self.connection) as api:
            if self._remains.now.job_id is not None:
                self._screen.say("\nAn earlier demo was cut off.", style="bold")
                self._end_job(api, self._remains.now.job_id)
            request = with_uploads(api, draft, self._screen)
            plan = api.plan(request)
            self._show_plan(plan)
            job = api.create_job(request)
            self._remains.keep(job_id=job.id)
            self._screen.say(f"\nJob {job.id}", style="bold")
            with contextlib.ExitStack() as left_behind:
                # Ctrl-C above all: a job that goes on in the background would slow the next demo.
                left_behind.callback(self._end_job, api, job.id)
                with view_for(self._screen) as view:
                    job = follow(api, job.id, view, on_poll=partial(self._interrupt, api) if interrupt else None)
                left_behind.pop_all()
        self._remains.keep(job_id=None)
        return plan, job

    def _show_plan(self, plan: PlanObject) -> None:
        rows = render.choice_rows(plan.plan, now=time.time())
        self._screen.say()
        self._screen.show(blocks.facts("What this job takes on AWS", rows))
        self._screen.say(
            "\nWhat runs here: the same training job as a process on this machine's CPU, behind a double of "
            "SageMaker's API. Its seconds are billed at the price of that instance: the money is only an example."
        )

    def _interrupt(self, api: Api, job: JobObject) -> None:
        """Once, past the middle, as soon as there is a checkpoint to go on from."""
        progress, attempts = job.spotune.progress, job.spotune.attempts
        if self.interrupted_at_step is not None or progress is None or progress.phase != "training" or not attempts:
            return
        if progress.step < INTERRUPT_AFTER * progress.total_steps or not api.checkpoints(job.id).data:
            return
        order = {"TrainingJobName": attempts[-1].name, "restart_after_seconds": RESTART_SECONDS}
        answer = httpx.post(f"{self._state.double_url}/_double/interrupt", json=order, timeout=10, trust_env=False)
        if answer.is_success:
            self.interrupted_at_step = progress.step
            self._screen.say(f"Spot interruption at step {progress.step}: the instance is taken away.", style="yellow")

    def _end_job(self, api: Api, job_id: str) -> None:
        """Cancel a job and wait for its end, for a while; what does not end stays on record for the next demo."""
        self._screen.say(f"  Cancelling its job {job_id}.")
        deadline = time.monotonic() + CANCEL_PATIENCE_SECONDS
        try:
            while time.monotonic() < deadline:
                if self._cancelled(api, job_id):
                    self._remains.keep(job_id=None)
                    return
                time.sleep(0.5)
        except SpotuneError as error:
            self._screen.note(f"  It could not be cancelled: {error}")

    @staticmethod
    def _cancelled(api: Api, job_id: str) -> bool:
        try:
            return api.cancel(job_id).status in TERMINAL
        except Conflict:
            return api.job(job_id).status in TERMINAL
        except NotFound:
            return True
