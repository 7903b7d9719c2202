"""Installations taken away from a real CloudFormation: their data kept, taken over again, or deleted."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError

from spotune.contracts.errors import Conflict, NotFound
from spotune.deploy import deployment, destruction, kept, keys, templates
from spotune.deploy.installation import Installation
from spotune.deploy.stacks import CAPABILITIES
from tests.deploy.conftest import AWAY, BAD, REGION, Killed, Make, answering, ask, drawer_of, killed_after, listening
from tests.polling import wait_for

pytestmark = pytest.mark.embedded

Aws = Callable[..., Any]


def silent(_: str) -> None:
    """Nobody waits."""


def deploy(installation: Installation, code: Path) -> deployment.Deployed:
    return deployment.deploy(installation, code, silent)


def destroy(installation: Installation, *, delete_data: bool = False, stop_jobs: bool = False) -> tuple[kept.Kept, ...]:
    return destruction.destroy(installation, silent, delete_data=delete_data, stop_jobs=stop_jobs)


def held(aws: Aws, stage: str) -> set[str]:
    """What there is of an installation's data, in any state."""
    named = f"spotune-{stage}-"
    found = [one["Name"] for region in (REGION, AWAY) for one in aws("s3", region).list_buckets()["Buckets"]]
    found += aws("dynamodb").list_tables()["TableNames"]
    found += [one["Name"] for one in aws("secretsmanager").list_secrets()["SecretList"]]
    return {name for name in found if name.startswith(named)}


def noted(installation: Installation) -> list[kept.Kept]:
    drawer = drawer_of(installation)
    return kept.noted(drawer)


def test_data_is_kept_and_the_next_deployment_takes_it_over(install: Make, aws: Aws, aws_url: str, code: Path) -> None:
    installation = install("lasting", further_regions=(AWAY,))
    first = deploy(installation, code)
    assert first.key is not None
    s3, bucket = aws("s3"), first.outputs["DataBucket"]
    s3.put_object(Bucket=bucket, Key="team/rows.jsonl", Body=b"old")
    s3.put_object(Bucket=bucket, Key="team/rows.jsonl", Body=b"new")
    away = f"spotune-lasting-000000000000-{AWAY}-data"
    aws("s3", AWAY).put_object(Bucket=away, Key="team/copy", Body=b"there")
    before = held(aws, "lasting")

    left = destroy(installation)

    assert {thing.id for thing in left} <= before
    assert {thing.type for thing in left} == {*kept._IDENTIFIERS, kept.SECRET}
    assert held(aws, "lasting") == before
    assert (installation.home.status(), installation.further(AWAY).status()) == (None, None)
    assert aws("lambda").list_functions()["Functions"] == []

    again = deploy(installation, code)

    assert again.key is None
    assert {again.outputs[name] == first.outputs[name] for name in ("Table", "DataBucket", "ModelsBucket")} == {True}
    assert ask(aws_url, again.outputs, first.key) == 200
    assert s3.get_object(Bucket=bucket, Key="team/rows.jsonl")["Body"].read() == b"new"
    assert aws("s3", AWAY).get_object(Bucket=away, Key="team/copy")["Body"].read() == b"there"
    assert held(aws, "lasting") == before
    assert deploy(installation, code).changed is False


def test_what_was_deleted_by_hand_meanwhile_is_made_anew(install: Make, aws: Aws, code: Path) -> None:
    installation = install("thinned")
    first = deploy(installation, code)
    destroy(installation)
    destruction._empty_bucket(aws("s3"), first.outputs["ModelsBucket"], lambda: None)
    aws("s3").delete_bucket(Bucket=first.outputs["ModelsBucket"])
    again = deploy(installation, code)
    same = {name: again.outputs[name] == first.outputs[name] for name in ("Table", "DataBucket", "ModelsBucket")}
    assert same == {"Table": True, "DataBucket": True, "ModelsBucket": False}
    assert noted(installation) == []


