"""Judges what was seen of an installation: stack, API, image, models, alarms and who hears them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from spotune.deploy.doctor.findings import Finding, fail, not_seen, ok, warn
from spotune.deploy.doctor.seen import Alarm, Answer, BaseModel, Image, Seen, Stack, Subscription, Unseen
from spotune.deploy.image_name import ImageName

_GOOD = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"})
_STUCK = "UPDATE_ROLLBACK_FAILED"
_NO_IMAGE = frozenset({"ImageNotFoundException", "RepositoryNotFoundException"})
_PROCESSOR = "amd64"
"""What SageMaker's GPU machines have."""
_TAG = re.compile(r"(?P<version>.+)-(?P<accelerator>cuda|cpu)-[0-9a-f]{12}")
"""How `spotune image build` names an image."""
_SEVERE = ("CRITICAL", "HIGH")
_SHOWN = 5
_DEPLOY = "`spotune deploy`"
_BUILD_AND_PUSH = "`spotune image build`, then `spotune image push`"


def judge_stack(name: str, seen: Seen[Stack | None], region: str = "") -> Finding:
    """How a stack of the installation stands; `region` where it lies in a further one."""
    check = f"stack {name} in {region}" if region else f"stack {name}"
    if isinstance(seen, Unseen):
        return not_seen(check, seen, "cloudformation:DescribeStacks")
    if seen is None:
        return warn(check, "It is not deployed yet.", _DEPLOY)
    if seen.status in _GOOD:
        return ok(check, f"{seen.status}.", status=seen.status)
    says = f"{seen.status}. {seen.reason}".strip()
    if seen.status == "UPDATE_ROLLBACK_COMPLETE":
        return warn(check, f"{says} The last update failed; what was before it runs.", f"{_DEPLOY} says why it fails.")
    if seen.status.endswith("_IN_PROGRESS"):
        return warn(check, f"{says} A change is on its way.", "Wait for its end and ask again.")
    if seen.status == _STUCK:
        command = f"`aws cloudformation continue-update-rollback --stack-name {name}`, then {_DEPLOY}"
        return fail(check, f"{says} It takes no change until its rollback ends.", command)
    return fail(check, says, f"{_DEPLOY} begins anew where nothing was there before it.")


def judge_version(stack: Stack, wanted: Mapping[str, str]) -> Finding:
    """Whether the stack's parameters are those that a deployment from here would give it, its code's key among them."""
    other = sorted(name for name, value in wanted.items() if stack.parameters.get(name) != value)
    if not other:
        code = "its code and its settings" if "CodeKey" in wanted else "its settings; its code was not compared"
        return ok("version", f"What is deployed is what lies here: {code}.")
    code = "code" if "CodeKey" in other else ""
    settings = ", ".join(name for name in other if name != "CodeKey")
    says = f"Deployed is something else than what lies here: {' and '.join(part for part in (code, settings) if part)}."
    return warn("version", says, f"`spotune deploy --plan` shows the change, {_DEPLOY} makes it.", differs=other)


def judge_answer(url: str, seen: Answer) -> Finding:
    """Whether the API answers."""
    if seen.status == 200:
        return ok("API", f"{url} answers.")
    said = f"{seen.status} {seen.reason}" if seen.status else seen.reason
    return fail("API", f"{url} does not answer: {said}", "See the log group of ApiFunction, and the alarms below.")


def judge_image(uri: str | None, region: str, home: str, seen: Seen[Image | None], version: str) -> Finding:
    """Whether training jobs of a region find an image that runs there, and that `version` of Spotune has made.

    Args:
        uri: the image that the settings name.
        region: where it is looked for.
        home: the installation's own region, into whose registry images are pushed.
    """
    check = f"image in {region}"
    if uri is None:
        return fail(check, "The settings name no training image.", _BUILD_AND_PUSH)
    if seen is None or (isinstance(seen, Unseen) and seen.code in _NO_IMAGE):
        return fail(
            check, f"ECR has no {uri} there.", _BUILD_AND_PUSH if region == home else _copied(uri, region, home)
        )
    if isinstance(seen, Unseen):
        return not_seen(check, seen, "ecr:DescribeImages, ecr:BatchGetImage and ecr:GetDownloadUrlForLayer")
    facts = {"digest": seen.digest, "bytes": seen.bytes, "architectures": seen.architectures, "scan": dict(seen.severe)}
    if seen.architectures and _PROCESSOR not in seen.architectures:
        says = f"{uri} is made for {', '.join(seen.architectures)}; SageMaker's GPU machines are {_PROCESSOR}."
        return fail(check, says, f"Build it for linux/{_PROCESSOR}: `spotune image build`", **facts)
    says = f"{seen.digest[:19]}, {seen.bytes / 1e9:.1f} GB, {', '.join(seen.architectures) or 'processor not told'}."
    made = [match for match in map(_TAG.fullmatch, seen.tags) if match]
    if made and all(match["version"] != version for match in made):
        says = f"It was built by Spotune {made[0]['version']}, and {version} is here: it reads no other one's jobs."
        return warn(check, says, f"{_BUILD_AND_PUSH}, then {_DEPLOY}", **facts)
    if any(match["accelerator"] == "cpu" for match in made):
        says = "It was built for CPUs: on a GPU machine it would train on the processor, slowly and for the same price."
        return warn(check, says, _BUILD_AND_PUSH, **facts)
    severe = {name: seen.severe[name] for name in _SEVERE if seen.severe.get(name)}
    if severe:
        found = ", ".join(f"{count} {name.lower()}" for name, count in severe.items())
        return warn(check, f"{says} ECR's scan found {found}.", "Build and push it anew on a newer base.", **facts)
    if seen.mutable_tag:
        fixed = f"Name it by its digest in the settings: {uri.partition('@')[0]}@{seen.digest}"
        return warn(check, f"{says} Its tag may be moved to another image.", fixed, **facts)
    return ok(check, says, **facts)


