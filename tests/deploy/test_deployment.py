"""Deployments into a real CloudFormation: new, again, changed, failing, killed, side by side."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from spotune.contracts.errors import Conflict, NotAuthenticated, RequestRefused, Unavailable
from spotune.contracts.identity import key_hash, key_id
from spotune.deploy import deployment, keys, templates
from spotune.deploy.account import Account
from spotune.deploy.installation import Installation
from spotune.deploy.stacks import Proposal
from tests.deploy.conftest import (
    AWAY,
    BAD,
    BUCKETS,
    IMAGE,
    REGION,
    Make,
    ask,
    asked,
    drawer_of,
    killed_after,
    listening,
)

pytestmark = pytest.mark.embedded

Aws = Callable[..., Any]
CAUSE = r"Bad \(AWS::IAM::Policy\): .*nobody"


def silent(_: str) -> None:
    """Nobody waits."""


def deploy(installation: Installation, code: Path) -> deployment.Deployed:
    return deployment.deploy(installation, code, silent)


def change_sets(aws: Aws, stack: str, region: str = REGION) -> list[str]:
    listed = aws("cloudformation", region).list_change_sets(StackName=stack)["Summaries"]
    return [one["ExecutionStatus"] for one in listed if one["ExecutionStatus"] == "AVAILABLE"]


def edited(path: Path, folder: Path, old: str, new: str) -> Path:
    """A template with other words in it."""
    text = path.read_text()
    assert old in text
    copy = folder / path.name
    copy.write_text(text.replace(old, new, 1))
    return copy


def test_a_deployment_answers_with_an_address_and_a_key_that_opens_it(
    install: Make, aws: Aws, aws_url: str, code: Path
) -> None:
    said = {"budgets": {"monthly_limit_usd": 7.5}, "tenants": ("team", "acme")}
    installation = install("whole", further_regions=(AWAY,), **said)
    made = deploy(installation, code)
    assert made.key is not None
    assert ask(aws_url, made.outputs, made.key) == 200
    assert ask(aws_url, made.outputs, f"{made.key}x") == 401
    assert installation.home.parameters()["MonthlyLimitUsd"] == "7.5"
    assert installation.further(AWAY).parameters()["HomeRegion"] == REGION
    roles = {id_ for _, kind, id_ in installation.home.resources() if kind == "AWS::IAM::Role"}
    assert {"spotune-whole-team", "spotune-whole-acme"} <= roles
    bucket = installation.code.outputs()["CodeBucket"]
    s3 = aws("s3")
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
    assert "aws:SecureTransport" in s3.get_bucket_policy(Bucket=bucket)["Policy"]
    assert s3.head_object(Bucket=bucket, Key=code.name)["ContentLength"] == code.stat().st_size


def test_a_second_deployment_changes_nothing_and_makes_no_key(
    install: Make, aws: Aws, aws_url: str, code: Path
) -> None:
    installation = install("again")
    first = deploy(installation, code)
    bucket = installation.code.outputs()["CodeBucket"]
    versions = len(aws("s3").list_object_versions(Bucket=bucket)["Versions"])
    again = deploy(installation, code)
    assert (again.changed, again.key) == (False, None)
    assert again.outputs == first.outputs
    assert len(aws("s3").list_object_versions(Bucket=bucket)["Versions"]) == versions
    another = keys.new_key(installation)
    assert another != first.key
    assert ask(aws_url, first.outputs, another) == 200


def test_a_plan_of_nothing_yet_leaves_nothing(install: Make, code: Path) -> None:
    installation = install("unborn", further_regions=(AWAY,), first_tenant="team-a", tenants=("team-a", "acme"))
    steps = deployment.plan(installation, code)
    assert [(step.stack, step.region, step.creates) for step in steps] == [
        ("spotune-unborn-code", REGION, True),
        ("spotune-unborn-further", AWAY, True),
        ("spotune-unborn", REGION, True),
    ]
    assert {change.action for step in steps for change in step.changes} == {"Add"}
    shown = {change.name: change.type for change in steps[-1].changes}
    assert shown["Table"] == "AWS::DynamoDB::Table"
    assert {name for name in shown if name.startswith("TenantRole")} == {"TenantRoleteama", "TenantRoleacme"}
    assert shown["TenantRoleacme"] == "AWS::IAM::Role"
    for stack in (installation.code, installation.home, installation.further(AWAY)):
        assert stack.status() is None


def test_a_plan_shows_exactly_what_the_change_then_does(install: Make, aws: Aws, code: Path) -> None:
    deploy(install("planned"), code)
    wanted = install("planned", budgets={"monthly_limit_usd": 9}, log_retention_days=7)
    steps = {step.stack: step.changes for step in deployment.plan(wanted, code)}
    assert steps["spotune-planned-code"] == ()
    changed = {change.name: change for change in steps["spotune-planned"]}
    assert "Environment" in changed["ApiFunction"].properties
    assert changed["ApiLogs"].properties == ("RetentionInDays",)
    assert "Table" not in changed
    assert change_sets(aws, "spotune-planned") == []
    assert wanted.home.parameters()["MonthlyLimitUsd"] == "500"
    deployment.deploy(wanted, code, silent, may_replace=BUCKETS)
    assert wanted.home.parameters()["MonthlyLimitUsd"] == "9"
    assert [step.changes for step in deployment.plan(wanted, code)] == [(), ()]


def test_a_plan_leaves_alone_what_somebody_else_makes_of_the_same_stack(install: Make, code: Path) -> None:
    def proposed() -> Proposal:
        code = deployment._code(install("shared"))
        proposal = code.stack.propose(code.template, code.parameters, "shared")
        assert proposal is not None
        return proposal

    mine, theirs, stack = proposed(), proposed(), install("shared").code
    stack.withdraw(mine)
    stack.carry_out(theirs, silent)
    stack.withdraw(mine)
    assert stack.status() == "CREATE_COMPLETE"


def test_two_stages_stand_side_by_side_and_share_nothing(install: Make, aws_url: str, code: Path) -> None:
    one, other = deploy(install("left"), code), deploy(install("right"), code)
    assert one.key is not None
    assert other.key is not None
    shared = {name for name, value in one.outputs.items() if other.outputs[name] == value}
    assert shared == set()
    assert (ask(aws_url, one.outputs, one.key), ask(aws_url, other.outputs, one.key)) == (200, 401)
    assert install("left").code.outputs() != install("right").code.outputs()


def test_a_change_that_would_lose_data_is_refused_before_anything_happens(
    install: Make, aws: Aws, aws_url: str, code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation = install("careful")
    made = deploy(installation, code)
    anew = edited(
        templates.INSTALLATION,
        tmp_path,
        "      BillingMode: PAY_PER_REQUEST\n",
        "      BillingMode: PAY_PER_REQUEST\n      TableName: another\n",
    )
    monkeypatch.setattr(templates, "INSTALLATION", anew)
    (_, step) = deployment.plan(installation, code)
    assert [change.name for change in step.changes if change.loses_data] == ["Table"]
    with pytest.raises(Conflict, match="Table") as refusal:
        deploy(installation, code)
    assert refusal.value.code == "data_would_be_lost"
    assert change_sets(aws, "spotune-careful") == []
    assert installation.home.outputs()["Table"] == made.outputs["Table"]


def test_a_change_that_might_lose_data_is_refused_unless_it_is_meant(
    install: Make, aws: Aws, code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation = install("doubtful")
    deploy(installation, code)
    # CloudFormation says of this property that it may have the table made anew, or not.
    key = "- {AttributeName: sk, KeyType: RANGE}"
    anew = edited(templates.INSTALLATION, tmp_path, key, key.replace("sk", "gsi1sk"))
    monkeypatch.setattr(templates, "INSTALLATION", anew)
    with pytest.raises(Conflict, match="--may-replace") as refusal:
        deploy(installation, code)
    assert refusal.value.code == "data_might_be_lost"
    assert change_sets(aws, "spotune-doubtful") == []
    assert deployment.deploy(installation, code, silent, may_replace=["Table"]).changed is True


def test_a_first_deployment_that_fails_names_its_cause_and_the_next_one_starts_anew(
    install: Make, code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation = install("phoenix")
    with monkeypatch.context() as patch:
        patch.setattr(templates, "INSTALLATION", edited(templates.INSTALLATION, tmp_path, "\nResources:\n", BAD))
        with pytest.raises(Unavailable, match=rf" ROLLBACK_COMPLETE: {CAUSE}") as failure:
            deploy(installation, code)
    assert failure.value.code == "deployment_failed"
    assert installation.home.status() == "ROLLBACK_COMPLETE"
    told: list[str] = []
    made = deployment.deploy(installation, code, told.append)
    assert made.key is not None
    assert "spotune-phoenix is in ROLLBACK_COMPLETE: what is left of it is deleted first" in told


def test_a_change_that_fails_is_rolled_back_and_what_ran_runs_on(
    install: Make, aws_url: str, code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation = install("steady")
    made = deploy(installation, code)
    assert made.key is not None
    with monkeypatch.context() as patch:
        patch.setattr(templates, "INSTALLATION", edited(templates.INSTALLATION, tmp_path, "\nResources:\n", BAD))
        with pytest.raises(Unavailable, match=rf"UPDATE_ROLLBACK_COMPLETE: {CAUSE}"):
            deploy(installation, code)
    assert ask(aws_url, made.outputs, made.key) == 200
    assert deploy(installation, code).changed is False


def test_a_deployment_that_is_killed_anywhere_is_completed_by_the_next(install: Make, aws_url: str, code: Path) -> None:
    installation = install("killed")
    for operation, number in (
        ("CreateChangeSet", 1),  # of the code bucket
        ("ExecuteChangeSet", 1),
        ("PutObject", 1),  # the template
        ("CreateChangeSet", 1),  # of everything
        ("ExecuteChangeSet", 1),
        ("Invoke", 1),  # of the keys function
    ):
        with killed_after(operation, number=number):
            deploy(installation, code)
    invoked: list[str] = []
    with listening(
        "provide-client-params.lambda.Invoke", lambda params, **_: invoked.append(params.get("InvocationType", "wait"))
    ):
        made = deploy(installation, code)
    assert made.key is not None
    assert invoked == ["wait", "Event"], "the key, and the first look at the market"
    assert ask(aws_url, made.outputs, made.key) == 200
    assert installation.home.status() == "CREATE_COMPLETE"


def test_a_first_key_that_nobody_saw_opens_nothing_once_there_is_another(
    install: Make, aws_url: str, code: Path
) -> None:
    installation = install("unseen")
    for operation, number in (("PutObject", 3), ("Invoke", 1), ("Invoke", 1)):  # its note, then itself
        with killed_after(operation, number=number):
            deploy(installation, code)
    made = deploy(installation, code)
    assert made.key is not None
    listed = asked(aws_url, made.outputs, made.key, "keys").json()["data"]
    assert [key["id"] for key in listed if key["revoked_at"] is None] == [key_id(key_hash(made.key))]
    assert len(listed) == 4
    assert deploy(installation, code).key is None


def test_of_two_first_keys_made_at_once_one_is_shown_and_it_opens(install: Make, aws_url: str, code: Path) -> None:
    installation = install("twins")
    with killed_after("PutObject", number=3):  # template, bundle, the first note of the key
        deploy(installation, code)
    outputs, others = installation.home.outputs(), []

    def meanwhile(**_: object) -> None:
        if not others:
            others.append(None)  # the other one's own calls are heard here, too
            others[0] = keys.first_key(installation, drawer_of(installation), outputs)

    with listening("before-call.lambda.Invoke", meanwhile):
        mine = keys.first_key(installation, drawer_of(installation), outputs)
    (other,) = others
    assert mine is None
    assert other is not None
    assert ask(aws_url, outputs, other) == 200
    assert keys.first_key(installation, drawer_of(installation), outputs) is None


def test_of_two_first_keys_whose_notes_answer_was_lost_one_is_made(install: Make, code: Path) -> None:
    installation = install("stammer")
    with killed_after("PutObject", number=3):  # template, bundle, the first note of the key
        deploy(installation, code)
    drawer, theirs = drawer_of(installation), "f" * 64
    outputs = installation.home.outputs()
    noted = partial(keys._with_unseen, installation.settings.first_tenant, theirs)
    before = drawer.note(keys.FIRST_KEY)["unseen"]

    def lost(response: object, **_: object) -> int | None:
        if theirs in drawer.note(keys.FIRST_KEY)["unseen"]:
            return None
        drawer.revise(keys.FIRST_KEY, noted)
        return 0

    with listening("needs-retry.s3.PutObject", lost):
        assert keys.first_key(installation, drawer_of(installation), outputs) is None
    after = drawer.note(keys.FIRST_KEY)["unseen"]
    assert (len(after), after[:-2], after[-1]) == (3, before, theirs)


def test_what_two_commands_note_at_once_is_noted_of_both(install: Make, code: Path) -> None:
    deploy(install("scribes"), code)
    drawer = drawer_of(install("scribes"))

    def meanwhile(**_: object) -> None:
        if drawer.note("names") is None:
            drawer.revise("names", lambda noted: [*(noted or ()), "theirs"])

    with listening("before-call.s3.PutObject", meanwhile):
        late = drawer_of(install("scribes"))
        assert late.revise("names", lambda noted: [*(noted or ()), "ours"]) == ["theirs", "ours"]
    assert drawer.note("names") == ["theirs", "ours"]


def test_a_note_whose_answer_was_lost_is_not_taken_for_somebody_elses(install: Make, code: Path) -> None:
    deploy(install("echo"), code)
    heard: list[list[str] | None] = []
    again = iter([0])

    def change(noted: list[str] | None) -> list[str]:
        heard.append(noted)
        return noted or ["ours"]

    with listening("needs-retry.s3.PutObject", lambda **_: next(again, None)):
        assert drawer_of(install("echo")).revise("names", change) == ["ours"]
    assert heard == [None, ["ours"]]


def test_a_key_that_was_shown_to_nobody_can_be_made_anew(install: Make, aws_url: str, code: Path) -> None:
    installation = install("unshown")
    with killed_after("PutObject", number=4):  # template, bundle, two notes of the key
        deploy(installation, code)
    made = deploy(installation, code)
    assert made.key is None
    assert ask(aws_url, made.outputs, keys.new_key(installation)) == 200


def test_a_key_whose_answer_was_lost_is_one_key(install: Make, aws_url: str, code: Path) -> None:
    installation = install("stutter")
    first = deploy(installation, code).key
    assert first is not None
    lost = iter([b"null"])

    def lose(parsed: dict[str, Any], **_: object) -> None:
        for answer in lost:
            parsed["Payload"] = BytesIO(answer)

    with listening("after-call.lambda.Invoke", lose):
        key = keys.new_key(installation)
    outputs = installation.home.outputs()
    listed = asked(aws_url, outputs, key, "keys").json()["data"]
    assert sorted(one["id"] for one in listed) == sorted(key_id(key_hash(one)) for one in (first, key))


def test_a_stack_that_somebody_else_changed_meanwhile_is_looked_at_anew(install: Make, code: Path) -> None:
    deploy(install("busy"), code)
    slow, fast = install("busy", limits={"jobs": 7}), install("busy", limits={"jobs": 8})
    home = deployment._home(slow, slow.drawer, code)  # type: ignore[arg-type]
    proposal = slow.home.propose(home.template, home.parameters, "busy")
    assert proposal is not None
    deploy(fast, code)
    with pytest.raises(Conflict) as refusal:
        slow.home.carry_out(proposal, silent)
    assert refusal.value.code == "stack_changed_meanwhile"
    assert fast.home.parameters()["Jobs"] == "8"


@pytest.mark.parametrize(
    ("image", "code_of_refusal"),
    [(None, "image_missing"), (IMAGE.replace("000000000000", "111111111111"), "image_of_another_account")],
)
def test_without_an_image_that_can_be_pulled_nothing_is_made(
    install: Make, code: Path, image: str | None, code_of_refusal: str
) -> None:
    installation = install("imageless", image=image)
    with pytest.raises(RequestRefused) as refusal:
        deploy(installation, code)
    assert refusal.value.code == code_of_refusal
    assert installation.code.status() is None


def test_a_setting_that_the_template_refuses_is_named(install: Make, code: Path) -> None:
    deploy(install("wordy"), code)
    with pytest.raises(RequestRefused, match="WebhookNetworks") as refusal:
        deploy(install("wordy", webhook_networks=("everywhere",)), code)
    assert refusal.value.code == "change_refused"


def test_without_credentials_the_remedy_is_to_sign_in(
    install: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(NotAuthenticated, match="aws sso login") as refusal:
        _ = Account(REGION).id
    assert refusal.value.code == "aws_credentials_missing"


def test_two_people_who_deploy_at_once_make_one_installation(install: Make, aws_url: str, code: Path) -> None:
    def attempt(_: int) -> deployment.Deployed | str:
        try:
            return deploy(install("crowded"), code)
        except Conflict as refusal:
            return refusal.code

    with ThreadPoolExecutor(2) as both:
        ended = list(both.map(attempt, range(2)))
    made = [one for one in ended if isinstance(one, deployment.Deployed)]
    assert len([one.key for one in made if one.key]) == 1
    assert {one for one in ended if isinstance(one, str)} <= {"stack_changed_meanwhile", "stack_not_ready"}
    again = deploy(install("crowded"), code)
    assert (again.changed, again.outputs) == (False, made[0].outputs)
    assert [ask(aws_url, again.outputs, one.key) for one in made if one.key] == [200]
