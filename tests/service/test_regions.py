"""A job in a further region: copied for once, paid for once, run there and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from spotune.aws.base import ObjectInfo, TrainingJobRefused
from spotune.contracts import layout
from spotune.contracts.errors import RequestRefused, Unavailable
from spotune.contracts.job import Inputs, JobRecord
from spotune.contracts.market import Quotas
from spotune.contracts.money import month_of
from spotune.contracts.request import JobRequest
from spotune.planner import load_catalog
from spotune.planner.transfer import carriage
from spotune.service import market
from spotune.service.files.uploads import delete
from spotune.service.installation import install
from spotune.service.jobs import checkpoints, inputs, resumption
from spotune.service.jobs.control import cancel
from spotune.service.jobs.observation import observe, progress_of
from spotune.service.jobs.submit import plan, submit
from spotune.service.launch import run_command
from spotune.service.reconcile import reconcile
from spotune.service.views import job_object
from tests import tiny_model
from tests.factories import report
from tests.in_process import World, client_of, world

HOME, AWAY = "us-east-1", "eu-west-1"
WEIGHTS = bytes(range(256)) * 1024
"""Four parts of the twin's copies."""


class Killed(BaseException):
    """The end of a process, which nothing catches."""


@pytest.fixture
def here() -> Iterator[World]:
    made = world(further_regions=(AWAY,))
    install(made.here)
    folder = layout.base_model_uri("models", tiny_model.NAME)
    made.objects.write(folder + "model.safetensors", WEIGHTS)
    yield made
    market._kept.cache_clear()


def make_cheap(here: World, region: str = AWAY, dollars: float = 0.5) -> None:
    """A region whose own prices were read, at this many micro-dollars for each at home."""
    types = load_catalog().instances
    prices = {name: round(spec.on_demand * dollars) for name, spec in types.items() if spec.on_demand}
    values = {"sagemaker_prices": prices, "advisor": dict.fromkeys(types, (70, 0))}
    here.here.place(region).market.values = values  # type: ignore[attr-defined]
    market.refresh_all(here.here)


def request_of(here: World, tenant: str = "acme", **changes: object) -> JobRequest:
    file_id = client_of(here.here, tenant).upload(tiny_model.chat_rows(30))
    body = {"model": tiny_model.NAME, "training_file": file_id, "constraints": {"regions": [AWAY]}, **changes}
    return JobRequest.model_validate(body)


def start(here: World, tenant: str = "acme", **changes: object) -> JobRecord:
    """A job in the further region, up to its training job."""
    job = submit(here.here, tenant, request_of(here, tenant, **changes))
    here.run_queue()
    return kept(here, job)


def kept(here: World, job: JobRecord) -> JobRecord:
    found = here.store.find_job(job.id)
    assert found is not None
    return found


def deliver_again(here: World) -> None:
    """A minute later the reconciler finds what was left."""
    here.clock.now += 61
    reconcile(here.here)
    here.run_queue()


def log_of(here: World, job: JobRecord) -> list[str]:
    return [line.message for line in here.store.list_log(job.tenant, job.id, after=0, limit=100).items]


def copied_model(here: World) -> str:
    (marker,) = (
        one.uri for one in here.objects.list("s3://eu-west-1-models/base/") if one.uri.endswith("spotune.json")
    )
    return marker.removesuffix(layout.MODEL_MARKER)


def test_a_job_runs_where_it_was_planned_with_everything_that_it_reads_and_writes(here: World) -> None:
    job = start(here)
    assert not here.training_jobs.specs
    (spec,) = here.elsewhere[AWAY].specs.values()
    assert spec.image == "123456789012.dkr.ecr.eu-west-1.amazonaws.com/spotune:1"
    uris = (spec.config_uri, spec.training_uri, spec.model_uri, spec.checkpoints_uri, spec.output_uri)
    assert {uri.partition("://")[2].partition("/")[0] for uri in uris} == {
        f"{AWAY}-{x}" for x in ("data", "jobs", "models")
    }
    assert here.objects.read(spec.training_uri) == here.objects.read(job.training_uri)
    assert here.objects.read(spec.model_uri + "model.safetensors") == WEIGHTS
    assert [one.uri for one in here.objects.list(spec.training_uri)] == [spec.training_uri]
    assert job.state == "starting"
    assert job_object(job).spotune.region == AWAY