@pytest.mark.parametrize(("operation", "code_of_refusal"), [("HeadBucket", "403"), ("DescribeTable", "LimitExceeded")])
def test_what_aws_does_not_say_is_gone_is_never_put_aside(
    install: Make, aws: Aws, code: Path, operation: str, code_of_refusal: str
) -> None:
    installation = install(f"veiled{operation.lower()[:4]}")
    first = deploy(installation, code)
    left = destroy(installation)
    with answering(operation, code_of_refusal), pytest.raises(Conflict, match=code_of_refusal) as refusal:
        deploy(installation, code)
    assert refusal.value.code == "kept_data_unclear"
    assert (installation.home.status(), noted(installation)) == (None, [*left])
    again = deploy(installation, code)
    assert {again.outputs[name] == first.outputs[name] for name in ("Table", "DataBucket", "ModelsBucket")} == {True}
    assert noted(installation) == []


def test_what_a_stack_that_failed_holds_is_taken_over_by_the_next(
    install: Make, aws: Aws, code: Path, tmp_path: Path
) -> None:
    installation = install("stranded")
    deployment._bring_up(installation, deployment._code(installation), silent, None)
    drawer = drawer_of(installation)
    drawer.put(code, code.name)
    parameters, bad = deployment._home(installation, drawer, code).parameters, tmp_path / "bad.yaml"
    late = BAD.replace("    Properties:", "    DependsOn: [DataBucket, Table]\n    Properties:")
    bad.write_text(templates.INSTALLATION.read_text().replace("\nResources:\n", late, 1))
    aws("cloudformation").create_stack(
        StackName="spotune-stranded",
        TemplateURL=drawer.url(drawer.put(bad, bad.name)),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=CAPABILITIES,
        OnFailure="DO_NOTHING",
    )
    assert installation.home.rest(silent) == "CREATE_FAILED"
    bucket = next(id_ for name, _, id_ in installation.home.resources() if name == "DataBucket")
    aws("s3").put_object(Bucket=bucket, Key="team/rows.jsonl", Body=b"theirs")

    made = deploy(installation, code)

    assert made.outputs["DataBucket"] == bucket
    assert aws("s3").get_object(Bucket=bucket, Key="team/rows.jsonl")["Body"].read() == b"theirs"
    assert noted(installation) == []


def test_kept_data_whose_place_is_taken_stops_the_deployment_and_stays_noted(
    install: Make, aws: Aws, code: Path
) -> None:
    installation = install("displaced")
    deploy(installation, code)
    drawer = drawer_of(installation)
    aws("s3").create_bucket(Bucket="spotune-displaced-old")
    old = kept.Kept("DataBucket", "AWS::S3::Bucket", "spotune-displaced-old", REGION, "spotune-displaced")
    kept.note(drawer, [old])
    with pytest.raises(Conflict, match="spotune-displaced-old") as refusal:
        deploy(installation, code)
    assert refusal.value.code == "kept_data_displaced"
    assert noted(installation) == [old]
    aws("s3").delete_bucket(Bucket="spotune-displaced-old")
    deploy(installation, code)
    assert noted(installation) == []


def test_nobody_deletes_the_stack_by_mistake_unless_the_settings_say_so(install: Make, aws: Aws, code: Path) -> None:
    installation = install("guarded")
    deploy(installation, code)
    with pytest.raises(ClientError, match="TerminationProtection"):
        aws("cloudformation").delete_stack(StackName="spotune-guarded")
    deploy(install("guarded", deletion_protection=False), code)
    aws("cloudformation").delete_stack(StackName="spotune-guarded")


