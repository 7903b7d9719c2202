from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spotune.cli import demo, demo_report
from spotune.cli.client import Api
from spotune.cli.connection import Connection
from spotune.cli.demo_remains import DemoRemains
from spotune.cli.demo_report import Outcome, bars_of
from spotune.cli.memory import MemoryMeter, memory_of
from spotune.cli.screen import Screen
from spotune.contracts.api import PlanObject
from spotune.contracts.errors import Conflict
from spotune.contracts.scores import Scores
from spotune.contracts.training import Progress, Resume, SampleAnswer
from spotune.local import processes, stack
from spotune.service import views
from tests import factories, tiny_model
from tests.cli.conftest import Run, Service, attempt
from tests.cli.test_errors import stack_state

SAMPLE = SampleAnswer(prompt="Where is my parcel?", reference='{"team": "x"}', base="I am", tuned='{"team": "x"}')


def outcome(tmp_path: Path, **changes: Any) -> Outcome:
    report = factories.report(
        generated_rows=48,
        base=Scores(eval_loss=2.0, perplexity=7.4, exact_match=0.02),
        tuned=Scores(eval_loss=0.1, perplexity=1.1, exact_match=0.95),
        resumes=(Resume(step=12, at=factories.NOW),),
        lost_steps=3,
        lost_seconds=9.0,
        samples=(SAMPLE,),
    )
    job = factories.job(
        state="succeeded",
        finished_at=factories.NOW + 200,
        report=report,
        plan=factories.plan(),
        billed=20_000,
        output_uri="s3://artifacts/acme/jobs/ftjob-abc/output/ftjob-abc-1/output/model/",
    )
    shown = views.job_object(job)
    details = shown.spotune.with_(attempts=(attempt(interruptions=1, training_seconds=180, billed=20_000),))
    values: dict[str, Any] = {
        "job": shown.with_(spotune=details),
        "plan": views.plan_object(factories.prepared()),
        "adapter": tmp_path / "adapters" / "ftjob-abc",
        "set_up_at": factories.NOW,
        "began_at": factories.NOW,
        "ended_at": factories.NOW + 250,
        "peak_bytes": 3_000_000_000,
        "interruption_wanted": True,
        "interrupted_at_step": 15,
        "stack_is_up": False,
        "system_message": "Route the ticket.",
    }
    return Outcome(**{**values, **changes})


def missed(of: Outcome) -> list[str]:
    return [bar.name for bar in bars_of(of) if not bar.kept]


def with_report(of: Outcome, **changes: object) -> Outcome:
    report = of.job.spotune.report
    assert report is not None
    return replace(of, job=of.job.with_(spotune=of.job.spotune.with_(report=report.with_(**changes))))


def test_a_good_demo_misses_no_bar(tmp_path: Path) -> None:
    assert missed(outcome(tmp_path)) == []


def test_every_bar_can_be_missed(tmp_path: Path) -> None:
    good = outcome(tmp_path)
    assert missed(replace(good, ended_at=good.set_up_at + 420)) == ["demo"]
    assert missed(replace(good, job=good.job.with_(finished_at=good.job.created_at + 300))) == ["job"]
    assert missed(replace(good, peak_bytes=4_000_000_000)) == ["peak memory, all processes"]
    assert missed(replace(good, peak_bytes=0)) == ["peak memory, all processes"]
    scores = Scores(eval_loss=1, perplexity=3)
    assert missed(with_report(good, base=scores.with_(exact_match=0.1))) == ["exact match of the base"]
    assert missed(with_report(good, tuned=scores.with_(exact_match=0.8))) == ["exact match of the tuned"]
    assert missed(with_report(good, tuned=scores)) == ["exact match of the tuned"]
    assert missed(with_report(good, generated_rows=39)) == ["answers scored"]
    assert missed(with_report(good, resumes=())) == ["spot interruption"]


def test_a_fresh_clone_has_12_minutes(tmp_path: Path) -> None:
    good = outcome(tmp_path)
    fresh = replace(good, set_up_at=good.began_at - 300, ended_at=good.began_at + 400)
    assert missed(fresh) == []
    assert missed(replace(fresh, ended_at=fresh.set_up_at + 720)) == ["demo, installation included"]


def test_without_an_interruption_none_is_asked_for(tmp_path: Path) -> None:
    calm = with_report(outcome(tmp_path, interruption_wanted=False, interrupted_at_step=None), resumes=())
    assert missed(calm) == []


def test_the_closing_words_hold_what_a_person_wants_to_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo_report.close(outcome(tmp_path), Screen()) == 0
    words = capsys.readouterr().out
    for part in (
        "exact match",
        "95.0%",
        "Where is my parcel?",
        "$0.0200 for 3 min 00 s, of $5.00 allowed",
        "this machine's CPU",
        "3 steps, 9 s (interrupted at step 15, resumed from step 12)",
        "s3://artifacts/acme/jobs/ftjob-abc/output/ftjob-abc-1/output/model/",
        'spotune chat ftjob-abc --system "Route the ticket."',
        "spotune up",
        "pass",
    ):
        assert part in words
    assert "FAIL" not in words
    assert "The job is done" not in words