def _copied(uri: str, region: str, home: str) -> str:
    """ECR copies by itself what is pushed once it was told to, and what was there before when it is asked."""
    destination = f"region={region},registryId={ImageName.of(uri).account}"
    command = f"aws ecr start-replication-backfill --region {home} --destination {destination}"
    return f"Have ECR replicate it there (docs/regions.md); what was pushed before that: `{command}`"


def judge_models(seen: Seen[Sequence[BaseModel]]) -> Finding:
    """Whether there is a base model to train."""
    if isinstance(seen, Unseen):
        return not_seen("base models", seen, "s3:ListBucket")
    finished = [one for one in seen if one.complete]
    broken = [one.name for one in seen if not one.complete]
    details = {"models": [one.name for one in finished], "incomplete": broken}
    if broken:
        says = f"Not complete: {_shown(broken)}; jobs do not see them. Complete: {len(finished)}."
        return warn("base models", says, f"`spotune models add {broken[0]}` goes on where it ended.", **details)
    if not finished:
        return warn("base models", "The models bucket holds none.", "`spotune models add HF_ID`", **details)
    size = sum(one.bytes for one in finished) / 1e9
    return ok("base models", f"{len(finished)}, {size:.1f} GB: {_shown([one.name for one in finished])}.", **details)


def judge_alarms(seen: Seen[Sequence[Alarm]]) -> list[Finding]:
    """Whether the alarms are there, the one on spending first, and whether one rings."""
    if isinstance(seen, Unseen):
        return [not_seen("alarms", seen, "cloudwatch:DescribeAlarms and cloudformation:ListStackResources")]
    spend = next((one for one in seen if one.name == "SpendAlarm"), None)
    if spend is None:
        first = fail("budget alarm", "Nothing tells of a day's spending: SpendAlarm is missing.", _DEPLOY)
    elif not spend.actions:
        command = "`aws cloudwatch enable-alarm-actions` for SpendAlarm, or " + _DEPLOY
        first = fail("budget alarm", "SpendAlarm tells nobody: its actions are switched off.", command)
    else:
        first = ok("budget alarm", "SpendAlarm watches a day's spending.")
    mute = [one.name for one in seen if not one.actions and one is not spend]
    ringing = [f"{one.name} ({one.reason})" if one.reason else one.name for one in seen if one.state == "ALARM"]
    if ringing:
        return [first, warn("alarms", f"Ringing: {'; '.join(ringing)}", "docs/observability.md says what each means.")]
    if mute:
        return [first, warn("alarms", f"They tell nobody: {_shown(mute)}.", "Switch their actions on: " + _DEPLOY)]
    return [first, ok("alarms", f"{len(seen)} alarms, none rings.")]


def judge_address(email: str, seen: Seen[Sequence[Subscription]]) -> Finding:
    """Whether somebody hears the alarms. AWS sends to an address only once it has confirmed."""
    check = "alarms' address"
    if isinstance(seen, Unseen):
        return not_seen(check, seen, "sns:ListSubscriptionsByTopic")
    heard = [f"{one.protocol} {one.endpoint}" for one in seen if one.confirmed]
    if email and not any(one.endpoint == email and one.confirmed for one in seen):
        if any(one.endpoint == email for one in seen):
            says = f"{email} has not confirmed; until then AWS sends it nothing."
            return warn(check, says, "Follow the link in the message `AWS Notification - Subscription Confirmation`.")
        return warn(check, f"{email} does not hear the alarms.", _DEPLOY)
    if heard:
        return ok(check, f"Alarms go to {_shown(heard)}.")
    return warn(check, "Nobody hears the alarms.", f"Set `alarm_email` in the settings, then {_DEPLOY}.")


def _shown(words: Sequence[str]) -> str:
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more