def test_a_kept_secret_gives_its_value_to_the_new_one(install: Make, aws: Aws, code: Path) -> None:
    # The emulator would call the new secret as the old one. AWS appends random letters, as is done by hand here.
    installation, secrets = install("secretive"), aws("secretsmanager")
    deploy(installation, code)
    destroy(installation)
    drawer = drawer_of(installation)
    old = secrets.create_secret(Name="spotune-secretive-old", SecretString="what webhooks are signed with")["ARN"]
    drawer.revise(
        kept.NOTE,
        lambda noted: [entry if entry["type"] != kept.SECRET else {**entry, "id": old} for entry in noted],
    )
    with (
        answering("GetSecretValue", "DecryptionFailure"),
        pytest.raises(Conflict, match="DecryptionFailure") as refusal,
    ):
        deploy(installation, code)
    assert refusal.value.code == "kept_data_unclear"
    assert old in [thing.id for thing in noted(installation)]
    with killed_after("PutSecretValue"):
        deploy(installation, code)
    deploy(installation, code)
    new = next(id_ for _, kind, id_ in installation.home.resources() if kind == kept.SECRET)
    assert secrets.get_secret_value(SecretId=new)["SecretString"] == "what webhooks are signed with"
    assert secrets.describe_secret(SecretId=old)["DeletedDate"] is not None
    assert noted(installation) == []


def test_of_two_kept_secrets_the_one_that_was_in_use_gives_its_value(install: Make, aws: Aws, code: Path) -> None:
    installation, secrets = install("twofold"), aws("secretsmanager")
    deploy(installation, code)
    destroy(installation)
    drawer = drawer_of(installation)
    # The second is of a deployment that was cut off before it took the first one's value over.
    values = {"used": "what webhooks are signed with", "random": "what nobody has seen"}
    ids = [
        secrets.create_secret(Name=f"spotune-twofold-{name}", SecretString=text)["ARN"] for name, text in values.items()
    ]

    def doubled(noted: list[dict[str, str]]) -> list[dict[str, str]]:
        (secret,) = [entry for entry in noted if entry["type"] == kept.SECRET and entry["name"] == "SigningSecret"]
        return [*(entry for entry in noted if entry is not secret), *({**secret, "id": id_} for id_ in ids)]

    drawer.revise(kept.NOTE, lambda noted: noted if ids[0] in {one["id"] for one in noted} else doubled(noted))
    deploy(installation, code)
    new = next(id_ for name, _, id_ in installation.home.resources() if name == "SigningSecret")
    assert secrets.get_secret_value(SecretId=new)["SecretString"] == "what webhooks are signed with"
    assert noted(installation) == []


def test_all_of_it_goes_and_the_other_stage_stays(install: Make, aws: Aws, aws_url: str, code: Path) -> None:
    installation, other = install("going", further_regions=(AWAY,)), install("staying")
    made, stays = deploy(installation, code), deploy(other, code)
    assert stays.key is not None
    aws("s3").put_object(Bucket=made.outputs["DataBucket"], Key="a", Body=b"1")
    aws("s3").put_object(Bucket=made.outputs["DataBucket"], Key="a", Body=b"2")
    aws("s3").delete_object(Bucket=made.outputs["DataBucket"], Key="a")
    upload = aws("s3").create_multipart_upload(Bucket=made.outputs["DataBucket"], Key="b")
    assert upload["UploadId"]
    before = held(aws, "staying")

    assert destroy(installation, delete_data=True) == ()

    assert held(aws, "going") == set()
    assert [stack.status() for stack in (installation.home, installation.code, installation.further(AWAY))] == [
        None
    ] * 3
    assert held(aws, "staying") == before
    assert ask(aws_url, stays.outputs, stays.key) == 200
    with pytest.raises(NotFound) as refusal:
        destroy(installation, delete_data=True)
    assert refusal.value.code == "not_deployed"


def test_what_an_earlier_one_has_kept_can_be_deleted_later(install: Make, aws: Aws, code: Path) -> None:
    installation = install("later")
    deploy(installation, code)
    destroy(installation)
    assert held(aws, "later")
    destroy(installation, delete_data=True)
    assert held(aws, "later") == set()


@pytest.mark.parametrize("operation", ["PutObject", "DeleteStack", "DeleteBucket", "DeleteTable"])
def test_a_destruction_that_is_killed_anywhere_is_completed_by_the_next(
    install: Make, aws: Aws, code: Path, operation: str
) -> None:
    stage = f"cut{operation.lower()[-6:]}"
    installation = install(stage)
    deploy(installation, code)
    with killed_after(operation):
        destroy(installation, delete_data=True)
    destroy(installation, delete_data=True)
    assert held(aws, stage) == set()
    assert installation.code.status() is None


