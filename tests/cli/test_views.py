from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress as Bar

from spotune.cli import render, watch, words
from spotune.cli.client import Api
from spotune.cli.connection import Connection
from spotune.cli.explanation import Explanation, lines
from spotune.cli.screen import Screen
from spotune.cli.watch import LiveView, PlainView, follow
from spotune.contracts.api import JobObject
from spotune.contracts.dataset import Fault
from spotune.contracts.errors import Unavailable
from spotune.contracts.plan import Rejection
from spotune.contracts.training import Progress
from spotune.contracts.verdict import Condition, Verdict
from spotune.service import views
from tests import factories, tiny_model
from tests.cli.conftest import Run, Service, attempt


def running(step: int, **changes: object) -> JobObject:
    progress = Progress(phase="training", step=step, total_steps=100, loss=1.234, tokens_per_second=850, eta_seconds=75)
    return views.job_object(factories.job(state="running", plan=factories.plan(), **changes), progress)


def test_a_pipe_gets_a_line_for_each_tenth_of_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    view = PlainView(Screen(), clock=lambda: factories.NOW)
    for step in range(1, 100):
        view.job(running(step))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[0] == ("running: training, step 1/100, loss 1.234, 850 tokens/s, 1 min 15 s left, $0.0000 so far")


@pytest.mark.parametrize("width", [40, 80, 140])
def test_the_live_bar_fits_every_terminal(width: int) -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=True, no_color=True, _environ={})
    with Bar(*watch.columns(wide=width >= 100), console=console, auto_refresh=False) as bar:
        view = LiveView(bar, wide=width >= 100, clock=lambda: factories.NOW)
        view.job(views.job_object(factories.job(waiting_for="quota for ml.g5.xlarge")))
        view.job(running(50))
        bar.refresh()
    shown = screen.getvalue()
    assert "50 %" in shown
    if width >= 100:
        assert "850 tokens/s" in shown