def test_what_is_seen_and_left_behind_there_is_read_there(here: World) -> None:
    job = start(here)
    name = f"{job.id}-1"
    folder = here.here.job_folder(job)
    output = layout.model_output_uri(folder, name)
    here.objects.write(output + "report.json", report(job_id=job.id).model_dump_json().encode())
    here.objects.write(layout.checkpoints_uri(folder) + "progress.json", b'{"phase": "training", "step": 7}')
    progress = progress_of(here.here, job)
    assert progress is not None
    assert progress.step == 7
    assert checkpoints.list_checkpoints(here.here, "acme", job.id)[1] == ()
    here.elsewhere[AWAY].observe(name, status="Completed", secondary_status="Completed", billable_seconds=100)
    ended = observe(here.here, name)
    assert ended is not None
    assert (ended.state, ended.output_uri) == ("succeeded", output)
    assert output.startswith("s3://eu-west-1-jobs/acme/jobs/")


def test_the_transfer_is_billed_once_and_cap_and_ledger_hold_it(here: World) -> None:
    job = start(here)
    chosen = job.plan.chosen if job.plan else None
    assert chosen is not None
    size = sum(one.bytes for one in here.objects.list("s3://models/base/")) + here.objects.head(job.training_uri).bytes  # type: ignore[union-attr]
    assert chosen.transfer_bytes == size == here.objects.copied_bytes
    assert carriage(HOME, AWAY, size, 0).cost <= chosen.transfer == job.transfer == job.billed
    ledger = here.store.ledger("acme", month_of(here.clock()), limit=0)
    assert (ledger.billed, ledger.reserved) == (job.billed, job.reserved)
    assert job.billed + job.reserved <= job.cap
    assert job.reserved == job.attempts[0].reserved
    here.elsewhere[AWAY].observe(job.attempts[0].name, status="Failed", secondary_status="Failed", billable_seconds=60)
    again = observe(here.here, job.attempts[0].name)
    assert again is not None
    assert again.billed > job.billed
    assert again.transfer == job.transfer
    here.run_queue()
    assert here.objects.copied_bytes == size


def test_a_second_job_copies_only_what_is_its_own(here: World) -> None:
    start(here)
    before = here.objects.copied_bytes
    other = start(here, tenant="other")
    assert here.objects.copied_bytes - before == here.objects.head(other.training_uri).bytes  # type: ignore[union-attr]
    first, second = here.elsewhere[AWAY].specs.values()
    assert first.model_uri == second.model_uri
    assert "/other/" in second.training_uri
    assert "/acme/" in first.training_uri


def test_a_process_killed_in_the_middle_of_the_copy_is_gone_on_with_where_it_stopped(here: World) -> None:
    job = submit(here.here, "acme", request_of(here))
    parts = iter(range(100))

    def kill_at_the_third(source: ObjectInfo) -> None:
        if source.bytes == len(WEIGHTS) and next(parts) == 2:
            raise Killed

    here.objects.before_part = kill_at_the_third
    (message,) = here.queue.take()
    with pytest.raises(Killed):
        run_command(here.here, str(message["job_id"]), str(message["entry_id"]))
    waiting = kept(here, job)
    assert (waiting.state, waiting.waiting_for) == ("queued", "its data to be copied to eu-west-1")
    assert not [one for one in here.objects.list("s3://eu-west-1-models/") if one.uri.endswith("spotune.json")]
    deliver_again(here)
    done = kept(here, job)
    assert (done.state, done.waiting_for) == ("starting", "")
    assert here.objects.copied_bytes == done.plan.chosen.transfer_bytes  # type: ignore[union-attr]
    assert len(here.elsewhere[AWAY].specs) == 1
    assert sum("booked for it" in line for line in log_of(here, job)) == 1
    assert done.billed == done.transfer


