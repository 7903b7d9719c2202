"""The double killed, ended or damaged, and started again on the same home."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from spotune.contracts.errors import Conflict, Unavailable
from spotune.local.double.server import DoubleServer
from spotune.local.double.settings import Settings
from tests.local.double.conftest import Site, alive, aws, control, on_demand, training_job, until
from tests.local.double.test_process_runner import COUNTER, logged, steps_in_s3

pytestmark = pytest.mark.embedded


@pytest.fixture
def apart(tmp_path: Path, emulator_url: str) -> Iterator[tuple[Site, subprocess.Popen[str]]]:
    """A double as a process of its own, that a test may kill; the site's own server takes over afterwards."""
    site = Site(tmp_path, emulator_url)
    entry_point = shlex.join(site.settings.entry_point)
    command = [
        *(sys.executable, "-m", "spotune.local.double", "--home", str(tmp_path), "--emulator", emulator_url),
        *("--entry-point", entry_point, "--sync-interval", "0.2"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    site.sagemaker = aws("sagemaker", url)
    yield site, process
    process.kill()
    process.wait()
    process.stdout.close()
    site.server.stop()


WITH_PID = "print(json.dumps({'pid': os.getpid()}), flush=True)\n" + COUNTER.replace("\n    ", "\n")


def pid_of(site: Site, name: str) -> int:
    log = site.home / "double/jobs" / name / "logs/algo-1.log"
    lines: list[str] = until(lambda: log.exists() and [x for x in log.read_text().splitlines() if "pid" in x])
    pid: int = json.loads(lines[0])["pid"]
    return pid


def test_a_killed_double_takes_its_processes_with_it_and_its_spot_job_goes_on_after_the_restart(
    apart: tuple[Site, subprocess.Popen[str]],
) -> None:
    site, process = apart
    site.entry_point(WITH_PID)
    site.sagemaker.create_training_job(**training_job("kill-1"))
    until(lambda: steps_in_s3(site, "kill-1"))
    pid = pid_of(site, "kill-1")

    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: not alive(pid))
    synced = steps_in_s3(site, "kill-1")[-1]
    site.start()
    until(lambda: steps_in_s3(site, "kill-1")[-1] > synced)
    site.enough()

    done = site.end("kill-1")
    assert done["TrainingJobStatus"] == "Completed"
    assert "Interrupted" in [entry["Status"] for entry in done["SecondaryStatusTransitions"]]
    assert next(entry["resumed"] for entry in reversed(logged(site, "kill-1")) if "resumed" in entry) > 0
    assert int(site.read("kill-1/output/kill-1/output/model/step")) == steps_in_s3(site, "kill-1")[-1]


def test_an_on_demand_job_of_a_killed_double_fails_as_sagemakers_own_fault_or_is_retried_where_it_asked(
    apart: tuple[Site, subprocess.Popen[str]],
) -> None:
    site, process = apart
    site.entry_point(WITH_PID)
    site.sagemaker.create_training_job(**on_demand("lost-1"))
    retried = on_demand("lost-2", RetryStrategy={"MaximumRetryAttempts": 1})
    site.sagemaker.create_training_job(**retried)
    pid_of(site, "lost-1")
    pid_of(site, "lost-2")
    process.kill()
    process.wait()
    site.enough()
    site.start()
    assert site.end("lost-1")["FailureReason"].startswith("InternalServerError")
    done = site.end("lost-2")
    assert done["TrainingJobStatus"] == "Completed"
    assert "Restarting" in [entry["Status"] for entry in done["SecondaryStatusTransitions"]]


def test_an_orphan_is_ended_by_id_and_start_and_a_stranger_with_its_id_is_not(site: Site) -> None:
    site.entry_point("time.sleep(600)")
    site.sagemaker.create_training_job(**training_job("orphan-1"))
    site.until("orphan-1", "Training")
    until(lambda: control(site, "jobs/orphan-1")["Processes"])
    site.server.stop()
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    state = site.home / "double/state/orphan-1.json"
    job = json.loads(state.read_text())
    started = Path(f"/proc/{orphan.pid}/stat").read_text().rpartition(")")[2].split()[19]
    job["processes"] = [
        {"host": "algo-1", "pid": stranger.pid, "identity": "1"},
        {"host": "algo-2", "pid": orphan.pid, "identity": started},
    ]
    state.write_text(json.dumps(job))
    try:
        site.start()
        assert orphan.wait(5) == -signal.SIGKILL
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_double_that_is_ended_properly_saves_whole_checkpoints_and_leaves_no_process(
    apart: tuple[Site, subprocess.Popen[str]],
) -> None:
    site, process = apart
    site.entry_point(WITH_PID)
    site.sagemaker.create_training_job(**training_job("down-1"))
    until(lambda: steps_in_s3(site, "down-1"))
    pid = pid_of(site, "down-1")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert not alive(pid)
    written = len(list((site.home / "double/jobs/down-1/ml/checkpoints").glob("*/manifest.json")))
    assert len(steps_in_s3(site, "down-1")) == written


def test_time_in_which_the_double_was_down_is_not_billed(site: Site) -> None:
    site.entry_point("time.sleep(600)")
    site.sagemaker.create_training_job(**training_job("bill-1"))
    site.until("bill-1", "Training")
    site.server.stop()
    hour_ago = time.time() - 3600
    os.utime(site.home / "double/alive", (hour_ago, hour_ago))
    state = site.home / "double/state/bill-1.json"
    job = json.loads(state.read_text())
    job["billing_since"] = hour_ago - 10
    state.write_text(json.dumps(job))
    site.start()
    assert 10 <= site.describe("bill-1")["TrainingTimeInSeconds"] <= 15


def test_finished_jobs_and_their_names_outlive_a_restart(site: Site) -> None:
    site.entry_point("pass")
    site.sagemaker.create_training_job(**training_job("once-1"))
    before = site.end("once-1")
    site.server.stop()
    site.start()
    assert without_metadata(site.describe("once-1")) == without_metadata(before)
    with pytest.raises(ClientError) as refused:
        site.sagemaker.create_training_job(**training_job("once-1"))
    assert refused.value.response["Error"]["Code"] == "ResourceInUse"


def test_a_damaged_state_file_is_set_aside_and_its_name_stays_taken(site: Site) -> None:
    site.entry_point("pass")
    for name in ("whole-1", "torn-1"):
        site.sagemaker.create_training_job(**training_job(name))
        site.end(name)
    site.server.stop()
    (site.home / "double/state/torn-1.json").write_text('{"name": "torn-1", "tr')
    site.start()
    assert site.describe("whole-1")["TrainingJobStatus"] == "Completed"
    with pytest.raises(ClientError, match="torn-1 exists"):
        site.sagemaker.create_training_job(**training_job("torn-1"))


def test_a_second_double_on_the_same_home_is_refused(site: Site) -> None:
    with pytest.raises(Conflict) as refused:
        DoubleServer(site.settings).start()
    assert refused.value.code == "double_running"


def test_a_taken_port_is_refused_by_name_and_the_home_is_free_again(site: Site, tmp_path: Path) -> None:
    port = int(site.server.url.rpartition(":")[2])
    other = Settings(home=tmp_path / "other", emulator_url=site.settings.emulator_url)
    with pytest.raises(Unavailable, match=str(port)) as refused:
        DoubleServer(other, port).start()
    assert refused.value.code == "port_taken"
    server = DoubleServer(other)
    server.start()
    server.stop()


def without_metadata(answer: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}
