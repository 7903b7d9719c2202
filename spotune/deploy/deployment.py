"""`spotune deploy`: what would change, and the change.

A deployment can be killed at any step and run again; each step looks for what is there.

    code bucket -> further regions -> bundle, template into the bucket -> kept data taken over -> home -> first key
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from spotune.contracts.errors import Conflict
from spotune.deploy import destruction, kept, keys, templates
from spotune.deploy.drawer import Drawer
from spotune.deploy.installation import REGIONS, Installation
from spotune.deploy.stacks import Change, Proposal, Stack, Tell


@dataclass(frozen=True, slots=True)
class Step:
    """What a deployment would do to one stack. `exact` is false where CloudFormation could not be asked yet."""

    stack: str
    region: str
    creates: bool
    changes: tuple[Change, ...]
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Deployed:
    """What is there after a deployment."""

    api_url: str
    outputs: Mapping[str, str]
    key: str | None
    """The first admin key; None where it was made before."""
    changed: bool


def plan(installation: Installation, bundle: Path) -> tuple[Step, ...]:
    """What `deploy` would change, stack by stack; nothing of it is carried out.

    CloudFormation works it out, for which the template is put into the code bucket. Where that bucket is not there yet,
    neither is anything else, and the template itself says what would be made.

    Raises:
        RequestRefused, Conflict: it could not be carried out.
    """
    installation.check_image()
    drawer = installation.drawer
    steps = [_proposed(installation, installation.code, *_code(installation))]
    steps += [
        _proposed(installation, *_further(installation, region)) for region in installation.settings.further_regions
    ]
    if drawer is None:
        return (*steps, _all_of_it(installation))
    return (*steps, _proposed(installation, installation.home, *_home(installation, drawer, bundle)))


def deploy(installation: Installation, bundle: Path, tell: Tell, *, may_replace: Collection[str] = ()) -> Deployed:
    """Bring the account to what the settings say.

    Args:
        bundle: the Lambda bundle, for the settings' Python and processor.
        tell: takes lines about what happens.
        may_replace: names of resources that hold data and may be made anew where CloudFormation cannot tell before.

    Raises:
        RequestRefused: the settings cannot be deployed.
        Conflict: a change would lose data, or a stack cannot be changed.
        Unavailable: CloudFormation failed and rolled back; the message holds its first reason.
    """
    installation.check_image()
    _bring_up(installation, installation.code, templates.CODE, *_code(installation), tell)
    drawer = installation.drawer
    assert drawer is not None, "the stack of code.yaml has its bucket as an output"
    _note_regions(installation, drawer)
    for region in installation.settings.further_regions:
        stack, template, parameters = _further(installation, region)
        _bring_up(installation, stack, templates.REGION, template, parameters, tell, may_replace)
    template, parameters = _home(installation, drawer, bundle)
    drawer.put(bundle, bundle.name)
    changed = _bring_up(
        installation, installation.home, templates.INSTALLATION, template, parameters, tell, may_replace
    )
    installation.home.protect(installation.settings.deletion_protection)
    kept.restore_secrets(installation, drawer, tell)
    destruction.release(installation)
    outputs = installation.home.outputs()
    if changed:
        keys.refresh_market(installation.account, outputs)
    return Deployed(outputs["ApiUrl"], outputs, keys.first_key(installation, drawer, outputs), changed)


def _note_regions(installation: Installation, drawer: Drawer) -> None:
    noted = drawer.note(REGIONS) or []
    if new := [region for region in installation.settings.further_regions if region not in noted]:
        drawer.leave_note(REGIONS, [*noted, *new])


def _code(installation: Installation) -> tuple[dict[str, str], dict[str, str]]:
    return {"TemplateBody": templates.CODE.read_text()}, {"Stage": installation.stage}


def _further(installation: Installation, region: str) -> tuple[Stack, dict[str, str], dict[str, str]]:
    template = {"TemplateBody": templates.REGION.read_text()}
    return installation.further(region), template, installation.further_parameters(region)


def _home(installation: Installation, drawer: Drawer, bundle: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Template and parameters; a request takes 51,200 bytes of template, an object in S3 a megabyte."""
    key = drawer.put(templates.INSTALLATION, templates.name_of(templates.INSTALLATION))
    return {"TemplateURL": drawer.url(key)}, installation.home_parameters(drawer.bucket, bundle.name)


def _bring_up(
    installation: Installation,
    stack: Stack,
    path: Path,
    template: Mapping[str, str],
    parameters: Mapping[str, str],
    tell: Tell,
    may_replace: Collection[str] = (),
) -> bool:
    """Create or update one stack, with the data that an earlier one has left; False where nothing was to change."""
    stack.ready(tell, partial(kept.note_before_deletion, installation))
    kept.take_over(installation, stack, path, parameters, tell)
    proposal = stack.propose(template, parameters, installation.stage)
    if proposal is None:
        tell(f"{stack.name}: nothing to change")
        return False
    _refuse_loss(stack, proposal, may_replace)
    tell(f"{stack.name}: {'creating' if proposal.creates else 'changing'} {len(proposal.changes)} resources")
    stack.carry_out(proposal, tell)
    return True


def _refuse_loss(stack: Stack, proposal: Proposal, may_replace: Collection[str]) -> None:
    lost = [change for change in proposal.changes if change.loses_data]
    refused = [change for change in lost if change.replacement != "Conditional" or change.name not in may_replace]
    if not refused:
        return
    stack.withdraw(proposal)
    named = ", ".join(f"{change.name} ({change.type})" for change in refused)
    if all(change.replacement == "Conditional" for change in refused):
        raise Conflict(
            f"The change of the stack {stack.name} may put an empty one in place of {named}: it shows only on the way.",
            code="data_might_be_lost",
            remedy="`spotune deploy --plan` shows what causes it. Where that is meant: --may-replace with its name.",
        )
    raise Conflict(
        f"The change of the stack {stack.name} would put an empty one in place of {named}.",
        code="data_would_be_lost",
        remedy="Deploy under another stage, and move what you need over. `spotune deploy --plan` shows what causes it.",
    )


def _proposed(
    installation: Installation, stack: Stack, template: Mapping[str, str], parameters: Mapping[str, str]
) -> Step:
    proposal = stack.propose(template, parameters, installation.stage)
    region = stack.client.meta.region_name
    if proposal is None:
        return Step(stack.name, region, False, ())
    stack.withdraw(proposal)
    return Step(stack.name, region, proposal.creates, proposal.changes)


def _all_of_it(installation: Installation) -> Step:
    resources = templates.read(templates.INSTALLATION)["Resources"].items()
    # What a loop makes (Fn::ForEach) depends on the settings; CloudFormation counts it once it is asked.
    changes = tuple(Change("Add", name, entry["Type"]) for name, entry in sorted(resources) if isinstance(entry, dict))
    return Step(installation.home.name, installation.settings.region, True, changes, exact=False)
