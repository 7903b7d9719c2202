"""The state machine on a virtual clock: times, order, limits, money."""

from __future__ import annotations

import itertools
import math
import time
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.local.double.capacity import Trace
from spotune.local.double.faults import ServiceError
from spotune.local.double.quotas import Quotas
from spotune.local.double.scripted_runner import Script, ScriptedDouble
from spotune.local.double.settings import Timing
from spotune.planner.catalog import load_catalog
from tests.local.double.conftest import on_demand, training_job

TIMING = Timing(starting=30, capacity_retry=60, capacity_patience=3600, stop_grace=120)


def double_for(script: Script, **options: Any) -> ScriptedDouble:
    return ScriptedDouble(lambda request: script, timing=TIMING, **options)


def describe(double: ScriptedDouble, name: str) -> dict[str, Any]:
    return double.describe_training_job({"TrainingJobName": name})


def path(description: dict[str, Any]) -> list[str]:
    return [entry["Status"] for entry in description["SecondaryStatusTransitions"]]


def test_a_thousand_jobs_with_interruptions_take_a_few_seconds_at_most() -> None:
    double = double_for(Script(duration=3600, interruptions=(600.0, 1800.0)), quotas=Quotas(default=10_000))
    began = time.process_time()
    for number in range(1000):
        double.create_training_job(training_job(f"job-{number}", StoppingCondition=_limits(40_000, 80_000)))
        double.advance(1)
    double.advance(7200)
    assert {(job.status, job.interruptions) for job in double.jobs()} == {("Completed", 2)}
    assert time.process_time() - began < 6


def test_an_interrupted_job_bills_every_launch_from_downloading_on_and_not_the_wait_between() -> None:
    script = Script(duration=1000, interruptions=(500,), save_interval=300, restart_after=77, download=60, upload=10)
    double = double_for(script)
    double.create_training_job(training_job("j"))
    double.advance(10_000)
    done = describe(double, "j")
    assert path(done) == [
        *("Starting", "Downloading", "Training", "Interrupted"),
        *("Starting", "Downloading", "Training", "Uploading", "Completed"),
    ]
    # 60 download + 500 work, of which 300 were saved; then 60 download + 700 work + 10 upload
    assert done["TrainingTimeInSeconds"] == 560 + 770
    catalog = load_catalog()
    spot, full = catalog.spot_price("ml.g5.xlarge"), catalog.instances["ml.g5.xlarge"].on_demand
    assert spot is not None
    assert full is not None
    assert done["BillableTimeInSeconds"] == math.ceil((560 + 770) * spot / full)
    assert done["TrainingEndTime"] - done["CreationTime"] == 30 + 560 + 77 + 30 + 770


def test_transitions_are_gapless_and_only_the_last_of_a_live_job_is_open() -> None:
    double = double_for(Script(interruptions=(100,)))
    double.create_training_job(training_job("j"))
    double.advance(150)
    entries = describe(double, "j")["SecondaryStatusTransitions"]
    assert all(left["EndTime"] == right["StartTime"] for left, right in itertools.pairwise(entries))
    assert "EndTime" not in entries[-1]


