"""Judges what was seen of the account: credentials, clock, region, permissions, concurrency, budgets. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from spotune.deploy.doctor.findings import Finding, fail, not_seen, ok, unknown, warn
from spotune.deploy.doctor.seen import Budget, Caller, Clocks, Decision, Refused, Seen, Unseen

CLOCK_REFUSED = 300
"""Seconds off from which AWS refuses signed requests; S3 does from 900."""
CLOCK_NOTICED = 60

CONCURRENCY = 50
"""Functions at a time: 35 that the template lets its queues start, the API, and what rules start."""
CONCURRENCY_QUOTA = "L-B99A9384"

DEPLOYING = (
    "apigateway:POST",
    "cloudformation:CreateChangeSet",
    "cloudformation:ExecuteChangeSet",
    "cloudwatch:PutDashboard",
    "cloudwatch:PutMetricAlarm",
    "dynamodb:CreateTable",
    "events:PutRule",
    "iam:AttachRolePolicy",
    "iam:CreatePolicy",
    "iam:CreateRole",
    "iam:PassRole",
    "iam:PutRolePolicy",
    "lambda:CreateEventSourceMapping",
    "lambda:CreateFunction",
    "lambda:InvokeFunction",
    "logs:CreateLogGroup",
    "s3:CreateBucket",
    "s3:PutBucketPolicy",
    "s3:PutObject",
    "secretsmanager:CreateSecret",
    "sns:CreateTopic",
    "sqs:CreateQueue",
)
"""Of what a deployment does, an action for each kind of thing that the template has."""

TRAINING = ("sagemaker:CreateTrainingJob", "sagemaker:StopTrainingJob", "s3:GetObject", "s3:PutObject")
"""What an organization must not forbid, whatever the roles allow."""

_SIGN_IN = "Sign in (`aws sso login`, or new keys by `aws configure`), or set AWS_PROFILE to the profile to use."
_CREDENTIALS = {
    "ExpiredToken": "they have expired",
    "ExpiredTokenException": "they have expired",
    "InvalidClientTokenId": "AWS does not know the key, it was disabled, or the account has not enabled the region",
    "NoCredentialsError": "there are none on this machine",
    "PartialCredentialsError": "half of them is missing",
    "ProfileNotFound": "AWS_PROFILE names a profile that does not exist",
    "SignatureDoesNotMatch": "the secret does not belong to the key, or the clock is wrong",
    "SSOTokenLoadError": "nobody is signed in",
    "TokenRetrievalError": "the sign-in has expired",
    "UnauthorizedSSOTokenError": "the sign-in has expired",
}


def judge_caller(seen: Caller | Refused | Unseen) -> Finding:
    """Whose account it is, and whether AWS takes the credentials."""
    if isinstance(seen, Unseen):
        return fail(
            "credentials", f"AWS does not answer: {seen.reason}", "Check the network, the proxy and the region's name."
        )
    if isinstance(seen, Refused):
        why = _CREDENTIALS.get(seen.code, "AWS does not take them")
        return fail("credentials", f"No credentials that work: {why} ({seen.code}: {seen.reason})", _SIGN_IN)
    facts = {"account": seen.account, "arn": seen.arn}
    if seen.arn.endswith(":root"):
        says = f"Account {seen.account}, as its root user, who can do anything and is held by no policy."
        return warn("credentials", says, "Use a role or a user of the account instead.", **facts)
    return ok("credentials", f"Account {seen.account}, as {seen.arn}.", **facts)


def judge_clock(seen: Clocks | None) -> Finding:
    """Whether this machine's clock lets its signatures pass."""
    if seen is None:
        return unknown("clock", "AWS told no time.")
    off = round(seen.ours - seen.theirs)
    if abs(off) < CLOCK_NOTICED:
        return ok("clock", f"Within {max(1, abs(off))} s of AWS's.", seconds_off=off)
    says = f"{abs(off)} s {'ahead of' if off > 0 else 'behind'} AWS's."
    remedy = "Switch time synchronisation on (`timedatectl set-ntp true`; under WSL `hwclock -s`)."
    if abs(off) < CLOCK_REFUSED:
        return warn("clock", f"{says} From {CLOCK_REFUSED} s on, AWS refuses signed requests.", remedy, seconds_off=off)
    return fail("clock", f"{says} AWS refuses requests that are signed so far off.", remedy, seconds_off=off)


