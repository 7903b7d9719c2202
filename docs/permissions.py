"""Writes the tables of docs/permissions.md from the templates: what each role may do, on what, and on which conditions.

python docs/permissions.py            write it
python docs/permissions.py --check    exit 1 where it is out of date
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pages import keep

from spotune.deploy import templates

Statement = dict[str, Any]

MARK = "<!-- What follows is made by docs/permissions.py. -->"

REASONS = {
    ("TrainPolicy", "Metrics"): "`cloudwatch:PutMetricData` knows no resource; the namespace narrows it.",
    ("TrainPolicy", "SignInToRegistry"): "`ecr:GetAuthorizationToken` knows no resource; a token alone opens no image.",
    ("TrainInSubnetsPolicy", "SeeNetwork"): "None of EC2's reads knows a resource.",
    ("ReconcileRole", "FindOrphans"): "`sagemaker:ListTrainingJobs` knows no resource.",
    ("ShowModelsPolicy", "FindShownModels"): "Which resource a listing by group is checked against is not documented.",
    ("RefreshMarketRole", "ReadPrices"): "`pricing:GetProducts` knows no resource.",
    ("RefreshMarketRole", "ReadSpot"): "Neither read of EC2's knows a resource.",
    ("RefreshMarketRole", "ReadQuotas"): "`servicequotas:ListServiceQuotas` knows no resource.",
    ("TracePolicy", "Trace"): "Neither action of X-Ray's knows a resource.",
}
"""Of each grant on every resource, by where it is written, why it is one."""

WILDCARDS = {
    "${Table}/index/*": "All indexes of the one table.",
    "ec2: network-interface/*": "SageMaker makes them as a job starts, in the subnets that are named.",
    "ec2: s*": "Which subnets and security groups they are is a condition.",
    "iam: *": "Roles of tenants, by a path of this stage's that holds no others.",
    "logs: *:log-stream:ftjob-*": "SageMaker calls the streams of a training job by its name.",
    "logs: *": "So CloudWatch spells a group that it asks for.",
    "s3: spotune-${Stage}-<account>-*": "Buckets of further regions: this stage's and this account's, by their names.",
    "s3: ${MirrorBucket}/base/*": "Base models of another installation, to be read.",
    "sagemaker: model-package*": "Groups of this stage, by the beginning of their names, and their versions.",
    "sagemaker: training-job/ftjob-*": "Jobs' ids are random; what changes one asks for its stage, or for its start.",
    "sagemaker: training-job/*": "Of what is denied.",
    "secretsmanager: *": "Trackers' keys, which tenants name; of one tenant, where tenants have roles.",
    "*Bucket}/*": "Objects below the folders that are named; `*` in front of them is any tenant's.",
}
"""Of wildcards within a resource, by a pattern of what is named, why they are there. The first that fits counts."""

ROLES = {
    "ApiRole": "the API's function",
    "LaunchRole": "the function that runs commands: checks datasets, starts and stops training",
    "DataArrivedRole": "the function that takes in what lands in S3",
    "DeliverRole": "the function that delivers notifications to the topic and to webhooks",
    "TrainingChangedRole": "the function that takes in training jobs' state changes",
    "ReconcileRole": "the function that finishes what was left undone, once a minute",
    "RefreshMarketRole": "the function that fetches prices and quotas",
    "KeysRole": "the function that issues keys; who may invoke it is the operator's choice",
    "TrainingRole": "training jobs, unless tenants have roles",
    "TenantRole": "training jobs of one tenant, where tenants have roles; `${Tenant}` is its name",
}
_CONDITIONS = {
    "HasFurtherRegions": "with further regions",
    "HasKey": "with a key of your own",
    "HasMirror": "with a shared bucket of base models",
    "HasMlflowServers": "with MLflow servers",
    "HasSourceBuckets": "with further buckets to watch",
    "HasSubnets": "with your own subnets",
    "HasTenants": "with tenants' roles",
    "HasWebAcl": "with a web ACL",
    "IsIsolated": "with network isolation",
}
_PSEUDO = {
    "${AWS::Partition}": "aws",
    "${AWS::Region}": "<region>",
    "${AWS::AccountId}": "<account>",
    "${AWS::URLSuffix}": "amazonaws.com",
    "${Name}": "<your key>",
    ".Arn}": "}",
}
_ARN = re.compile(r"arn:aws:(\w[\w-]*):[^:]*:[^:]*:(.*)", re.DOTALL)


def page() -> str:
    """The whole page: what is written by hand, and the tables below it."""
    text = Path(__file__).with_suffix(".md").read_text(encoding="utf-8").partition(MARK)[0]
    document = templates.read(templates.INSTALLATION)
    resources = dict(_each(document["Resources"]))
    lines = [text + MARK, ""]
    for role, who in ROLES.items():
        lines += [f"### {role}", "", f"Of {who}.", "", "| what for | actions | on | only if |", "|---|---|---|---|"]
        lines += [_row(when, statement) for when, statement in _grants(resources, role)]
        lines.append("")
    further = templates.read(templates.REGION)["Resources"]
    lines += ["### ForwardingRole", "", "Of EventBridge, in a further region.", ""]
    lines += ["| what for | actions | on | only if |", "|---|---|---|---|"]
    (policy,) = further["ForwardingRole"]["Properties"]["Policies"]
    lines += [_row("", one) for one in policy["PolicyDocument"]["Statement"]]
    lines += [
        "",
        "## Grants on every resource",
        "",
        "All there are. `tests/infra/test_template.py` fails at another one.",
    ]
    lines += ["", "| written in | what for | why |", "|---|---|---|"]
    lines += [f"| {where} | {_words(sid)} | {why} |" for (where, sid), why in REASONS.items()]
    lines += ["", "## Wildcards within a resource", ""]
    lines += ["Regions are `*` under `aws:RequestedRegion`, of the key's replicas, and where something is denied.", ""]
    lines += ["| on | why |", "|---|---|"]
    lines += [f"| `{pattern}` | {WILDCARDS[pattern]} |" for pattern in wildcards()]
    return "\n".join(lines) + "\n"


def wildcards() -> dict[str, list[str]]:
    """Every resource with a wildcard in it, by the pattern of its reason.

    Raises:
        LookupError: one has no reason.
    """
    resources = dict(_each(templates.read(templates.INSTALLATION)["Resources"]))
    named = {
        one for role in ROLES for _, statement in _grants(resources, role) for one in _names(statement["Resource"])
    }
    found: dict[str, list[str]] = {pattern: [] for pattern in WILDCARDS}
    for place in sorted(one for one in named if "*" in one and one != "*"):
        pattern = next((one for one in WILDCARDS if fnmatchcase(place, one)), None)
        if pattern is None:
            raise LookupError(f"{place} has a wildcard: narrow it, or say why in WILDCARDS of docs/permissions.py.")
        found[pattern].append(place)
    return found


def _names(resource: Any) -> list[str]:
    """The names in what `_place` says of each."""
    return [name for one in _listed(resource) for name in re.findall(r"`([^`]+)`", _place(one))]


def _each(resources: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, body in resources.items():
        if isinstance(body, list):
            yield from ((made.partition("&")[0], one) for made, one in body[2].items())
        else:
            yield name, body


def _grants(resources: Mapping[str, Any], role: str) -> Iterator[tuple[str, Statement]]:
    """Each statement of a role, with the condition under which it has it."""
    properties = resources[role]["Properties"]
    for policy in properties.get("Policies", ()):
        when, inner = _conditional(policy)
        yield from ((when, one) for one in inner["PolicyDocument"]["Statement"])
    for attached in properties.get("ManagedPolicyArns", ()):
        when, ref = _conditional(attached)
        yield from ((when, one) for one in _statements(resources[ref["Ref"]]))
    for body in resources.values():
        if body["Type"] == "AWS::IAM::Policy" and {"Ref": role} in body["Properties"]["Roles"]:
            when = _CONDITIONS[body["Condition"]] if "Condition" in body else ""
            yield from ((when, one) for one in _statements(body))


def _statements(policy: Mapping[str, Any]) -> list[Statement]:
    found: list[Statement] = policy["Properties"]["PolicyDocument"]["Statement"]
    return found


def _conditional(value: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if "Fn::If" not in value:
        return "", value
    name, inner, _ = value["Fn::If"]
    return _CONDITIONS[name], inner


def _row(when: str, statement: Statement) -> str:
    actions = ", ".join(f"`{action}`" for action in _listed(statement["Action"]))
    places = ", ".join(dict.fromkeys(_place(one) for one in _listed(statement["Resource"])))
    conditions = [when] if when else []
    for operator, keys in statement.get("Condition", {}).items():
        inner_when, keys = _conditional(keys)
        conditions += [_condition(operator, key, value, inner_when) for key, value in keys.items()]
    words = _words(statement["Sid"]) if statement["Effect"] == "Allow" else f"**denied**: {_words(statement['Sid'])}"
    return f"| {words} | {actions} | {places} | {'; '.join(filter(None, conditions))} |"


def _condition(operator: str, key: str, value: Any, when: str) -> str:
    if isinstance(value, dict) and "Fn::If" in value:
        when, value = _conditional(value)
    if operator == "Null":
        # A key that has to be there is named by the condition on its values.
        return f"no `{key}` given" if value == "true" else ""
    words = " or ".join(_plain(one) for one in _listed(value))
    compared = {
        "NumericLessThanEquals": "at most ",
        "NumericLessThanEqualsIfExists": "if given, at most ",
        "BoolIfExists": "if given, ",
        "StringEqualsIfExists": "if there, ",
        "StringNotEquals": "other than ",
        "ArnEqualsIfExists": "if given, ",
        "ArnLikeIfExists": "if given, ",
        "ForAnyValue:StringNotLike": "beside ",
    }
    return f"{f'{when}: ' if when else ''}`{key}` {compared.get(operator, '')}{words}"


def _place(value: Any) -> str:
    """A resource as a person names it."""
    match value:
        case {"Fn::If": [name, yes, {"Ref": "AWS::NoValue"}]}:
            return f"{_CONDITIONS[name]}: {_place(yes)}"
        case {"Fn::If": [name, yes, no]}:
            return f"{_CONDITIONS[name]}: {_place(yes)}; else {_place(no)}"
        case {"Fn::Split": [_, {"Fn::Join": [_, [{"Fn::Join": [_, {"Ref": name}]}, *_]]}]}:
            return f"what lies in `{name}`"
        case _:
            text = _plain(value).strip("`")
    arn = _ARN.fullmatch(text)
    return f"`{arn.group(1)}: {arn.group(2).strip()}`" if arn else f"`{text}`"


def _plain(value: Any) -> str:
    match value:
        case {"Fn::Sub": [str() as text, dict()]} | {"Fn::Sub": str() as text}:
            for written, meant in _PSEUDO.items():
                text = text.replace(written, meant)
            return f"`{text.strip()}`"
        case {"Fn::GetAtt": [name, *_]} | {"Ref": name}:
            return f"`{name}`"
        case {"Fn::Split": _}:
            return "one of `Subnets`"
        case _:
            return f"`{value}`"


def _words(sid: str) -> str:
    """`ReadObjects` -> read objects."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", sid).lower()


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


if __name__ == "__main__":
    sys.exit(keep(__file__, page()))