def test_a_shell_that_does_not_find_the_command_is_told_how_it_will(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", str(tmp_path))
    demo_report.close(outcome(tmp_path), Screen())
    assert f'export PATH="{scripts}:$PATH"' in capsys.readouterr().out
    (tmp_path / "spotune").touch(mode=0o755)
    demo_report.close(outcome(tmp_path), Screen())
    assert "export PATH" not in capsys.readouterr().out


def test_a_slow_machine_is_told_that_its_job_is_done_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo_report.close(outcome(tmp_path, ended_at=factories.NOW + 500), Screen())
    assert "The job is done and its adapter is yours" in capsys.readouterr().out


def test_a_missed_bar_ends_with_1_and_says_which(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = outcome(tmp_path, ended_at=factories.NOW + 500)
    assert demo_report.close(slow, Screen(machine=True)) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["kept"] is False
    assert [bar["name"] for bar in document["bars"] if not bar["kept"]] == ["demo"]


def test_a_second_demo_of_a_home_is_refused_while_one_runs(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        holder = DemoRemains(tmp_path)
        holder.keep(process=processes.mark(other.pid))
        with pytest.raises(Conflict, match="running already"):
            DemoRemains(tmp_path).claim()
        other.communicate(b"\n")
    DemoRemains(tmp_path).claim()


def test_what_a_killed_demo_left_stays_on_record_until_it_is_ended(tmp_path: Path) -> None:
    killed = DemoRemains(tmp_path)
    killed.keep(process=None, job_id="ftjob-left", supervisor=processes.mark(os.getpid()))
    following = DemoRemains(tmp_path)
    following.claim()
    assert following.now.job_id == "ftjob-left"
    assert following.now.supervisor == processes.mark(os.getpid())
    following.keep(supervisor=None)
    following.release()
    assert DemoRemains(tmp_path).before == following.now.with_(process=None)
    following.keep(job_id=None)
    following.release()
    assert not (tmp_path / "demo.json").exists()


@pytest.mark.parametrize("was_up", [True, False])
def test_only_a_stack_that_the_demo_started_is_ended(
    home: Path, monkeypatch: pytest.MonkeyPatch, *, was_up: bool
) -> None:
    ended: list[bool] = []
    state = stack_state(home, "http://127.0.0.1:1")
    monkeypatch.setattr(stack, "status", lambda: stack.Status(was_up, state if was_up else None))
    monkeypatch.setattr(stack, "up", lambda: state)
    monkeypatch.setattr(stack, "down", lambda: ended.append(True))
    remains = DemoRemains(home)
    with (
        contextlib.suppress(KeyboardInterrupt),
        demo._embedded_mode(remains, Screen(machine=True), keep_up=False),
    ):
        assert (remains.now.supervisor is None) == was_up
        raise KeyboardInterrupt
    assert ended == ([] if was_up else [True])
    assert remains.now.supervisor is None


def test_a_stack_that_a_killed_demo_started_is_ended_by_the_next(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    state = stack_state(home, "http://127.0.0.1:1")
    DemoRemains(home).keep(process=None, supervisor=state.supervisor)
    monkeypatch.setattr(stack, "status", lambda: stack.Status(True, state))
    monkeypatch.setattr(stack, "up", lambda: state)
    monkeypatch.setattr(stack, "down", lambda: ended.append(True))
    with demo._embedded_mode(DemoRemains(home), Screen(machine=True), keep_up=False):
        pass
    assert ended == [True]


def test_the_job_of_a_killed_demo_is_cancelled(service: Service, run: Run, home: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(tiny_model.chat_rows(30))
    job_id = run("submit", "--model", tiny_model.NAME, "--training-file", tmp_path / "rows.jsonl", "--json").json["id"]
    remains = DemoRemains(home)
    remains.keep(job_id=job_id)

    run("cancel", job_id)
    service.world.run_queue()
    with Api(Connection(service.url, service.key)) as api:
        here = demo._Run(stack_state(home, service.url), remains, Screen(machine=True))
        here._end_job(api, job_id)
    assert remains.now.job_id is None
    assert run("show", job_id, "--json").json["status"] == "cancelled"


@pytest.mark.parametrize(
    ("progress", "checkpoints", "taken"),
    [
        (Progress(phase="training", step=50, total_steps=100), 1, True),
        (Progress(phase="training", step=44, total_steps=100), 1, False),
        (Progress(phase="training", step=50, total_steps=100), 0, False),
        (Progress(phase="evaluating", step=100, total_steps=100), 1, False),
        (None, 1, False),
    ],
)
def test_the_instance_is_taken_once_past_the_middle_and_never_before_a_checkpoint(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    progress: Progress | None,
    checkpoints: int,
    *,
    taken: bool,
) -> None:
    orders: list[object] = []

    def post(url: str, json: object, **_: object) -> object:
        orders.append(json)
        return type("Answer", (), {"is_success": True})

    class Checkpoints:
        data = tuple(range(checkpoints))

    monkeypatch.setattr(demo.httpx, "post", post)
    api = type("FakeApi", (), {"checkpoints": lambda self, job_id: Checkpoints})()
    job = outcome(tmp_path).job
    job = job.with_(status="running", spotune=job.spotune.with_(state="running", progress=progress))
    here = demo._Run(stack_state(home, "http://127.0.0.1:1"), DemoRemains(home), Screen(machine=True))
    here._interrupt(api, job)
    here._interrupt(api, job)
    assert orders == ([{"TrainingJobName": "ftjob-abc-1", "restart_after_seconds": 5}] if taken else [])


def test_memory_counts_descendants_and_forgets_the_dead() -> None:
    hold = "import sys; held = bytearray(b'x' * 50_000_000); print('held', flush=True); sys.stdin.read()"
    before = memory_of({os.getpid()})
    with (
        MemoryMeter(list) as meter,
        subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child,
    ):
        assert child.stdout is not None
        child.stdout.readline()
        assert memory_of({os.getpid()}) > before + 45_000_000
        assert memory_of({child.pid}) > 45_000_000
        child.communicate(b"")
    assert memory_of({child.pid}) == 0
    assert meter.peak_bytes > 0


def test_the_plan_of_the_demo_is_part_of_its_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo_report.close(outcome(tmp_path), Screen(machine=True))
    PlanObject.model_validate(json.loads(capsys.readouterr().out)["plan"])