def judge_region(region: str, seen: Seen[str]) -> Finding:
    """Whether the account may use a region."""
    check = f"region {region}"
    if isinstance(seen, Unseen):
        return not_seen(check, seen, "ec2:DescribeRegions")
    if seen in ("opted-in", "opt-in-not-required"):
        return ok(check, "The account may use it.")
    if not seen:
        return fail(check, "AWS has no region of this name.", "Correct `region` or `further_regions` in the settings.")
    enable = f"`aws account enable-region --region-name {region}`; it takes minutes to hours."
    return fail(check, "The account has not enabled it.", enable)


def judge_permissions(caller: Caller, seen: Seen[tuple[Decision, ...]]) -> Finding:
    """Whether the caller may do what a deployment does."""
    if not caller.policy_source:
        if caller.arn.endswith(":root"):
            return ok("permissions", "The root user may do anything.")
        seen = Unseen("the role behind these credentials was not found (iam:GetRole)")
    if isinstance(seen, Unseen):
        return not_seen("permissions", seen, "iam:SimulatePrincipalPolicy")
    forbidden = [one for one in seen if not one.allowed]
    if not forbidden:
        return ok("permissions", f"{caller.policy_source} may deploy: {len(seen)} actions asked for.")
    names = ", ".join(one.action for one in forbidden)
    by = " Some of it by the organization." if any(one.organization for one in forbidden) else ""
    return warn(
        "permissions",
        f"{caller.policy_source} may not: {names}.{by} Conditions and single resources are not looked at.",
        "Have an administrator deploy, or be allowed these actions (docs/deploying.md).",
        forbidden=[one.action for one in forbidden],
    )


def judge_organization(role: str, seen: Seen[tuple[Decision, ...]]) -> Finding:
    """Whether the organization forbids a deployed role what its own policy allows."""
    if isinstance(seen, Unseen):
        return not_seen("organization", seen, "iam:SimulatePrincipalPolicy")
    forbidden = [one.action for one in seen if one.organization]
    if not forbidden:
        return ok("organization", f"It forbids {role} nothing that training needs.")
    says = f"A policy of the organization forbids {', '.join(forbidden)} to {role}."
    return fail("organization", says, "Ask who keeps the organization's service control policies.", forbidden=forbidden)


def judge_concurrency(region: str, seen: Seen[int]) -> Finding:
    """Whether Lambda lets enough functions run at a time. New accounts begin with ten."""
    check = f"Lambda in {region}"
    if isinstance(seen, Unseen):
        return not_seen(check, seen, "lambda:GetAccountSettings")
    if seen >= CONCURRENCY:
        return ok(check, f"{seen:,} functions may run at a time.", limit=seen)
    return warn(
        check,
        f"Only {seen} functions may run at a time in the whole account; under load the API answers 503.",
        f"`aws service-quotas request-service-quota-increase --service-code lambda --quota-code {CONCURRENCY_QUOTA} "
        f"--desired-value 1000 --region {region}`",
        limit=seen,
    )


def judge_budgets(account: str, seen: Seen[Sequence[Budget]]) -> Finding:
    """Whether somebody is told of the account's whole bill, of which training is a part."""
    if isinstance(seen, Unseen):
        return not_seen("budget of the account", seen, "budgets:ViewBudget")
    watched = [one for one in seen if one.warned]
    if watched:
        names = ", ".join(f"{one.name} ({one.limit})" for one in watched)
        return ok("budget of the account", f"AWS Budgets watches the whole bill: {names}.")
    says = "A budget is there, but it tells nobody." if seen else "No budget of AWS Budgets watches the whole bill."
    return warn(
        "budget of the account",
        f"{says} Spotune's caps hold training alone.",
        f"Make one with a notification: https://console.aws.amazon.com/billing/home#/budgets (account {account}).",
    )
