"""Data that outlives its stack: noted when the stack is destroyed, taken over when it is deployed again.

Table and buckets become the new stack's own by CloudFormation's import. A secret's value is put into the new secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spotune.contracts.errors import Conflict
from spotune.deploy import templates
from spotune.deploy.account import Account, AwsSaysNo, call
from spotune.deploy.drawer import Drawer
from spotune.deploy.installation import Installation
from spotune.deploy.stacks import Stack, Tell

NOTE = "kept"
SECRET = "AWS::SecretsManager::Secret"  # noqa: S105 - a type's name
_PLACE = f"notes/{NOTE}.json in the code bucket"
_NOT_THERE = ("ResourceNotFoundException", "NoSuchBucket", "404")
_IDENTIFIERS = {"AWS::DynamoDB::Table": "TableName", "AWS::S3::Bucket": "BucketName"}


@dataclass(frozen=True, slots=True)
class Kept:
    """One thing that holds data: its name in the template, its type, where and under which name it lies."""

    name: str
    type: str
    id: str
    region: str
    stack: str


def held_by(stack: Stack) -> list[Kept]:
    """What a stack holds that nobody can make again."""
    if not stack.exists():
        return []
    template = stack.template()
    return [
        Kept(name, kind, id_, stack.region, stack.name)
        for name, kind, id_ in stack.resources()
        if id_ and templates.keeps(template, name, "DeletionPolicy")
    ]


def noted(drawer: Drawer) -> list[Kept]:
    """What an earlier `spotune destroy` has kept."""
    return [Kept(**entry) for entry in drawer.note(NOTE) or ()]


def note(drawer: Drawer, things: Iterable[Kept]) -> tuple[Kept, ...]:
    """Note what is about to lose its stack, beside what was noted before; all of it."""
    added = [asdict(thing) for thing in things]

    def beside(noted: Any) -> list[dict[str, str]]:
        return [*{(entry["region"], entry["id"]): entry for entry in (*(noted or ()), *added)}.values()]

    return tuple(Kept(**entry) for entry in drawer.revise(NOTE, beside))


def note_before_deletion(installation: Installation, stack: Stack) -> None:
    """Note what a stack holds that failed and is about to be deleted: the next one of its name takes it over."""
    things, drawer = held_by(stack), installation.drawer
    if things and drawer is not None:
        note(drawer, things)


def heirlooms(installation: Installation, stack: Stack, path: Path) -> list[Kept]:
    """What an earlier stack of this name has left for the one that is about to be created; nothing where there is one.

    Args:
        path: of the stack's template.

    Raises:
        Conflict: the stack is there without it, two things were kept for one name, somebody is at work in the stack, or
            AWS does not say whether it is there yet. Nothing was made, and the note is as it was.
    """
    ours = _awaiting(installation, stack, templates.read(path))
    twice = len({thing.name for thing in ours}) < len(ours)
    if ours and (twice or stack.exists()):
        named = ", ".join(f"{thing.id} ({thing.name})" for thing in ours)
        reason = "two were kept for one name" if twice else "that stack is there without it"
        raise Conflict(
            f"{named} was kept from an earlier stack {stack.name} and cannot be taken over: {reason}.",
            code="kept_data_displaced",
            remedy=f"Move what you need over, and take what is not to be taken over out of {_PLACE}.",
        )
    return ours


def take_over(installation: Installation, stack: Stack, path: Path, parameters: Mapping[str, str], tell: Tell) -> None:
    """Make a stack's `heirlooms` its first resources. Raises as `heirlooms`."""
    ours = heirlooms(installation, stack, path)
    if not ours:
        return
    tell(f"{stack.name}: taking over {', '.join(thing.id for thing in ours)}")
    imports = [
        {
            "ResourceType": thing.type,
            "LogicalResourceId": thing.name,
            "ResourceIdentifier": {_IDENTIFIERS[thing.type]: thing.id},
        }
        for thing in ours
    ]
    body = templates.taking_over(templates.read(path), [thing.name for thing in ours])
    stack.carry_out(stack.propose_import(body, parameters, imports), tell)