def test_watching_outlives_a_moment_without_the_api(service: Service, run: Run, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(tiny_model.chat_rows(30))
    job_id = run("submit", "--model", tiny_model.NAME, "--training-file", tmp_path / "rows.jsonl", "--json").json["id"]
    run("cancel", job_id)
    service.world.run_queue()
    away = iter([True] * 7)
    service.refuse = lambda method, path: 503 if next(away, False) else None
    assert run("watch", job_id).code == 6


def test_watching_gives_up_where_the_api_stays_away(service: Service) -> None:
    service.refuse = lambda method, path: 503
    hours = iter(range(100))
    with Api(Connection(service.url, service.key)) as api, pytest.raises(Unavailable):
        follow(api, "ftjob-1", PlainView(Screen()), sleep=lambda _: None, clock=lambda: next(hours) * 3600.0)


def test_what_a_running_attempt_costs_so_far_is_told_by_the_clock() -> None:
    two = attempt(instance_count=2, started_at=factories.NOW)
    job = running(50, attempts=(two,), billed=1000)
    assert words.cost_so_far(job, now=factories.NOW + 3600) == 801_000


def test_rejections_that_share_a_reason_share_a_line() -> None:
    plan = factories.plan(
        rejections=[
            Rejection(instance_type=f"ml.p{number}.xlarge", rule="memory", reason="24 GB needed") for number in range(9)
        ]
        + [Rejection(instance_type=f"ml.g{number}.xlarge", rule="cost", reason=f"$1.{number}") for number in range(20)]
    )
    shown = as_text(render.plan(views.plan_object(factories.prepared(plan=plan)), now=factories.NOW))
    assert shown.count("24 GB needed") == 1
    assert "and 14 more" in shown


def test_a_failed_job_says_why_and_what_to_do() -> None:
    error = {"code": "out_of_memory", "message": "The GPU is full.", "remedy": "Take a larger one.", "evidence": "CUDA"}
    shown = as_text(render.job(views.job_object(factories.job(state="failed", error=error)), now=factories.NOW))
    for part in ("The GPU is full. [out_of_memory]", "Take a larger one.", "CUDA"):
        assert part in shown


def test_text_in_brackets_is_text_and_not_markup() -> None:
    fault = Fault(line=3, field="messages[0]", rule="role", message="[red]oops[/red]", remedy="[bold]")
    shown = as_text(render.dataset(factories.dataset(fault_count=1, faults=(fault,))))
    assert "[red]oops[/red]" in shown
    assert "messages[0]" in shown


@pytest.mark.parametrize(("name", "code"), [("good.jsonl", 0), ("bad.jsonl", 2)])
def test_data_check_ends_as_the_dataset_deserves(run: Run, tmp_path: Path, name: str, code: int) -> None:
    (tmp_path / "good.jsonl").write_bytes(tiny_model.chat_rows(12))
    (tmp_path / "bad.jsonl").write_bytes(tiny_model.chat_rows(2) + b'{"messages": 5}\n')
    assert run("data", "check", tmp_path / name).code == code
    report = run("data", "check", tmp_path / name, "--json").json
    assert [fault["line"] for fault in report["faults"]] == ([3] if code else [])


def test_data_check_counts_tokens_as_the_model_does(run: Run, tmp_path: Path, home: Path) -> None:
    folder = home / "cache" / "models" / tiny_model.NAME
    folder.mkdir(parents=True)
    for name, body in tiny_model.files().items():
        (folder / name).write_bytes(body)
    (tmp_path / "rows.jsonl").write_bytes(tiny_model.chat_rows(12))
    report = run("data", "check", tmp_path / "rows.jsonl", "--model", tiny_model.NAME, "--json").json
    assert report["tokens"]["rows"] == 12
    unknown = run("data", "check", tmp_path / "rows.jsonl", "--model", "no/such", "--json")
    assert (unknown.code, unknown.error["code"]) == (2, "model_not_here")
    assert "hf download" in unknown.error["message"]


def test_a_file_that_is_not_there_is_named(run: Run, tmp_path: Path) -> None:
    answer = run("data", "check", tmp_path / "none.jsonl", "--json")
    assert (answer.code, answer.error["code"]) == (2, "file_unreadable")


@given(st.floats(min_value=0, max_value=1e9))
def test_durations_are_short_and_never_wrong_by_more_than_their_last_unit(seconds: float) -> None:
    said = words.duration(seconds)
    units = {"d": 86_400, "h": 3600, "min": 60, "s": 1}
    parts = said.split()
    value = sum(int(number) * units[unit] for number, unit in zip(parts[::2], parts[1::2], strict=True))
    assert abs(value - seconds) <= units[parts[-1]]


def test_nothing_but_json_goes_to_stdout(service: Service, run: Run, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(tiny_model.chat_rows(30))
    flags = ("--model", tiny_model.NAME, "--training-file", tmp_path / "rows.jsonl")
    job_id = run("submit", *flags, "--json").json["id"]
    for line in (("plan", *flags), ("list",), ("show", job_id), ("cancel", job_id), ("status",), ("down",)):
        assert isinstance(json.loads(run(*line, "--json").out), dict)


def as_text(thing: object, width: int = 160) -> str:
    screen = io.StringIO()
    Console(file=screen, width=width, no_color=True).print(thing)
    return screen.getvalue()


def test_a_plan_in_another_region_names_it_and_what_carrying_costs():
    chosen = factories.plan().chosen.with_(region="eu-west-1", transfer=342_000, transfer_bytes=16_100_000_000)
    plan = factories.plan(chosen=chosen, alternatives=(chosen,))
    shown = as_text(render.plan(views.plan_object(factories.prepared(plan=plan)), now=factories.NOW))
    assert "spot in eu-west-1" in shown
    assert "$0.3420 of the cost: 16.1 GB are copied to eu-west-1 first" in " ".join(shown.split())
    (chosen_line, transfer_line) = lines(Explanation(instance_type=chosen.instance_type, chosen=chosen, rejection=None))
    assert "is the chosen type" in chosen_line
    assert transfer_line.startswith("It runs in eu-west-1: $0.3420 of the cost")


def test_a_plan_at_home_says_nothing_of_regions():
    shown = as_text(render.plan(views.plan_object(factories.prepared()), now=factories.NOW))
    assert "transfer" not in shown


def test_a_job_says_where_its_trackers_have_it_and_what_its_report_warns_of() -> None:
    asked = factories.request(
        integrations=[
            {"type": "tensorboard"},
            {"type": "wandb", "wandb": {"project": "p"}},
            {"type": "mlflow", "mlflow": {"tracking_uri": "https://mlflow.example.com"}},
        ]
    )
    report = factories.report().with_(warnings=("Tracker mlflow: 3 points were dropped.",))
    job = factories.job(request=asked, state="succeeded", output_uri="s3://a/model/", report=report)
    screen = io.StringIO()
    Console(file=screen, width=200).print(render.job(views.job_object(job), now=factories.NOW))
    shown = screen.getvalue()
    assert "tensorboard in s3://a/model/trackers/tensorboard/" in shown
    assert "wandb in s3://a/model/trackers/wandb/" in shown
    assert "mlflow at https://mlflow.example.com" in shown
    assert "Tracker mlflow: 3 points were dropped." in shown
    before = views.job_object(factories.job(request=asked))
    assert words.trackers_words(before) == "mlflow at https://mlflow.example.com"


def test_a_judged_job_shows_the_gates_table() -> None:
    worse = Condition(name="no_slice_worse", subject="billing", wanted="no worse", measured="+0.4", met=False)
    waits = Condition(name="approval", wanted="a person's approval", measured="not yet", met=None)
    verdict = Verdict(decision="reject", conditions=(worse, waits), reason="no_slice_worse")
    job = factories.job(state="succeeded", verdict=verdict, gate_verdict="rejected: no_slice_worse")
    shown = as_text(render.job(views.job_object(job), now=factories.NOW))
    lines = {tuple(line.split()) for line in shown.splitlines()}
    assert ("no_slice_worse", "billing", "no", "worse", "+0.4", "no") in lines
    assert ("approval", "a", "person's", "approval", "not", "yet", "a", "person", "decides") in lines
    assert "Gate: rejected" in shown
