"""What doctor says of what it saw: each state that an account can be in, in a person's words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.contracts.market import quota_name
from spotune.contracts.request import Market
from spotune.deploy.doctor import judge_account, judge_installation, judge_machine, judge_network, judge_quotas
from spotune.deploy.doctor.findings import Finding, fail, ok, unknown, warn, worst
from spotune.deploy.doctor.probe_installation import models_of
from spotune.deploy.doctor.seen import (
    Alarm,
    Answer,
    BaseModel,
    Budget,
    Caller,
    Clocks,
    Decision,
    Image,
    Key,
    Network,
    Quota,
    Quotas,
    Refused,
    Stack,
    Subnet,
    Subscription,
    Unseen,
)

DENIED = Unseen("AccessDeniedException: you may not", "AccessDeniedException")
SILENT = Unseen("Could not connect to the endpoint")
USER = Caller("111122223333", "arn:aws:iam::111122223333:user/ada", "arn:aws:iam::111122223333:user/ada")
URI = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/spotune-training:0.1.0"
IMAGE = Image("sha256:" + "a" * 64, 9_000_000_000, ("amd64",))
SPEND = Alarm("SpendAlarm", "OK", "", True)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("NoCredentialsError", "there are none on this machine"),
        ("ExpiredToken", "they have expired"),
        ("InvalidClientTokenId", "does not know the key"),
        ("SSOTokenLoadError", "nobody is signed in"),
        ("SignatureDoesNotMatch", "the clock is wrong"),
        ("SomethingNew", "AWS does not take them"),
    ],
)
def test_credentials_that_do_not_work_are_told_apart(code: str, words: str) -> None:
    finding = judge_account.judge_caller(Refused(code, "said AWS"))
    assert (finding.status, words in finding.says, "aws sso login" in finding.remedy) == ("fail", True, True)
    assert "said AWS" in finding.says


def test_no_network_is_no_matter_of_credentials() -> None:
    finding = judge_account.judge_caller(SILENT)
    assert finding.status == "fail"
    assert "sso" not in finding.remedy


def test_whose_account_it_is_is_said_and_root_is_warned_of() -> None:
    assert judge_account.judge_caller(USER).status == "ok"
    assert "111122223333" in judge_account.judge_caller(USER).says
    assert judge_account.judge_caller(replace(USER, arn="arn:aws:iam::111122223333:root")).status == "warn"


@given(off=st.floats(-(10**6), 10**6))
def test_a_clock_is_wrong_by_how_far_it_is_off_whichever_way(off: float) -> None:
    here, there = (judge_account.judge_clock(Clocks(2e9 + one, 2e9)) for one in (off, -off))
    assert here.status == there.status
    wrong = round(abs(off))
    assert here.status == ("ok" if wrong < 60 else "warn" if wrong < 300 else "fail")
    assert (here.remedy == "") == (here.status == "ok")


def test_the_clock_says_which_way_it_is_off() -> None:
    assert "400 s ahead of" in judge_account.judge_clock(Clocks(1_400, 1_000)).says
    assert "400 s behind" in judge_account.judge_clock(Clocks(1_000, 1_400)).says
    assert judge_account.judge_clock(None).status == "unknown"


@pytest.mark.parametrize(
    ("state", "status", "remedy"),
    [
        ("opt-in-not-required", "ok", ""),
        ("opted-in", "ok", ""),
        ("not-opted-in", "fail", "aws account enable-region --region-name eu-south-1"),
        ("", "fail", "Correct"),
    ],
)
def test_a_region_that_is_not_enabled_is_told(state: str, status: str, remedy: str) -> None:
    finding = judge_account.judge_region("eu-south-1", state)
    assert finding.status == status
    assert remedy in finding.remedy


def test_what_may_not_be_looked_at_is_unknown_and_names_the_permission() -> None:
    seen = [
        judge_account.judge_region("eu-west-1", DENIED),
        judge_account.judge_permissions(USER, DENIED),
        judge_account.judge_organization("TrainingRole", DENIED),
        judge_account.judge_concurrency("eu-west-1", DENIED),
        judge_account.judge_budgets("111122223333", DENIED),
        *judge_quotas.judge_quotas("eu-west-1", ["ml.g5.xlarge"], DENIED, named=True, max_runtime_hours=1),
        judge_installation.judge_stack("spotune-prod", DENIED),
        judge_installation.judge_image(URI, "eu-west-1", "eu-west-1", DENIED, "1.0"),
        judge_installation.judge_models(DENIED),
        *judge_installation.judge_alarms(DENIED),
        judge_installation.judge_address("", DENIED),
        judge_network.judge_network("eu-west-1", ["subnet-1"], ["sg-1"], DENIED),
        judge_network.judge_key("arn", DENIED),
    ]
    assert {one.status for one in seen} == {"unknown"}
    assert [one.check for one in seen if not one.remedy.startswith("Allow ")] == []
    assert judge_account.judge_concurrency("eu-west-1", SILENT).remedy == ""


def test_actions_that_are_missing_for_a_deployment_are_named() -> None:
    seen = (Decision("iam:CreateRole", False, True), Decision("s3:PutObject", True))
    finding = judge_account.judge_permissions(USER, seen)
    assert finding.status == "warn"
    assert "iam:CreateRole" in finding.says
    assert "s3:PutObject" not in finding.says
    assert "organization" in finding.says
    assert judge_account.judge_permissions(USER, seen[1:]).status == "ok"


def test_permissions_of_a_role_that_was_not_found_are_not_taken_for_granted() -> None:
    assert judge_account.judge_permissions(replace(USER, policy_source=""), ()).status == "unknown"


def test_an_organization_that_forbids_training_stops_it_and_a_missing_condition_does_not() -> None:
    action = "sagemaker:CreateTrainingJob"
    assert judge_account.judge_organization("LaunchRole", (Decision(action, False, True),)).status == "fail"
    assert judge_account.judge_organization("LaunchRole", (Decision(action, False, False),)).status == "ok"


def test_a_new_accounts_ten_functions_are_too_few() -> None:
    finding = judge_account.judge_concurrency("eu-west-1", 10)
    assert finding.status == "warn"
    assert "--service-code lambda --quota-code L-B99A9384" in finding.remedy
    assert judge_account.judge_concurrency("eu-west-1", 1000).status == "ok"


def test_a_budget_that_tells_nobody_watches_nothing() -> None:
    silent = Budget("all", "100 USD", warned=False)
    assert judge_account.judge_budgets("1", ()).status == "warn"
    assert "tells nobody" in judge_account.judge_budgets("1", (silent,)).says
    assert judge_account.judge_budgets("1", (silent, replace(silent, warned=True))).status == "ok"


TYPES = ["ml.g5.xlarge", "ml.g6.xlarge", "ml.p4d.24xlarge"]


def quotas(**values: float) -> Quotas:
    """`spot=1` gives the first type one instance on spot; what is not named is zero."""
    markets: tuple[Market, ...] = ("spot", "on_demand")
    found = {
        (at, market): Quota(quota_name(name, market), f"L-{at}{market}", values.get(market, 0) if at == 0 else 0)
        for at, name in enumerate(TYPES)
        for market in markets
    }
    return {quota.name: quota for quota in found.values()}


def judged(seen: Quotas, *, named: bool = False) -> dict[str, Finding]:
    found = judge_quotas.judge_quotas("eu-west-1", TYPES, seen, named=named, max_runtime_hours=24)
    return {one.check.partition(" quotas")[0]: one for one in found}


def test_a_run_is_no_longer_than_awss_own_quota() -> None:
    quota = Quota(judge_quotas.LONGEST_RUN, "L-run", 5 * 86_400)
    finding = judged({**quotas(spot=1), quota.name: quota})["longest run in eu-west-1"]
    assert finding.status == "ok"
    finding = judged({**quotas(spot=1), quota.name: replace(quota, value=3600)})["longest run in eu-west-1"]
    assert (finding.status, "--quota-code L-run --desired-value 86400" in finding.remedy) == ("warn", True)


def test_where_every_quota_is_zero_nothing_trains_and_the_request_is_spelt_out() -> None:
    found = judged(quotas())
    assert {name: one.status for name, one in found.items()} == {"spot": "fail", "on demand": "fail"}
    assert (
        "aws service-quotas request-service-quota-increase --service-code sagemaker --quota-code L-0spot "
        "--desired-value 1 --region eu-west-1"
    ) in found["spot"].remedy
    link = "https://console.aws.amazon.com/servicequotas/home/services/sagemaker/quotas/L-0spot?region=eu-west-1"
    assert link in found["spot"].remedy


def test_one_market_without_a_quota_is_a_warning_since_the_other_trains() -> None:
    found = judged(quotas(on_demand=2))
    assert {name: one.status for name, one in found.items()} == {"spot": "warn", "on demand": "ok"}
    assert "ml.g5.xlarge (2)" in found["on demand"].says


def test_types_that_the_settings_name_are_all_wanted() -> None:
    assert judged(quotas(spot=1, on_demand=1))["spot"].status == "ok"
    finding = judged(quotas(spot=1, on_demand=1), named=True)["spot"]
    assert finding.status == "warn"
    assert "0 for ml.g6.xlarge, ml.p4d.24xlarge" in finding.says
    assert "L-1spot" in finding.remedy
    assert "L-0spot" not in finding.remedy


def test_a_request_that_waits_for_its_answer_is_not_made_again() -> None:
    asked = {where: replace(quota, asked=4.0) for where, quota in quotas().items()}
    finding = judged(asked)["spot"]
    assert finding.status == "fail"
    assert "Asked for and not answered yet: ml.g5.xlarge (4)" in finding.says
    assert "request-service-quota-increase" not in finding.remedy
    assert "Wait" in finding.remedy


def test_quotas_that_are_not_listed_are_unknown_and_not_zero() -> None:
    assert {one.status for one in judged({}).values()} == {"unknown"}


@given(values=st.lists(st.integers(0, 3), min_size=6, max_size=6), named=st.booleans())
def test_programs_get_every_type_with_its_command(values: list[int], named: bool) -> None:
    seen = {
        where: replace(quota, value=float(value))
        for (where, quota), value in zip(quotas().items(), values, strict=True)
    }
    for finding in judged(seen, named=named).values():
        listed = finding.details["types"]
        assert isinstance(listed, list)
        assert [one["instance_type"] for one in listed] == TYPES
        assert all(f"--quota-code {one['quota_code']}" in one["command"] for one in listed)
        assert all(f"--desired-value {int(one['value']) + 1} " in one["command"] for one in listed)
        usable = [one for one in listed if one["value"] >= 1]
        assert (finding.status == "ok") == (len(usable) == 3 or (bool(usable) and not named))


def test_other_partitions_have_consoles_of_their_own() -> None:
    quota = Quota("q", "L-1", 0)
    assert judge_quotas.console_link("cn-north-1", quota).startswith("https://console.amazonaws.cn/")
    assert judge_quotas.console_link("us-gov-west-1", quota).startswith("https://console.amazonaws-us-gov.com/")


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("CREATE_COMPLETE", "ok"),
        ("UPDATE_COMPLETE", "ok"),
        ("UPDATE_ROLLBACK_COMPLETE", "warn"),
        ("UPDATE_IN_PROGRESS", "warn"),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "warn"),
        ("UPDATE_ROLLBACK_FAILED", "fail"),
        ("ROLLBACK_COMPLETE", "fail"),
        ("DELETE_FAILED", "fail"),
        ("REVIEW_IN_PROGRESS", "warn"),
    ],
)
def test_a_stack_is_judged_by_its_state(state: str, status: str) -> None:
    assert judge_installation.judge_stack("spotune-prod", Stack("spotune-prod", state)).status == status


def test_a_stuck_rollback_has_its_command_and_no_stack_is_no_fault() -> None:
    stuck = judge_installation.judge_stack("spotune-prod", Stack("spotune-prod", "UPDATE_ROLLBACK_FAILED"))
    assert "continue-update-rollback --stack-name spotune-prod" in stuck.remedy
    missing = judge_installation.judge_stack("spotune-prod", None)
    assert (missing.status, missing.remedy) == ("warn", "`spotune deploy`")


def test_what_is_deployed_is_compared_with_what_lies_here() -> None:
    stack = Stack("s", "CREATE_COMPLETE", parameters={"CodeKey": "old", "Jobs": "100", "Stage": "prod"})
    same = judge_installation.judge_version(stack, {"Jobs": "100"})
    assert (same.status, "its code was not compared" in same.says) == ("ok", True)
    assert "not compared" not in judge_installation.judge_version(stack, {"CodeKey": "old"}).says
    finding = judge_installation.judge_version(stack, {"CodeKey": "new", "Jobs": "5", "Stage": "prod"})
    assert finding.status == "warn"
    assert "code and Jobs" in finding.says
    assert finding.details["differs"] == ["CodeKey", "Jobs"]


def test_an_api_that_does_not_answer_is_told_with_what_it_said() -> None:
    assert judge_installation.judge_answer("https://a", Answer(200)).status == "ok"
    assert "503 Service Unavailable" in judge_installation.judge_answer("u", Answer(503, "Service Unavailable")).says
    assert judge_installation.judge_answer("https://a", Answer(0, "timed out")).status == "fail"


def test_no_image_and_one_that_ecr_does_not_have_stop_training() -> None:
    assert judge_installation.judge_image(None, "eu-west-1", "eu-west-1", None, "1.0").status == "fail"
    missing = Unseen("ImageNotFoundException: no such tag", "ImageNotFoundException")
    for seen in (missing, None):
        finding = judge_installation.judge_image(URI, "eu-west-1", "eu-west-1", seen, "1.0")
        assert finding.status == "fail"
        assert finding.remedy == "`spotune image build`, then `spotune image push`"


def test_an_image_that_a_further_region_lacks_is_copied_there_by_ecr() -> None:
    """`spotune image push` sends to the home alone, and nothing that is there already."""
    finding = judge_installation.judge_image(URI, "us-east-2", "eu-west-1", None, "1.0")
    assert (finding.status, "us-east-2" in finding.check) == ("fail", True)
    destination = "region=us-east-2,registryId=111122223333"
    command = f"aws ecr start-replication-backfill --region eu-west-1 --destination {destination}"
    assert f"`{command}`" in finding.remedy
    assert "docs/regions.md" in finding.remedy


@pytest.mark.parametrize(
    ("image", "status", "words"),
    [
        (IMAGE, "ok", "9.0 GB"),
        (replace(IMAGE, architectures=("arm64",)), "fail", "arm64"),
        (replace(IMAGE, architectures=("amd64", "arm64")), "ok", "amd64, arm64"),
        (replace(IMAGE, architectures=()), "ok", "processor not told"),
        (replace(IMAGE, severe={"CRITICAL": 2, "LOW": 9}), "warn", "2 critical"),
        (replace(IMAGE, severe={"LOW": 9}), "ok", "9.0 GB"),
        (replace(IMAGE, mutable_tag=True), "warn", "moved"),
        (replace(IMAGE, tags=("1.0-cuda-0123456789ab",)), "ok", "9.0 GB"),
        (replace(IMAGE, tags=("0.9-cuda-0123456789ab",)), "warn", "built by Spotune 0.9"),
        (replace(IMAGE, tags=("0.9-cuda-0123456789ab", "1.0-cuda-0123456789ab")), "ok", "9.0 GB"),
        (replace(IMAGE, tags=("1.0-cpu-0123456789ab",)), "warn", "built for CPUs"),
        (replace(IMAGE, tags=("latest",)), "ok", "9.0 GB"),
    ],
)
def test_an_image_is_judged_by_processor_version_scan_and_tag(image: Image, status: str, words: str) -> None:
    finding = judge_installation.judge_image(URI, "eu-west-1", "eu-west-1", image, "1.0")
    assert (finding.status, words in finding.says) == (status, True)


def test_a_tag_that_may_move_is_replaced_by_its_digest() -> None:
    finding = judge_installation.judge_image(URI, "eu-west-1", "eu-west-1", replace(IMAGE, mutable_tag=True), "1.0")
    assert f"{URI}@{IMAGE.digest}" in finding.remedy


def test_half_a_base_model_is_no_base_model() -> None:
    whole, half = BaseModel("a/b", 5, 10**9, True), BaseModel("c/d", 2, 10, False)
    assert judge_installation.judge_models(()).status == "warn"
    assert judge_installation.judge_models((whole,)).status == "ok"
    finding = judge_installation.judge_models((whole, half))
    assert finding.status == "warn"
    assert "spotune models add c/d" in finding.remedy


def test_models_are_told_apart_by_their_markers() -> None:
    keys = ["Qwen/Q/config.json", "Qwen/Q/spotune.json", "Qwen/Q/sub/x.bin", "a/b/config.json", "a/b/deep/y", "flat"]
    found = {one.name: (one.files, one.complete) for one in models_of((key, 1) for key in keys)}
    assert found == {"Qwen/Q": (3, True), "a/b": (2, False), "": (1, False)}


def test_the_alarm_on_spending_has_to_be_there_and_to_tell_somebody() -> None:
    other = Alarm("PermissionAlarm", "OK", "", True)
    assert [one.status for one in judge_installation.judge_alarms((SPEND, other))] == ["ok", "ok"]
    assert judge_installation.judge_alarms((other,))[0].status == "fail"
    assert judge_installation.judge_alarms((replace(SPEND, actions=False), other))[0].status == "fail"
    assert judge_installation.judge_alarms((SPEND, replace(other, actions=False)))[1].status == "warn"
    ringing = judge_installation.judge_alarms((SPEND, replace(other, state="ALARM", reason="1 > 0")))[1]
    assert (ringing.status, "PermissionAlarm (1 > 0)" in ringing.says) == ("warn", True)


def test_an_address_hears_alarms_once_it_has_confirmed() -> None:
    pending = Subscription("email", "ada@example.org", False)
    assert judge_installation.judge_address("ada@example.org", ()).status == "warn"
    waiting = judge_installation.judge_address("ada@example.org", (pending,))
    assert (waiting.status, "has not confirmed" in waiting.says) == ("warn", True)
    assert judge_installation.judge_address("ada@example.org", (replace(pending, confirmed=True),)).status == "ok"
    assert "alarm_email" in judge_installation.judge_address("", (pending,)).remedy
    assert judge_installation.judge_address("", (Subscription("https", "https://x", True),)).status == "ok"


SUBNETS = (Subnet("subnet-1", "vpc-1", "a"), Subnet("subnet-2", "vpc-1", "b"))


@pytest.mark.parametrize(
    ("network", "status", "words"),
    [
        (Network(SUBNETS, {"sg-1": "vpc-1"}, frozenset({"s3"})), "ok", "2 subnets"),
        (Network(SUBNETS, {"sg-1": "vpc-1"}, frozenset()), "warn", "S3"),
        (Network(SUBNETS[:1], {"sg-1": "vpc-1"}, frozenset({"s3"})), "fail", "no subnet-2"),
        (Network(SUBNETS, {}, frozenset({"s3"})), "fail", "no sg-1"),
        (Network(SUBNETS, {"sg-1": "vpc-2"}, frozenset({"s3"})), "fail", "several"),
    ],
)
def test_a_network_is_judged_by_what_training_needs_of_it(network: Network, status: str, words: str) -> None:
    finding = judge_network.judge_network("eu-west-1", ["subnet-1", "subnet-2"], ["sg-1"], network)
    assert (finding.status, words in finding.says) == (status, True)


def test_one_zone_is_warned_of() -> None:
    network = Network(SUBNETS[:1], {"sg-1": "vpc-1"}, frozenset({"s3"}))
    finding = judge_network.judge_network("eu-west-1", ["subnet-1"], ["sg-1"], network)
    assert (finding.status, "zone" in finding.remedy) == ("warn", True)


def test_a_key_that_does_not_encrypt_stops_everything() -> None:
    assert judge_network.judge_key("arn", Key("arn", "Enabled", True)).status == "ok"
    assert judge_network.judge_key("arn", Key("arn", "Enabled", False)).status == "warn"
    assert judge_network.judge_key("arn", Key("arn", "PendingDeletion", True)).status == "fail"
    assert judge_network.judge_key("arn", Unseen("NotFoundException: no", "NotFoundException")).status == "fail"


def test_an_environment_that_leads_elsewhere_than_aws_is_told() -> None:
    elsewhere = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "HOME": "/"}
    finding = judge_machine.judge_endpoints(elsewhere)
    assert (finding.status, "unset AWS_ENDPOINT_URL_S3" in finding.remedy) == ("warn", True)
    assert judge_machine.judge_endpoints({}).status == "ok"
    assert judge_machine.judge_endpoints({**elsewhere, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}).status == "ok"
    assert judge_machine.judge_installer(False).status == "warn"


def test_the_worst_of_all_is_what_counts() -> None:
    some = [ok("a", "."), warn("b", ".", "!"), unknown("c", ".")]
    assert worst([]) == "ok"
    assert worst(some[:2]) == "warn"
    assert worst([*some, fail("d", ".", "!")]) == "fail"