def _awaiting(installation: Installation, stack: Stack, template: Mapping[str, Any]) -> list[Kept]:
    """What was noted of a stack of this name, can be imported, is not the present one's, and is there yet."""
    drawer = installation.drawer
    found = [
        thing
        for thing in (noted(drawer) if drawer else ())
        if (thing.stack, thing.region) == _place(stack)
        and thing.type in _IDENTIFIERS
        and thing.name in template["Resources"]
    ]
    if found:
        stack.require_rest()  # one that is just being made does not say yet what it holds
    held = {id_ for _, _, id_ in stack.resources()} if found and stack.exists() else set()
    return [thing for thing in found if thing.id not in held and _is_there(installation.account, thing)]


def _is_there(account: Account, thing: Kept) -> bool:
    """False where somebody has deleted it. Whatever else AWS answers, it may be there: nothing empty takes its place.

    Raises:
        Conflict: AWS does not say.
    """
    try:
        if thing.type == "AWS::DynamoDB::Table":
            shown = call(account.client("dynamodb", thing.region).describe_table, TableName=thing.id)
            return bool(shown["Table"]["TableStatus"] != "DELETING")
        call(account.client("s3", thing.region).head_bucket, Bucket=thing.id)
    except AwsSaysNo as refused:
        if refused.aws_code in _NOT_THERE:
            return False
        raise _unclear(thing, refused) from refused
    return True


def restore_secrets(installation: Installation, drawer: Drawer, tell: Tell) -> None:
    """Give the stack's secrets the values that kept ones have, and let those go. The end of what was kept.

    Raises:
        Conflict: a kept secret cannot be read; it stays noted, and the next deployment tries again.
    """
    things = noted(drawer)
    if not things:
        return
    stacks = [installation.home, *map(installation.further, installation.settings.further_regions)]
    present = {(*_place(stack), name): id_ for stack in stacks if stack.stays() for name, _, id_ in stack.resources()}
    # Of two secrets for one name the older was in use: the other is of a deployment that was cut off. It is moved last.
    for thing in reversed(things):
        now = present.get(_key(thing))
        if thing.type == SECRET and now is not None and now != thing.id:
            _move_value(installation, thing, now, tell)
    # What could be taken over was: another one in its place means that it is gone.
    ended = [asdict(thing) for thing in things if _key(thing) in present]
    drawer.revise(NOTE, lambda noted: [entry for entry in noted or () if entry not in ended])


def _move_value(installation: Installation, thing: Kept, present: str, tell: Tell) -> None:
    client = installation.account.client("secretsmanager")
    try:
        value = call(client.get_secret_value, SecretId=thing.id)["SecretString"]
    except AwsSaysNo as refused:
        if refused.aws_code not in _NOT_THERE and "marked for deletion" not in refused.reason:
            raise _unclear(thing, refused) from refused
        tell(f"{thing.id} is gone: {thing.name} keeps the value that it has")
        return
    call(client.put_secret_value, SecretId=present, SecretString=value)
    call(client.delete_secret, SecretId=thing.id, RecoveryWindowInDays=30)


def _place(stack: Stack) -> tuple[str, str]:
    return stack.name, stack.region


def _key(thing: Kept) -> tuple[str, str, str]:
    return thing.stack, thing.region, thing.name


def _unclear(thing: Kept, refused: AwsSaysNo) -> Conflict:
    return Conflict(
        f"{thing.id} ({thing.name}) was kept from an earlier stack, and cannot be looked at: AWS answers "
        f"{refused.aws_code}, {refused.reason}",
        code="kept_data_unclear",
        remedy=f"Mend that, then deploy again. If it is not to be taken over, take it out of {_PLACE}.",
    )