def test_max_runtime_counts_all_launches_and_ends_in_stopped_with_the_model_uploaded() -> None:
    script = Script(duration=5000, interruptions=(400,), save_interval=100, restart_after=1000, download=0, stop=5)
    double = double_for(script)
    double.create_training_job(training_job("j", StoppingCondition=_limits(600, 10_000)))
    double.advance(10_000)
    done = describe(double, "j")
    assert (done["TrainingJobStatus"], done["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert done["TrainingTimeInSeconds"] == 600 + 5 + 10
    assert done["ModelArtifacts"]["S3ModelArtifacts"].endswith("/j/output/model/")


def test_a_container_that_ignores_the_stop_is_killed_after_the_grace() -> None:
    double = double_for(Script(duration=5000, stop=inf))
    double.create_training_job(on_demand("j"))
    double.advance(200)
    double.stop_training_job({"TrainingJobName": "j"})
    double.advance(119)
    assert describe(double, "j")["SecondaryStatus"] == "Stopping"
    double.advance(12)
    done = describe(double, "j")
    assert (done["TrainingJobStatus"], done["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert "FailureReason" not in done


def test_a_spot_job_without_capacity_is_pending_until_max_wait_and_costs_nothing() -> None:
    double = double_for(Script())
    double.capacity.set_available("ml.g5.xlarge", False)
    double.create_training_job(training_job("j", StoppingCondition=_limits(3600, 7200)))
    double.advance(7199)
    assert describe(double, "j")["SecondaryStatus"] == "Pending"
    double.advance(1)
    done = describe(double, "j")
    assert (done["TrainingJobStatus"], done["SecondaryStatus"]) == ("Stopped", "MaxWaitTimeExceeded")
    assert "BillableTimeInSeconds" not in done
    assert "TrainingStartTime" not in done


def test_an_on_demand_job_without_capacity_fails_with_capacity_error_after_its_pending_time() -> None:
    double = double_for(Script())
    double.capacity.set_available("ml.g5.xlarge", False)
    limits = {"MaxRuntimeInSeconds": 3600, "MaxPendingTimeInSeconds": 1800}
    double.create_training_job(on_demand("j", StoppingCondition=limits))
    double.advance(1800)
    assert describe(double, "j")["SecondaryStatus"] == "Pending"
    double.advance(120)
    assert describe(double, "j")["FailureReason"].startswith("CapacityError: Unable to provision requested ML compute")


def test_the_first_preferred_type_with_capacity_is_selected() -> None:
    double = double_for(Script())
    double.capacity.set_available("ml.g5.xlarge", False)
    preferences = [{"InstanceType": "ml.g5.xlarge"}, {"InstanceType": "ml.g6.xlarge"}]
    resources = {"InstancePreferences": preferences, "InstanceCount": 1, "VolumeSizeInGB": 50}
    double.create_training_job(on_demand("j", ResourceConfig=resources))
    double.advance(10_000)
    assert describe(double, "j")["ResourceConfig"]["SelectedInstanceType"] == "ml.g6.xlarge"


def test_a_stop_before_there_were_instances_ends_the_job_at_once() -> None:
    double = double_for(Script())
    double.create_training_job(training_job("j"))
    double.stop_training_job({"TrainingJobName": "j"})
    assert describe(double, "j")["TrainingJobStatus"] == "Stopped"
    with pytest.raises(ServiceError, match="is in status Stopped"):
        double.stop_training_job({"TrainingJobName": "j"})


def test_a_stop_while_an_interruption_waits_ends_as_stopped() -> None:
    double = double_for(Script(duration=1000, interruptions=(100,), restart_after=500))
    double.create_training_job(training_job("j"))
    double.advance(300)
    assert describe(double, "j")["SecondaryStatus"] == "Interrupted"
    double.stop_training_job({"TrainingJobName": "j"})
    assert describe(double, "j")["SecondaryStatus"] == "Stopped"


def test_a_failed_container_names_its_words_cut_at_1024_characters_and_its_exit_code() -> None:
    double = double_for(Script(exit_code=2, failure="x" * 3000))
    double.create_training_job(on_demand("j"))
    double.advance(10_000)
    done = describe(double, "j")
    assert done["FailureReason"] == f"AlgorithmError: {'x' * 1024}, exit code: 2"
    assert path(done)[-2:] == ["Uploading", "Failed"]
    assert "ModelArtifacts" not in done


def test_a_channel_that_vanished_fails_the_job_as_a_client_error() -> None:
    double = double_for(Script(missing_input="s3://b/gone"))
    double.create_training_job(on_demand("j"))
    double.advance(1000)
    assert describe(double, "j")["FailureReason"].startswith("ClientError: Data download failed")


def test_spot_capacity_along_a_trace_interrupts_and_starts_jobs() -> None:
    double = double_for(Script(duration=1500, save_interval=100, download=0))
    double.capacity.follow("ml.g5.xlarge", Trace(100, [(1, 10), (0, 20), (1, 30)]), double.clock.now())
    double.create_training_job(training_job("j", StoppingCondition=_limits(36_000, 72_000)))
    double.advance(5900)
    done = describe(double, "j")
    interrupted = next(e for e in done["SecondaryStatusTransitions"] if e["Status"] == "Interrupted")
    assert interrupted["StartTime"] - done["CreationTime"] == 1000
    resumed = [e for e in done["SecondaryStatusTransitions"] if e["Status"] == "Downloading"][1]
    assert 3000 <= resumed["StartTime"] - done["CreationTime"] <= 3000 + TIMING.capacity_retry
    assert done["TrainingJobStatus"] == "Completed"


def test_only_running_spot_jobs_can_be_interrupted() -> None:
    double = double_for(Script())
    double.create_training_job(on_demand("j"))
    double.advance(100)
    with pytest.raises(ServiceError, match="on-demand"):
        double.interrupt("j")


def test_every_change_of_state_is_published_in_order_with_times_in_milliseconds() -> None:
    seen: list[tuple[str, str]] = []
    times: list[int] = []

    def publish(arn: str, detail: dict[str, Any]) -> None:
        seen.append((arn.rpartition("/")[2], detail["SecondaryStatus"]))
        times.append(detail["LastModifiedTime"])

    double = double_for(Script(), publish=publish)
    double.create_training_job(training_job("j", Tags=[{"Key": "spotune:tenant", "Value": "a"}]))
    double.advance(10_000)
    assert seen == [("j", s) for s in ("Starting", "Downloading", "Training", "Uploading", "Completed")]
    assert times == sorted(times)
    assert times[0] == int(describe(double, "j")["CreationTime"] * 1000)


@given(
    duration=st.floats(1, 5000),
    interruptions=st.lists(st.floats(0, 5000), max_size=4),
    stop_at=st.none() | st.floats(0, 5000),
    max_runtime=st.integers(1, 4000),
    exit_code=st.sampled_from([0, 0, 1, 3]),
)
def test_every_job_ends_once_in_a_final_state_and_never_bills_past_its_limits(
    duration: float, interruptions: list[float], stop_at: float | None, max_runtime: int, exit_code: int
) -> None:
    script = Script(duration=duration, interruptions=tuple(interruptions), exit_code=exit_code)
    ends: list[str] = []

    def publish(arn: str, detail: dict[str, Any]) -> None:
        if detail["TrainingJobStatus"] in ("Completed", "Failed", "Stopped"):
            ends.append(detail["TrainingJobStatus"])

    double = double_for(script, publish=publish)
    double.create_training_job(training_job("j", StoppingCondition=_limits(max_runtime, 20_000)))
    if stop_at is not None:
        double.advance(stop_at)
        if describe(double, "j")["TrainingJobStatus"] == "InProgress":
            double.stop_training_job({"TrainingJobName": "j"})
    double.advance(30_000)
    done = describe(double, "j")
    assert ends == [done["TrainingJobStatus"]]
    assert done.get("TrainingTimeInSeconds", 0) <= max_runtime + TIMING.stop_grace + script.upload + 1
    assert all("EndTime" in entry for entry in done["SecondaryStatusTransitions"])


def _limits(runtime: int, wait: int) -> dict[str, int]:
    return {"MaxRuntimeInSeconds": runtime, "MaxWaitTimeInSeconds": wait}