def test_running_jobs_hold_it_back_and_go_on(
    install: Make, aws: Aws, aws_url: str, code: Path, waiting_job: Callable[..., None]
) -> None:
    installation = install("running")
    made = deploy(installation, code)
    waiting_job("ftjob-of-running-1", "running")
    waiting_job("ftjob-of-another-1", "another")
    source, looks = destruction._launching(installation)["LaunchFunctionCommands"], []

    def state() -> str:
        return str(aws("lambda").get_event_source_mapping(UUID=source)["State"])

    def look(**_: object) -> None:
        looks.append(state())

    with listening("after-call.sagemaker.ListTrainingJobs", look), pytest.raises(Conflict) as refusal:
        destroy(installation)
    assert set(looks) == {"Disabled"}
    assert state() == "Enabled"
    assert refusal.value.details["jobs"] == ["ftjob-of-running-1"]
    assert installation.home.status() == "CREATE_COMPLETE"
    assert ask(aws_url, made.outputs, made.key or "") == 200


def test_told_so_it_stops_its_own_jobs_and_nobody_elses(
    install: Make, aws: Aws, code: Path, waiting_job: Callable[..., None]
) -> None:
    installation = install("stopping")
    deploy(installation, code)
    waiting_job("ftjob-of-stopping-1", "stopping")
    waiting_job("ftjob-of-a-third-1", "third")
    destroy(installation, stop_jobs=True)

    def status(name: str) -> str:
        return str(aws("sagemaker").describe_training_job(TrainingJobName=name)["TrainingJobStatus"])

    assert (status("ftjob-of-stopping-1"), status("ftjob-of-a-third-1")) == ("Stopped", "InProgress")
    assert installation.home.status() is None


def test_a_job_that_is_being_stopped_holds_it_back_as_well(
    install: Make, aws: Aws, code: Path, waiting_job: Callable[[str, str], None]
) -> None:
    installation = install("ending")
    deploy(installation, code)
    waiting_job("ftjob-of-ending-1", "ending")

    def listed(params: dict[str, Any], **_: object) -> tuple[AWSResponse, dict[str, Any]]:
        stopping = json.loads(params["body"])["StatusEquals"] == "Stopping"
        names = [{"TrainingJobName": "ftjob-of-ending-1"}] if stopping else []
        return AWSResponse("", 200, {}, None), {"TrainingJobSummaries": names}

    with listening("before-call.sagemaker.ListTrainingJobs", listed), pytest.raises(Conflict) as refusal:
        destroy(installation)
    assert refusal.value.details["jobs"] == ["ftjob-of-ending-1"]
    assert installation.home.status() == "CREATE_COMPLETE"


def test_a_command_that_runs_is_waited_for_and_what_it_starts_is_seen(
    install: Make, aws: Aws, code: Path, waiting_job: Callable[[str, str], None]
) -> None:
    installation, sqs = install("inflight"), aws("sqs")
    deploy(installation, code)
    parts = destruction._launching(installation)
    aws("lambda").update_event_source_mapping(UUID=parts["LaunchFunctionCommands"], Enabled=False)
    sqs.send_message(QueueUrl=parts["LaunchQueue"], MessageBody="{}")
    (command,) = sqs.receive_message(QueueUrl=parts["LaunchQueue"], WaitTimeSeconds=5)["Messages"]
    told: list[str] = []
    looks = itertools.count(1)

    def start(**_: object) -> None:
        if next(looks) == 3:  # of the queue; the command ends while it is waited for
            waiting_job("ftjob-of-inflight-1", "inflight")
            sqs.delete_message(QueueUrl=parts["LaunchQueue"], ReceiptHandle=command["ReceiptHandle"])

    with listening("after-call.sqs.GetQueueAttributes", start), pytest.raises(Conflict) as refusal:
        destruction.destroy(installation, told.append, delete_data=False, stop_jobs=False)
    assert refusal.value.details["jobs"] == ["ftjob-of-inflight-1"]
    assert told == ["1 commands may run: waiting for their end, 900 s at most"]