@pytest.mark.parametrize("call", range(1, 26))
def test_a_process_killed_before_any_call_to_s3_is_gone_on_with(here: World, call: int) -> None:
    job = submit(here.here, "acme", request_of(here))
    (message,) = here.queue.take()
    calls = iter(range(1, 1000))
    objects = here.here.objects

    class Dying:
        def __getattr__(self, name: str) -> object:
            if next(calls) == call:
                raise Killed
            return getattr(objects, name)

    object.__setattr__(here.here, "objects", Dying())
    try:
        run_command(here.here, str(message["job_id"]), str(message["entry_id"]))
    except Killed:
        pass
    finally:
        object.__setattr__(here.here, "objects", objects)
    deliver_again(here)
    done = kept(here, job)
    assert done.state == "starting"
    assert len(here.elsewhere[AWAY].specs) == 1
    assert here.objects.copied_bytes == done.plan.chosen.transfer_bytes  # type: ignore[union-attr]
    assert done.billed == done.transfer


def test_a_copy_whose_answer_was_lost_is_not_made_again(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job = submit(here.here, "acme", request_of(here))
    copy = here.objects.carry
    lost: list[str] = []

    def losing(source: ObjectInfo, target: str, more_time: object) -> bool:
        answer = copy(source, target, more_time)  # type: ignore[arg-type]
        if source.bytes == len(WEIGHTS) and not lost:
            lost.append(target)
            raise Unavailable("the answer was lost.", code="aws_unavailable")
        return answer

    monkeypatch.setattr(here.objects, "carry", losing)
    (message,) = here.queue.take()
    with pytest.raises(Unavailable):
        run_command(here.here, str(message["job_id"]), str(message["entry_id"]))
    deliver_again(here)
    assert len(lost) == 1
    assert kept(here, job).state == "starting"
    assert here.objects.copied_bytes == kept(here, job).plan.chosen.transfer_bytes  # type: ignore[union-attr]


def test_a_copy_that_takes_longer_than_a_slice_goes_on_in_the_next_one(here: World) -> None:
    job = submit(here.here, "acme", request_of(here))

    def slow(source: ObjectInfo) -> None:
        here.clock.now += 20

    here.objects.before_part = slow
    begun = here.clock.now
    here.run_queue()
    assert here.clock.now - begun <= inputs.SLICE + 20
    assert kept(here, job).state == "queued"
    for _ in range(10):
        deliver_again(here)
    assert kept(here, job).state == "starting"
    assert here.objects.copied_bytes == kept(here, job).plan.chosen.transfer_bytes  # type: ignore[union-attr]
    assert sum("booked for it" in line for line in log_of(here, job)) == 1


@pytest.mark.parametrize("where", ["model", "file"])
def test_a_source_replaced_during_the_copy_ends_the_job_by_name_and_mixes_nothing(here: World, where: str) -> None:
    job = submit(here.here, "acme", request_of(here))
    model = layout.base_model_uri("models", tiny_model.NAME) + "model.safetensors"
    uri = model if where == "model" else job.training_uri
    seen: list[str] = []

    def replace(source: ObjectInfo) -> None:
        seen.append(source.uri)
        if source.uri == uri and seen.count(uri) == (3 if where == "model" else 1):
            here.objects.write(uri, bytes(len(WEIGHTS)))

    here.objects.before_part = replace
    here.run_queue()
    ended = kept(here, job)
    assert ended.state == "failed"
    assert ended.error is not None
    assert (ended.error.code, ended.reserved) == ("inputs_changed", 0)
    assert uri in ended.error.evidence
    assert not here.elsewhere[AWAY].specs
    assert not [one for one in here.objects.list("s3://eu-west-1-models/") if one.uri.endswith("spotune.json")]


def test_a_source_replaced_between_two_slices_ends_the_job_too(here: World) -> None:
    job = submit(here.here, "acme", request_of(here))
    here.objects.before_part = lambda source: setattr(here.clock, "now", here.clock.now + 20)
    here.run_queue()
    assert kept(here, job).state == "queued"
    here.objects.write(layout.base_model_uri("models", tiny_model.NAME) + "model.safetensors", WEIGHTS[::-1])
    deliver_again(here)
    ended = kept(here, job)
    assert ended.error is not None
    assert ended.error.code == "inputs_changed"
    assert "were replaced" in ended.error.evidence
    assert ended.billed == ended.transfer


def test_a_job_interrupted_there_resumes_there_and_never_at_home_even_without_its_sources(here: World) -> None:
    job = start(here)
    here.objects.delete(job.training_uri)
    here.objects.write(layout.base_model_uri("models", tiny_model.NAME) + "model.safetensors", b"another")
    first = here.elsewhere[AWAY].specs[f"{job.id}-1"]
    here.elsewhere[AWAY].observe(first.name, secondary_status="Interrupted", interruptions=1)
    observe(here.here, first.name)
    here.elsewhere[AWAY].observe(
        first.name,
        status="Failed",
        secondary_status="Failed",
        failure_reason="InternalServerError",
        training_seconds=90,
    )
    observe(here.here, first.name)
    here.run_queue()
    second = here.elsewhere[AWAY].specs[f"{job.id}-2"]
    for field in ("training_uri", "model_uri", "checkpoints_uri", "image"):
        assert getattr(second, field) == getattr(first, field)
    assert not here.training_jobs.specs


def test_a_stop_goes_to_the_region_of_the_job(here: World) -> None:
    job = start(here)
    cancel(here.here, "acme", job.id)
    here.run_queue()
    assert here.elsewhere[AWAY].stopped == [f"{job.id}-1"]
    assert here.training_jobs.stopped == []


def test_a_job_cancelled_while_it_is_copied_for_starts_nothing(here: World) -> None:
    job = submit(here.here, "acme", request_of(here))
    cancelled: list[bool] = []

    def cancel_once(source: ObjectInfo) -> None:
        if not cancelled:
            cancelled.append(True)
            cancel(here.here, "acme", job.id)

    here.objects.before_part = cancel_once
    here.run_queue()
    deliver_again(here)
    ended = kept(here, job)
    assert (ended.state, ended.reserved) == ("cancelled", 0)
    assert ended.billed == ended.transfer
    assert not here.elsewhere[AWAY].specs


def test_a_job_cancelled_before_it_is_copied_for_pays_nothing(here: World) -> None:
    job = submit(here.here, "acme", request_of(here))
    cancel(here.here, "acme", job.id)
    here.run_queue()
    ended = kept(here, job)
    assert (ended.state, ended.billed, ended.reserved, ended.transfer) == ("cancelled", 0, 0, None)
    assert here.objects.copied_bytes == 0


def test_quota_that_is_missing_there_does_not_pay_for_the_copy_twice(here: World) -> None:
    here.elsewhere[AWAY].answers.append(TrainingJobRefused("quota", "no"))
    job = start(here)
    assert "quota" in job.waiting_for
    assert (job.billed, job.reserved) == (job.transfer, 0)
    here.clock.now += 400
    reconcile(here.here)
    here.run_queue()
    done = kept(here, job)
    assert done.state == "starting"
    assert done.billed == job.transfer
    assert done.billed + done.reserved <= done.cap


def test_more_than_was_planned_is_never_copied(here: World) -> None:
    start(here)
    job = submit(here.here, "acme", request_of(here))
    model = copied_model(here)
    for one in tuple(here.objects.list(model)):
        here.objects.delete(one.uri)
    before = here.objects.copied_bytes
    here.run_queue()
    ended = kept(here, job)
    assert ended.error is not None
    assert ended.error.code == "inputs_changed"
    assert "were planned" in ended.error.evidence
    assert here.objects.copied_bytes == before


def test_a_file_that_is_deleted_is_deleted_there_too(here: World) -> None:
    request = request_of(here)
    job = submit(here.here, "acme", request)
    here.run_queue()
    (spec,) = here.elsewhere[AWAY].specs.values()
    delete(here.here, "acme", request.training_file)
    assert here.objects.head(spec.training_uri) is None
    assert here.objects.head(job.training_uri) is None
    assert here.objects.head(copied_model(here) + layout.MODEL_MARKER) is not None


def test_the_cheaper_region_is_chosen_of_itself_and_the_plan_says_so(here: World) -> None:
    request = request_of(here, constraints={})
    assert plan(here.here, "acme", request).plan.chosen.region == HOME
    make_cheap(here)
    market._kept.cache_clear()
    prepared = plan(here.here, "acme", request)
    assert prepared.plan.chosen.region == AWAY
    assert prepared.plan.chosen.transfer > 0
    assert not here.objects.copied_bytes


def test_a_region_that_the_installation_lacks_is_refused_with_those_it_has(here: World) -> None:
    with pytest.raises(RequestRefused) as refused:
        submit(here.here, "acme", request_of(here, constraints={"regions": ["ap-south-1"]}))
    assert (refused.value.code, refused.value.param) == ("unknown_region", "constraints.regions")
    assert "us-east-1, eu-west-1" in str(refused.value)


def test_a_region_that_does_not_answer_is_left_out_of_plans(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    make_cheap(here)
    market._kept.cache_clear()
    head = here.objects.head

    def away(uri: str) -> ObjectInfo | None:
        if uri.startswith("s3://eu-west-1"):
            raise Unavailable("no answer.", code="aws_unavailable")
        return head(uri)

    monkeypatch.setattr(here.objects, "head", away)
    assert plan(here.here, "acme", request_of(here, constraints={})).plan.chosen.region == HOME
    with pytest.raises(Unavailable):
        plan(here.here, "acme", request_of(here))


def test_each_market_is_refreshed_for_itself(here: World) -> None:
    here.market.values = {"sagemaker_prices": {"ml.g5.xlarge": 1_500_000}}
    here.here.place(AWAY).market.values = {"sagemaker_prices": {"ml.g5.xlarge": 1_700_000}}  # type: ignore[attr-defined]
    assert [one.region for one in market.refresh_all(here.here)] == [HOME, AWAY]
    for region, price in ((HOME, 1_500_000), (AWAY, 1_700_000)):
        assert market.read_snapshot(here.here, region).quotes["ml.g5.xlarge"].on_demand == price
    assert market.market_of(here.here, AWAY).quotes["ml.g5.xlarge"].on_demand == 1_700_000
    with pytest.raises(RequestRefused, match="us-east-1, eu-west-1"):
        market.market_of(here.here, "mars-north-1")


def test_a_market_that_cannot_be_stored_keeps_no_other_from_it(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    write = here.objects.write

    def away(uri: str, body: bytes) -> None:
        if f"/market/{HOME}/" in uri:
            raise Unavailable("no answer.", code="aws_unavailable")
        write(uri, body)

    monkeypatch.setattr(here.objects, "write", away)
    with pytest.raises(Unavailable, match="us-east-1"):
        market.refresh_all(here.here)
    assert market.read_snapshot(here.here, AWAY).region == AWAY


def test_a_job_of_a_region_that_was_taken_away_is_an_error_with_a_remedy_and_stays_in_the_outbox(here: World) -> None:
    job = submit(here.here, "acme", request_of(here))
    object.__setattr__(here.here, "further", ())
    (message,) = here.queue.take()
    with pytest.raises(Unavailable) as missing:
        run_command(here.here, str(message["job_id"]), str(message["entry_id"]))
    assert missing.value.code == "region_not_configured"
    assert here.store.get_command(job.id, str(message["entry_id"])) is not None
    assert client_of(here.here, "acme").call("GET", f"/v1/fine_tuning/jobs/{job.id}").status == 200


def test_a_job_recorded_without_a_region_runs_at_home(here: World) -> None:
    job = submit(here.here, "acme", request_of(here, constraints={"regions": [HOME]}))
    assert job.plan is not None
    old = job.with_(plan=job.plan.with_(chosen=job.plan.chosen.with_(region="")))
    assert here.here.place(old.region).region == HOME
    assert here.here.job_folder(old).startswith("s3://artifacts/")


def test_the_decided_inputs_are_those_of_whoever_was_first(here: World) -> None:
    job = submit(here.here, "acme", request_of(here))
    other = Inputs(training_uri="s3://x/a", validation_uri=None, model_uri="s3://x/m/")
    here.objects.write(layout.inputs_uri(here.here.job_folder(job)), other.model_dump_json().encode())
    here.run_queue()
    ended = kept(here, job)
    assert ended.error is not None
    assert ended.error.code == "inputs_changed"
    assert here.objects.copied_bytes == 0


def test_what_runs_there_and_is_nobodys_is_stopped_there_and_what_is_a_jobs_is_adopted(here: World) -> None:
    job = start(here)
    (spec,) = here.elsewhere[AWAY].specs.values()
    here.elsewhere[AWAY].create(replace(spec, name="ftjob-nobodys-1"))
    here.training_jobs.create(spec)
    here.elsewhere[AWAY].create(replace(spec, name=f"{job.id}-7"))
    repairs = reconcile(here.here)
    assert here.elsewhere[AWAY].stopped == ["ftjob-nobodys-1", f"{job.id}-7"]
    assert here.training_jobs.stopped == [], "its name is awaited; nobody looks twice"
    assert repairs.orphans_stopped == 2


def test_a_training_job_in_another_region_than_its_jobs_is_an_orphan(here: World) -> None:
    start(here, tenant="other")
    (spec,) = here.elsewhere[AWAY].specs.values()
    job = submit(here.here, "acme", request_of(here))
    here.training_jobs.create(replace(spec, name=f"{job.id}-1"))
    assert reconcile(here.here).orphans_stopped == 1
    assert here.training_jobs.stopped == [f"{job.id}-1"]
    assert not kept(here, job).attempts[0].accepted


def test_quota_is_counted_by_region(here: World) -> None:
    for place, most in ((here.market, 0), (here.here.place(AWAY).market, 1)):
        place.values = {"quotas": {name: Quotas(spot=most, on_demand=most) for name in load_catalog().instances}}  # type: ignore[attr-defined]
    market.refresh_all(here.here)
    first, second = start(here), start(here)
    assert first.state == "starting"
    assert (second.state, second.waiting_for) == ("queued", second.line)
    assert second.line.endswith("(spot in eu-west-1)")


def test_what_another_job_has_copied_meanwhile_is_booked_all_the_same(here: World) -> None:
    file_id = client_of(here.here, "acme").upload(tiny_model.chat_rows(30))
    request = request_of(here, training_file=file_id)
    first = submit(here.here, "acme", request)
    (message,) = here.queue.take()
    found = inputs._copies(here.here, here.here.place(AWAY), "acme", first.model, own_inputs(first))
    inputs._decide(here.here, first, found)  # and then its process dies
    submit(here.here, "acme", request)
    here.run_queue()
    run_command(here.here, str(message["job_id"]), str(message["entry_id"]))
    assert kept(here, first).transfer == kept(here, first).billed > 0


def own_inputs(job: JobRecord) -> Inputs:
    return Inputs(training_uri=job.training_uri, validation_uri=None, model_uri=job.model.uri)


def test_a_retry_goes_on_in_the_region_of_its_checkpoint_or_begins_anew(here: World) -> None:
    job = start(here)
    asked = request_of(here, constraints={})
    limited = resumption._in_the_region_of(here.here, job, asked)
    assert limited.constraints.regions == (AWAY,)
    assert list(resumption._changed_region(here.here, job, limited)) == []
    at_home = request_of(here, constraints={"regions": [HOME]})
    assert list(resumption._changed_region(here.here, job, at_home)) == [f"region: {AWAY} -> {HOME}"]
    object.__setattr__(here.here, "further", ())
    assert resumption._in_the_region_of(here.here, job, asked) is asked
