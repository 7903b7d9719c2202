"""Data that outlives its stack: noted when the stack is destroyed, taken over when it is deployed again.

Table and buckets become the new stack's own by CloudFormation's import. A secret's value is put into the new secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from spotune.deploy import templates
from spotune.deploy.account import Account, AwsSaysNo, call
from spotune.deploy.drawer import Drawer
from spotune.deploy.installation import Installation
from spotune.deploy.stacks import Stack, Tell

NOTE = "kept"
SECRET = "AWS::SecretsManager::Secret"  # noqa: S105 - a type's name
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
    region, template = stack.client.meta.region_name, stack.template()
    return [
        Kept(name, kind, id_, region, stack.name)
        for name, kind, id_ in stack.resources()
        if id_ and templates.keeps(template, name, "DeletionPolicy")
    ]


def noted(drawer: Drawer) -> list[Kept]:
    """What an earlier `spotune destroy` has kept."""
    return [Kept(**entry) for entry in drawer.note(NOTE) or ()]


def leave_note(drawer: Drawer, things: Iterable[Kept]) -> None:
    """Note what is about to lose its stack."""
    drawer.leave_note(NOTE, [asdict(thing) for thing in things])


def take_over(installation: Installation, stack: Stack, path: Path, parameters: Mapping[str, str], tell: Tell) -> None:
    """Make what an earlier stack of this name has left the first resources of the one that is about to be created.

    Args:
        path: of the stack's template.
    """
    template, region, drawer = templates.read(path), stack.client.meta.region_name, installation.drawer
    ours = [
        thing
        for thing in (noted(drawer) if drawer else ())
        if (thing.stack, thing.region) == (stack.name, region)
        and thing.type in _IDENTIFIERS
        and thing.name in template["Resources"]
        and _is_there(installation.account, thing)
    ]
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
    body = templates.taking_over(template, [thing.name for thing in ours])
    stack.carry_out(stack.propose_import(body, parameters, imports), tell)


def _is_there(account: Account, thing: Kept) -> bool:
    """False where somebody has deleted it by hand."""
    try:
        if thing.type == "AWS::DynamoDB::Table":
            call(account.client("dynamodb", thing.region).describe_table, TableName=thing.id)
        else:
            call(account.client("s3", thing.region).head_bucket, Bucket=thing.id)
    except AwsSaysNo:
        return False
    return True


def restore_secrets(installation: Installation, drawer: Drawer, tell: Tell) -> None:
    """Give the stack's secrets the values that kept ones have, and let those go. The end of what was kept."""
    things = noted(drawer)
    if not things:
        return
    present = {name: id_ for name, kind, id_ in installation.home.resources() if kind == SECRET}
    client = installation.account.client("secretsmanager")
    for thing in things:
        if thing.type == SECRET and thing.name in present and present[thing.name] != thing.id:
            try:
                value = call(client.get_secret_value, SecretId=thing.id)["SecretString"]
            except AwsSaysNo:
                tell(f"{thing.id} is gone: {thing.name} has a new value")
                continue
            call(client.put_secret_value, SecretId=present[thing.name], SecretString=value)
            call(client.delete_secret, SecretId=thing.id, RecoveryWindowInDays=30)
    regions = installation.settings.further_regions
    left = [thing for thing in things if thing.stack != installation.home.name and thing.region not in regions]
    if left:
        leave_note(drawer, left)
    else:
        drawer.throw_away(NOTE)