def test_a_job_that_came_through_all_the_same_is_found_though_the_stack_is_gone(
    install: Make, aws: Aws, code: Path, waiting_job: Callable[[str, str], None]
) -> None:
    installation = install("late")
    deploy(installation, code)

    def start(**_: object) -> None:
        waiting_job("ftjob-of-late-1", "late")

    with listening("after-call.cloudformation.DeleteStack", start), pytest.raises(Conflict) as refusal:
        destroy(installation, delete_data=True)
    assert refusal.value.code == "jobs_running"
    assert installation.home.status() is None
    with pytest.raises(Conflict, match="ftjob-of-late-1"):
        destroy(installation, delete_data=True)
    assert held(aws, "late")
    destroy(installation, delete_data=True, stop_jobs=True)
    assert aws("sagemaker").describe_training_job(TrainingJobName="ftjob-of-late-1")["TrainingJobStatus"] == "Stopped"
    assert held(aws, "late") == set()


def test_what_is_deployed_again_meanwhile_keeps_its_data(install: Make, aws: Aws, code: Path) -> None:
    installation, cloudformation = install("contested"), aws("cloudformation")
    deploy(installation, code)
    before = held(aws, "contested")
    body = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})

    def tell(line: str) -> None:
        if line.endswith(": deleting") and installation.home.status() is None:
            cloudformation.create_stack(StackName="spotune-contested", TemplateBody=body)

    with pytest.raises(Conflict) as refusal:
        destruction.destroy(installation, tell, delete_data=True, stop_jobs=False)
    assert refusal.value.code == "deployed_meanwhile"
    assert len(before - held(aws, "contested")) == 1  # what was being deleted at that moment
    assert noted(installation) != []
    destroy(installation, delete_data=True)
    assert held(aws, "contested") == set()


def test_what_is_taken_over_while_a_bucket_is_emptied_keeps_what_is_in_it(install: Make, aws: Aws, code: Path) -> None:
    installation, cloudformation, s3 = install("halfway"), aws("cloudformation"), aws("s3")
    deploy(installation, code)
    (bucket,) = [id_ for name, _, id_ in installation.home.resources() if name == "DataBucket"]
    s3.put_object(Bucket=bucket, Key="team/rows", Body=b"there")

    def taken_over(params: dict[str, Any], **_: object) -> None:
        if f"/{bucket}?" in f"/{params['url'].split('/', 3)[-1]}":
            body = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
            cloudformation.create_stack(StackName="spotune-halfway", TemplateBody=body)

    with (
        listening("before-call.s3.ListObjectVersions", taken_over),
        pytest.raises(Conflict) as refusal,
    ):
        destroy(installation, delete_data=True)
    assert refusal.value.code == "deployed_meanwhile"
    assert s3.get_object(Bucket=bucket, Key="team/rows")["Body"].read() == b"there"


def test_a_stack_that_is_made_anew_while_the_old_one_goes_is_not_taken_for_it(
    install: Make, aws: Aws, code: Path
) -> None:
    installation, cloudformation = install("quick", deletion_protection=False), aws("cloudformation")
    deploy(installation, code)
    old = installation.home.describe() or {}

    def anew(**_: object) -> None:
        gone = replace(installation.home, name=old["StackId"])
        wait_for(lambda: gone.status() is None or None, "the old stack's end")
        body = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
        cloudformation.create_stack(StackName="spotune-quick", TemplateBody=body)

    with listening("after-call.cloudformation.DeleteStack", anew):
        installation.home.delete(silent)
    assert installation.home.status() is not None


