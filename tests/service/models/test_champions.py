"""A job of a group: its champion, what it goes on from, its golden prompts, and what its training job reads."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from spotune.contracts import layout
from spotune.contracts.errors import NotFound, RequestRefused
from spotune.contracts.job import JobRecord
from spotune.contracts.models import ModelFile, ModelGroup, ModelVersion
from spotune.contracts.request import JobRequest
from spotune.contracts.rules import DataManifest, Retraining, RuleRecord, RuleRequest, Selection
from spotune.contracts.scores import GoldenAnswer
from spotune.contracts.training import REPORT_NAME
from spotune.data.golden import MAX_GOLDEN_PROMPTS
from spotune.service.installation import install
from spotune.service.jobs.observation import KEPT_CHARACTERS, observe
from spotune.service.jobs.submit import ByRule, check_recorded, plan, submit
from spotune.service.models.files import delete_files
from tests import tiny_model
from tests.factories import NOW, lineage, model_version, report
from tests.in_process import World, client_of, world

AWAY = "eu-west-1"
GROUP = {"group": "support"}
START = {"group": "support", "start_from": "champion"}
GOLDEN = b'{"prompt": "Which team?", "expected": "billing"}\n'


@pytest.fixture
def here() -> World:
    made = world(further_regions=(AWAY,))
    install(made.here)
    return made


def request_of(here: World, tenant: str = "acme", **changes: object) -> JobRequest:
    file_id = client_of(here.here, tenant).upload(tiny_model.chat_rows(30))
    body = {"model": tiny_model.NAME, "training_file": file_id, "constraints": {"regions": ["us-east-1"]}, **changes}
    return JobRequest.model_validate(body)


def kept(here: World, job: JobRecord) -> JobRecord:
    found = here.store.find_job(job.id)
    assert found is not None
    return found


def start(here: World, **changes: object) -> JobRecord:
    job = submit(here.here, "acme", request_of(here, **changes))
    here.run_queue()
    return kept(here, job)


def log_of(here: World, job: JobRecord) -> str:
    return "\n".join(line.message for line in here.store.list_log(job.tenant, job.id, after=0, limit=100).items)


def refusal(here: World, **changes: object) -> RequestRefused:
    with pytest.raises(RequestRefused) as refused:
        submit(here.here, "acme", request_of(here, **changes))
    assert not here.training_jobs.specs
    return refused.value


def crown(here: World, *, bucket: str = "artifacts", tenant: str = "acme", **adapter: object) -> ModelVersion:
    """Train a first model of the group with this adapter, and make it champion."""
    trained = submit(here.here, tenant, request_of(here, tenant, adapter={"type": "lora", "rank": 4, **adapter}))
    folder = layout.model_output_uri(layout.job_uri(bucket, tenant, trained.id), f"{trained.id}-1")
    files = {"adapter_model.safetensors": b"a" * 700, REPORT_NAME: b"{}", "tokenizer.json": b"{}"}
    for name, body in files.items():
        here.objects.write(folder + name, body)
    version = model_version(
        tenant=tenant,
        status="champion",
        uri=folder,
        files=tuple(registered(here, folder, name) for name in files),
        lineage=lineage(trained.id, base=tiny_model.NAME, base_revision="1", method=adapter.get("type", "lora")),
    )
    group = ModelGroup(name="support", tenant=tenant, created_at=NOW, champion=1, versions=1)
    here.store.commit_group(None, group, ((None, version),))
    here.run_queue()
    here.training_jobs.specs.clear()
    return version


def registered(here: World, folder: str, name: str) -> ModelFile:
    found = here.objects.head(folder + name)
    assert found is not None
    return ModelFile(name=name, bytes=found.bytes, etag=found.etag)


# --- The champion ----------------------------------------------------------------------------------------------


def test_the_champion_of_now_is_compared_with_and_its_files_are_a_channel(here: World) -> None:
    version = crown(here)
    job = start(here, registry=GROUP)
    assert job.champion is not None
    assert (job.champion.name, job.champion.uri, job.champion.start) == (version.name, version.uri, False)
    assert job.champion.bytes == 704
    assert job.config is not None
    assert job.config.champion is not None
    assert (job.config.champion.name, job.config.champion.start) == (version.name, False)
    (spec,) = here.training_jobs.specs.values()
    assert (spec.champion_uri, spec.golden_uri) == (version.uri, None)
    assert f"compared with {version.name}" in log_of(here, job)


def test_a_group_without_a_champion_starts_from_the_base_and_says_so(here: World) -> None:
    job = start(here, registry=START)
    assert (job.champion, job.config and job.config.champion) == (None, None)
    assert "Group support has no champion yet. Training starts from the base model." in log_of(here, job)


def test_another_tenants_group_of_the_same_name_has_nothing_to_do_with_it(here: World) -> None:
    crown(here, tenant="globex")
    assert start(here, registry=GROUP).champion is None


def test_a_champion_of_another_base_is_not_measured_and_the_gate_will_hold(here: World) -> None:
    version = crown(here)
    moved = version.with_(version=1, lineage=version.lineage.with_(base="other/model"))
    here.store.replace_version(here.store.get_version("acme", "support", 1) or version, moved)
    job = start(here, registry=GROUP)
    assert job.champion is not None
    assert job.champion.obstacle == "it was trained from other/model at 1"
    assert job.config is not None
    assert job.config.champion is None
    (spec,) = here.training_jobs.specs.values()
    assert spec.champion_uri is None
    assert "will hold the tuned model" in log_of(here, job)
    ended = completed(here, job)
    assert ended.verdict is not None
    assert (ended.verdict.decision, ended.gate_verdict.partition(":")[0]) == ("hold", "held")
    assert "other/model" in ended.verdict.reason


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_champion_whose_files_are_not_as_they_were_registered_is_neither_measured_nor_gone_on_from(
    here: World, damage: str
) -> None:
    version = crown(here)
    weights = version.uri + "adapter_model.safetensors"
    here.objects.delete(weights) if damage == "missing" else here.objects.write(weights, b"b" * 700)
    job = start(here, registry=GROUP)
    assert job.champion is not None
    assert "adapter_model.safetensors" in job.champion.obstacle
    assert refusal_of_start(here) == ("champion_out_of_reach", "registry.start_from")


def test_a_champion_in_a_region_that_was_taken_away_since_fails_the_job_by_name(here: World) -> None:
    crown(here, bucket=f"{AWAY}-jobs")
    held_back = replace(here.here, further=())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spotune.service.jobs.submit.IN_REQUEST_BYTES", 1)
        asked = request_of(here, registry=GROUP, constraints={})
        job = submit(here.here, "acme", asked)
    assert job.state == "validating"
    check_recorded(held_back, job)
    ended = kept(here, job)
    assert ended.error is not None
    assert ended.error.code == "champion_out_of_reach"


def completed(here: World, job: JobRecord, **changes: object) -> JobRecord:
    name = job.attempts[-1].name
    output = layout.model_output_uri(here.here.job_folder(job), name)
    body = report(job_id=job.id, **changes).model_dump_json().encode()
    here.objects.write(output + REPORT_NAME, body)
    here.training_jobs.observe(name, status="Completed", secondary_status="Completed", billable_seconds=100)
    observe(here.here, name)
    return kept(here, job)


# --- Going on from it ------------------------------------------------------------------------------------------


def test_what_the_request_leaves_open_is_as_the_champion_has_it(here: World) -> None:
    version = crown(here, alpha=6, target_modules="attention")
    job = start(here, registry=START)
    assert job.config is not None
    assert job.config.adapter is not None
    assert (job.config.method, job.config.adapter.rank, job.config.adapter.alpha) == ("lora", 4, 6)
    assert job.config.adapter.target_modules == "attention"
    assert job.config.champion is not None
    assert job.config.champion.start
    said = {one.name: (one.value, one.reason) for one in job.settings}
    assert said["adapter.rank"] == ("4", f"that of {version.name}")
    assert said["adapter.type"] == ("lora", f"that of {version.name}")
    assert f"goes on from {version.name}" in log_of(here, job)


def test_what_agrees_may_be_said_and_dropout_is_free(here: World) -> None:
    crown(here)
    job = start(here, registry=START, adapter={"type": "lora", "rank": 4, "alpha": 8, "dropout": 0.1})
    assert job.config is not None
    assert job.config.adapter is not None
    assert (job.config.adapter.rank, job.config.adapter.dropout) == (4, 0.1)


@pytest.mark.parametrize(
    ("adapter", "field"),
    [
        ({"rank": 8}, "adapter.rank"),
        ({"alpha": 3}, "adapter.alpha"),
        ({"type": "dora"}, "adapter.type"),
        ({"type": "qlora"}, "adapter.type"),
        ({"quantization": "int8"}, "adapter.quantization"),
        ({"target_modules": "attention"}, "adapter.target_modules"),
    ],
)
def test_what_differs_from_the_champion_is_refused_by_name(here: World, adapter: dict[str, object], field: str) -> None:
    crown(here)
    refused = refusal(here, registry=START, adapter=adapter)
    assert (refused.code, refused.param) == ("champion_differs", field)
    assert field in str(refused)


def test_all_that_differs_is_named_at_once(here: World) -> None:
    crown(here)
    refused = refusal(here, registry=START, adapter={"type": "dora", "rank": 8, "alpha": 3})
    assert set(refused.details["differences"]) == {"adapter.type", "adapter.rank", "adapter.alpha"}  # type: ignore[call-overload]


def test_another_revision_of_the_base_is_another_base(here: World) -> None:
    crown(here)
    folder = layout.base_model_uri("models", tiny_model.NAME)
    marker = json.loads(here.objects.read(folder + layout.MODEL_MARKER))
    here.objects.write(folder + layout.MODEL_MARKER, json.dumps({**marker, "revision": "2"}).encode())
    refused = refusal(here, registry=START)
    assert (refused.code, refused.param) == ("champion_differs", "model")


def test_whole_weights_are_gone_on_from_by_the_same_method(here: World) -> None:
    crown(here, type="freeze", rank=16, trained_layers=1)
    job = start(here, registry=START)
    assert job.config is not None
    assert job.config.adapter is not None
    assert (job.config.method, job.config.adapter.trained_layers) == ("freeze", 1)
    assert job.champion is not None
    assert (job.champion.method, job.champion.start) == ("freeze", True)


def test_a_dora_adapter_is_not_measured_over_int8(here: World) -> None:
    crown(here, type="dora")
    job = start(here, registry=GROUP, adapter={"type": "lora", "quantization": "int8"})
    assert job.champion is not None
    assert "int8" in job.champion.obstacle


def test_a_champion_whose_job_is_gone_is_not_gone_on_from(here: World) -> None:
    version = crown(here)
    lost = version.with_(version=1, lineage=version.lineage.with_(job_id="ftjob-gone"))
    here.store.replace_version(here.store.get_version("acme", "support", 1) or version, lost)
    assert refusal(here, registry=START).code == "champion_unknown"
    assert start(here, registry=GROUP).champion is not None, "it can still be compared with"


# --- Regions ---------------------------------------------------------------------------------------------------


def test_a_job_runs_where_the_files_of_its_champion_are(here: World) -> None:
    version = crown(here, bucket=f"{AWAY}-jobs")
    job = start(here, registry=GROUP, constraints={})
    assert job.region == AWAY
    (spec,) = here.elsewhere[AWAY].specs.values()
    assert spec.champion_uri == version.uri, "nothing is copied"


def test_a_champion_that_lies_where_the_job_may_not_run_is_not_measured(here: World) -> None:
    crown(here, bucket=f"{AWAY}-jobs")
    job = start(here, registry=GROUP)
    assert job.champion is not None
    assert job.champion.obstacle == f"its files lie in {AWAY}, where the job may not run"
    assert refusal_of_start(here) == ("champion_out_of_reach", "registry.start_from")


def refusal_of_start(here: World) -> tuple[str, str | None]:
    here.training_jobs.specs.clear()
    refused = refusal(here, registry=START)
    return refused.code, refused.param


def test_champion_and_golden_prompts_are_copied_to_a_job_in_a_further_region(here: World) -> None:
    version = crown(here)
    golden = client_of(here.here, "acme").upload(GOLDEN)
    gate = {"golden_file": golden}
    job = start(here, registry=GROUP, gate=gate, constraints={"regions": [AWAY]})
    (spec,) = here.elsewhere[AWAY].specs.values()
    assert spec.champion_uri is not None
    assert spec.champion_uri.startswith(f"s3://{AWAY}-data/acme/copies/")
    for name in ("adapter_model.safetensors", REPORT_NAME, "tokenizer.json"):
        assert here.objects.read(spec.champion_uri + name) == here.objects.read(version.uri + name)
    assert spec.golden_uri is not None
    assert here.objects.read(spec.golden_uri) == GOLDEN
    assert here.objects.copied_bytes == job.plan.chosen.transfer_bytes  # type: ignore[union-attr]


def test_a_champion_s_copy_that_is_gone_before_another_attempt_is_made_again(here: World) -> None:
    crown(here)
    job = start(here, registry=GROUP, constraints={"regions": [AWAY]})
    first = here.elsewhere[AWAY].specs[f"{job.id}-1"]
    assert first.champion_uri is not None
    here.objects.delete(first.champion_uri + REPORT_NAME)
    ended = {"status": "Failed", "secondary_status": "Failed", "failure_reason": "InternalServerError"}
    here.elsewhere[AWAY].observe(first.name, training_seconds=90, **ended)
    observe(here.here, first.name)
    here.run_queue()
    second = here.elsewhere[AWAY].specs[f"{job.id}-2"]
    assert second.champion_uri == first.champion_uri
    assert here.objects.head(first.champion_uri + REPORT_NAME) is not None


def test_a_champion_whose_files_are_gone_before_they_are_copied_ends_the_job_by_name(here: World) -> None:
    version = crown(here)
    job = submit(here.here, "acme", request_of(here, registry=GROUP, constraints={"regions": [AWAY]}))
    here.objects.delete(version.uri + REPORT_NAME)
    here.run_queue()
    ended = kept(here, job)
    assert ended.error is not None
    assert ended.error.code == "inputs_changed"
    assert version.uri in ended.error.evidence


def test_the_copies_of_a_deleted_version_are_deleted_with_its_files(here: World) -> None:
    version = crown(here)
    start(here, registry=GROUP, constraints={"regions": [AWAY]})
    (spec,) = here.elsewhere[AWAY].specs.values()
    assert spec.champion_uri is not None
    assert list(here.objects.list(spec.champion_uri))
    delete_files(here.here, version)
    assert not list(here.objects.list(version.uri))
    assert not list(here.objects.list(spec.champion_uri))
    assert here.objects.head(spec.training_uri) is not None


# --- Golden prompts --------------------------------------------------------------------------------------------


def test_golden_prompts_are_checked_planned_for_and_a_channel(here: World) -> None:
    golden = client_of(here.here, "acme").upload(GOLDEN)
    job = start(here, gate={"golden_file": golden})
    assert job.golden is not None
    assert job.golden.prompts == 1
    assert job.config is not None
    assert job.config.evaluation.golden
    (spec,) = here.training_jobs.specs.values()
    assert spec.golden_uri == job.golden_uri == job.golden.uri
    assert "1 golden prompts" in log_of(here, job)


def test_a_golden_file_with_faults_is_refused_with_their_lines(here: World) -> None:
    golden = client_of(here.here, "acme").upload(GOLDEN + b'{"prompt": "Which team?"}\n')
    refused = refusal(here, gate={"golden_file": golden})
    assert (refused.param, refused.code) == ("gate.golden_file", "no_expectation")
    assert "line 2" in str(refused)


def test_another_tenants_golden_file_does_not_exist(here: World) -> None:
    golden = client_of(here.here, "globex").upload(GOLDEN)
    with pytest.raises(NotFound) as refused:
        submit(here.here, "acme", request_of(here, gate={"golden_file": golden}))
    assert refused.value.param == "gate.golden_file"


def test_a_plan_says_what_champion_and_golden_prompts_take(here: World) -> None:
    version = crown(here)
    golden = client_of(here.here, "acme").upload(GOLDEN)
    prepared = plan(here.here, "acme", request_of(here, registry=GROUP, gate={"golden_file": golden}))
    said = {one.name: one.value for one in prepared.settings}
    assert (said["champion"], said["golden_prompts"]) == (version.name, "1")
    assert not here.training_jobs.specs


def test_the_answers_of_a_full_golden_file_fit_into_the_record_whatever_they_are(here: World) -> None:
    golden = client_of(here.here, "acme").upload(GOLDEN)
    job = start(here, gate={"golden_file": golden})
    draw = random.Random(7)

    def noise() -> str:
        return "".join(chr(draw.randrange(0x4E00, 0x9FFF)) for _ in range(4000))

    answers = tuple(
        GoldenAnswer(
            line=line, prompt=noise(), expected=noise(), base=noise(), tuned=noise(), base_met=False, tuned_met=True
        )
        for line in range(1, MAX_GOLDEN_PROMPTS + 1)
    )
    ended = completed(here, job, golden=answers)
    assert ended.state == "succeeded"
    assert ended.report is not None
    assert [len(one.tuned) for one in ended.report.golden] == [KEPT_CHARACTERS] * MAX_GOLDEN_PROMPTS
    assert ended.verdict is not None
    assert {one.name: one.measured for one in ended.verdict.conditions}["min_golden"] == "100 of 100 (100.0%)"


# --- Retrainings -----------------------------------------------------------------------------------------------


def test_a_retraining_s_job_knows_its_rule_and_how_many_rows_it_replays(here: World) -> None:
    champion = crown(here)
    uri = "s3://data/acme/rules/rule-1/3/manifest.json"
    manifest = DataManifest(
        rule_id="rule-1",
        tenant="acme",
        retraining=3,
        created_at=NOW,
        entries=(),
        selection=Selection(),
        frozen_sha256="0" * 64,
        rows=30,
        replayed_rows=6,
        uri="s3://data/acme/rules/rule-1/3/training.jsonl",
        sha256="1" * 64,
    )
    here.objects.write(uri, manifest.model_dump_json().encode())
    trigger, source = {"min_rows": 1}, {"uri": "s3://data/acme/new/*"}
    asked = RuleRequest.model_validate(
        {"name": "r", "source": source, "trigger": trigger, "job": {"model": tiny_model.NAME}}
    )
    retraining = Retraining(
        rule_id="rule-1",
        request=asked,
        tenant="acme",
        number=3,
        state="preparing",
        cause="rows",
        after=0,
        through=4,
        created_at=NOW,
        updated_at=NOW,
        cap=1,
        manifest_uri=uri,
    )
    keep(here, retraining)
    job = submit(
        here.here, "acme", request_of(here, registry=GROUP), "rule-1/3", by_rule=ByRule("rule-1/3", champion.name)
    )
    assert job.retraining == "rule-1/3"
    assert job.config is not None
    assert job.config.champion is not None
    assert job.config.champion.replayed_rows == 6


def keep(here: World, retraining: Retraining) -> None:
    """As beginning one would, of a rule that is not needed here."""
    rule = RuleRecord(
        id=retraining.rule_id,
        tenant=retraining.tenant,
        version=1,
        request=retraining.request,
        created_at=NOW,
        updated_at=NOW,
    )
    assert here.store.create_rule(rule)
    here.store.begin_retraining(rule, rule.with_(version=2, live=retraining.number), retraining)