def test_what_is_just_being_taken_over_is_not_called_displaced(install: Make, aws: Aws, code: Path) -> None:
    installation = install("taking")
    deploy(installation, code)
    destroy(installation)
    body = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    aws("cloudformation").create_stack(StackName="spotune-taking", TemplateBody=body)
    wait_for(lambda: installation.home.status() == "CREATE_COMPLETE" or None, "the stack")

    def importing(parsed: dict[str, Any], **_: object) -> None:
        for stack in parsed.get("Stacks", ()):
            if stack["StackName"] == "spotune-taking":
                stack["StackStatus"] = "IMPORT_IN_PROGRESS"

    with listening("after-call.cloudformation.DescribeStacks", importing), pytest.raises(Conflict) as refusal:
        deployment.plan(installation, code)
    assert refusal.value.code == "stack_not_ready"


def test_a_note_that_somebody_gives_up_meanwhile_is_left_again_though_it_is_cut_off(install: Make, code: Path) -> None:
    installation = install("cutdoubly")
    deploy(installation, code)
    drawer = drawer_of(installation)
    given_up = []

    def give_up(**_: object) -> None:
        given_up.append(drawer.revise(kept.NOTE, lambda _: []))

    def cut_off(**_: object) -> None:
        if given_up:
            raise Killed("ListTrainingJobs")

    with (
        listening("after-call.cloudformation.DeleteStack", give_up),
        listening("before-call.sagemaker.ListTrainingJobs", cut_off),
        pytest.raises(Killed),
    ):
        destroy(installation)
    assert {thing.name for thing in noted(installation)} >= {"Table", "DataBucket", "SigningSecret"}


def test_a_note_that_somebody_gives_up_meanwhile_is_left_again(install: Make, aws: Aws, code: Path) -> None:
    installation = install("doubly")
    deploy(installation, code)
    drawer = drawer_of(installation)

    def give_up(**_: object) -> None:
        drawer.revise(kept.NOTE, lambda _: [])

    with listening("after-call.cloudformation.DeleteStack", give_up):
        left = destroy(installation)
    assert left
    assert noted(installation) == [*left]


def test_one_that_was_cut_off_holds_attempts_back_until_the_next_deployment(
    install: Make, aws: Aws, code: Path
) -> None:
    installation = install("held")
    deploy(installation, code)
    source = destruction._launching(installation)["LaunchFunctionCommands"]

    def state() -> str:
        return str(aws("lambda").get_event_source_mapping(UUID=source)["State"])

    with killed_after("ListTrainingJobs"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(destruction, "release", silent)  # what is killed mends nothing
        destroy(installation)
    assert state() == "Disabled"
    deploy(installation, code)
    assert state() == "Enabled"


def test_a_region_that_is_no_longer_named_is_looked_at_and_goes_as_well(install: Make, aws: Aws, code: Path) -> None:
    deploy(install("moved", further_regions=(AWAY,)), code)
    installation, looked = install("moved"), set()

    def look(model: Any, context: dict[str, Any], **_: object) -> None:
        looked.add(context["client_region"])

    with listening("before-call.sagemaker.ListTrainingJobs", look):
        destroy(installation)
    assert looked == {REGION, AWAY}
    assert installation.further(AWAY).status() is None
    assert {thing.region for thing in noted(installation)} == {REGION, AWAY}


def test_without_its_notes_nothing_is_destroyed(install: Make, aws: Aws) -> None:
    installation = install("noteless")
    body = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    aws("cloudformation").create_stack(StackName="spotune-noteless", TemplateBody=body)
    with pytest.raises(Conflict, match="spotune deploy") as refusal:
        destroy(installation)
    assert refusal.value.code == "code_bucket_missing"
    assert installation.home.rest(silent) == "CREATE_COMPLETE"


def test_all_that_the_templates_keep_can_be_taken_over_and_deleted() -> None:
    read = [templates.read(path) for path in (templates.INSTALLATION, templates.REGION)]
    entries = [entry for template in read for entry in template["Resources"].values() if isinstance(entry, dict)]
    kept_types = {entry["Type"] for entry in entries if entry.get("DeletionPolicy") == "Retain"}
    assert kept_types == {*kept._IDENTIFIERS, kept.SECRET}


def test_there_is_no_key_of_what_is_not_deployed(install: Make) -> None:
    with pytest.raises(NotFound) as refusal:
        keys.new_key(install("nowhere"))
    assert refusal.value.code == "not_deployed"
