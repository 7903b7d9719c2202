"""`spotune deploy`: what would change, and the change.

A deployment can be killed at any step and run again; each step looks for what is there.

    code bucket -> further regions -> bundle, template into the bucket -> home -> regions that leave -> first key

Where a stack is new, what an earlier one of its name has kept is taken over first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from spotune.contracts.errors import Conflict
from spotune.deploy import destruction, kept, keys, settings, templates
from spotune.deploy.drawer import Drawer
from spotune.deploy.installation import REGIONS, Installation
from spotune.deploy.stacks import Change, Proposal, Stack, Tell


@dataclass(frozen=True, slots=True)
class Step:
    """What a deployment would do to one stack.

    Attributes:
        exact: False where CloudFormation could not be asked yet, and the template says it.
        goes: the stack is deleted; its region is not named any more.
        changed_at: when it was last changed, before this; empty where it is new.
    """

    stack: str
    region: str
    creates: bool
    changes: tuple[Change, ...]
    exact: bool = True
    goes: bool = False
    changed_at: str = ""


@dataclass(frozen=True, slots=True)
class Deployed:
    """What is there after a deployment."""

    api_url: str
    outputs: Mapping[str, str]
    key: str | None
    """The first admin key; None where it was made before."""
    changed: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """One stack of the installation and what it is to be: template and parameters."""

    stack: Stack
    path: Path
    template: Mapping[str, str]
    parameters: Mapping[str, str]


def plan(installation: Installation, bundle: Path) -> tuple[Step, ...]:
    """What `deploy` would change, stack by stack; nothing of it is carried out.

    CloudFormation works it out, for which the template is put into the code bucket. Where that bucket is not there yet,
    neither is anything else, and the template itself says what would be made.

    Raises:
        RequestRefused, Conflict: it could not be carried out.
    """
    installation.check_image()
    drawer, leaving = installation.drawer, _leaving(installation)
    _refuse_running(installation, leaving)
    steps = [_foreseen(installation, part) for part in (_code(installation), *_further(installation))]
    if drawer is None:
        known = settings.parameters(installation.settings)
        steps.append(_from_template(installation.home, templates.INSTALLATION, known, ()))
    else:
        steps.append(_foreseen(installation, _home(installation, drawer, bundle)))
    return (*steps, *map(_end_of, leaving))


def mend(installation: Installation, tell: Tell) -> None:
    """Bring every stack into a state from which a change can be proposed.

    Raises:
        Conflict: as `Stack.ready`.
    """
    for stack in (installation.code, *(part.stack for part in _further(installation)), installation.home):
        _make_ready(installation, stack, tell)


def deploy(
    installation: Installation,
    bundle: Path,
    tell: Tell,
    *,
    shown: Sequence[Step] | None = None,
    may_replace: Collection[str] = (),
) -> Deployed:
    """Bring the account to what the settings say.

    Args:
        bundle: the Lambda bundle, for the settings' Python and processor.
        tell: takes lines about what happens.
        shown: what `plan` said and somebody agreed to; nothing else is carried out. Whatever it takes where it is None.
        may_replace: names of resources that hold data and may be made anew where CloudFormation cannot tell before.

    Raises:
        RequestRefused: the settings cannot be deployed.
        Conflict: a change is not the one that was shown, or would lose data; a stack cannot be changed; training jobs
            run in a region that is not named any more.
        Unavailable: CloudFormation failed and rolled back; the message holds its first reason.
    """
    installation.check_image()
    leaving = _leaving(installation)
    _refuse_running(installation, leaving)
    if shown is not None:
        _check_leaving(leaving, shown)
    _bring_up(installation, _code(installation), tell, shown)
    drawer = installation.drawer
    assert drawer is not None, "the stack of code.yaml has its bucket as an output"
    _note_regions(installation, drawer)
    for part in _further(installation):
        _bring_up(installation, part, tell, shown, may_replace)
    home = _home(installation, drawer, bundle)
    drawer.put(bundle, bundle.name)
    changed = _bring_up(installation, home, tell, shown, may_replace)
    installation.home.protect(installation.settings.deletion_protection)
    kept.restore_secrets(installation, drawer, tell)
    destruction.release(installation)
    _take_away(installation, drawer, leaving, tell)
    outputs = installation.home.outputs()
    key = keys.first_key(installation, drawer, outputs)
    if changed or key:  # a first deployment that was cut off after its stack stood has not come here
        keys.refresh_market(installation.account, outputs)
    return Deployed(outputs["ApiUrl"], outputs, key, changed or bool(leaving))


def _note_regions(installation: Installation, drawer: Drawer) -> None:
    if named := installation.settings.further_regions:
        drawer.revise(REGIONS, lambda noted: [*dict.fromkeys([*(noted or ()), *named])])


def _leaving(installation: Installation) -> list[Stack]:
    """Stacks of further regions that were deployed and are not named any more."""
    drawer = installation.drawer
    if drawer is None:
        return []
    named = (installation.settings.region, *installation.settings.further_regions)
    regions = destruction.all_regions(installation, drawer)
    stacks = [installation.further(region) for region in regions if region not in named]
    return [stack for stack in stacks if stack.exists()]


def _refuse_running(installation: Installation, leaving: Iterable[Stack]) -> None:
    regions = [stack.region for stack in leaving]
    running = destruction.running_jobs(installation, regions) if regions else []
    if running:
        raise Conflict(
            f"{len(running)} training jobs run in a region that the settings do not name any more: "
            f"{', '.join(f'{job.name} in {job.region}' for job in running[:5])}.",
            code="jobs_running",
            param="further_regions",
            remedy="Wait for their end or cancel them, or name the region again; then deploy.",
            details={"jobs": [job.name for job in running]},
        )


def _check_leaving(leaving: Iterable[Stack], shown: Iterable[Step]) -> None:
    agreed = {(step.stack, step.region) for step in shown if step.goes}
    for stack in leaving:
        if (stack.name, stack.region) not in agreed:
            raise _other_than_shown(stack)


def _code(installation: Installation) -> _Part:
    template = {"TemplateBody": templates.CODE.read_text()}
    return _Part(installation.code, templates.CODE, template, {"Stage": installation.stage})


def _further(installation: Installation) -> list[_Part]:
    template = {"TemplateBody": templates.REGION.read_text()}
    return [
        _Part(installation.further(region), templates.REGION, template, installation.further_parameters(region))
        for region in installation.settings.further_regions
    ]


def _home(installation: Installation, drawer: Drawer, bundle: Path) -> _Part:
    """A request takes 51,200 bytes of template, an object in S3 a megabyte."""
    key = drawer.put(templates.INSTALLATION, templates.name_of(templates.INSTALLATION))
    parameters = installation.home_parameters(drawer.bucket, bundle.name)
    return _Part(installation.home, templates.INSTALLATION, {"TemplateURL": drawer.url(key)}, parameters)


def _bring_up(
    installation: Installation,
    part: _Part,
    tell: Tell,
    shown: Sequence[Step] | None,
    may_replace: Collection[str] = (),
) -> bool:
    """Create or update one stack, with the data that an earlier one has left; False where nothing was to change."""
    stack = part.stack
    _make_ready(installation, stack, tell)
    step = _step_of(stack, shown) if shown is not None else None
    if step is not None and step.changed_at != stack.changed_at():
        raise _other_than_shown(stack)
    kept.take_over(installation, stack, part.path, part.parameters, tell)
    proposal = stack.propose(part.template, part.parameters, installation.stage)
    if proposal is None:
        tell(f"{stack.name}: nothing to change")
        return False
    if step is not None and step.exact and set(step.changes) != set(proposal.changes):
        stack.withdraw(proposal)
        raise _other_than_shown(stack)
    _refuse_loss(stack, proposal, may_replace)
    tell(f"{stack.name}: {'creating' if proposal.creates else 'changing'} {len(proposal.changes)} resources")
    stack.carry_out(proposal, tell)
    return True


def _make_ready(installation: Installation, stack: Stack, tell: Tell) -> None:
    stack.ready(tell, partial(kept.note_before_deletion, installation))


def _step_of(stack: Stack, shown: Iterable[Step]) -> Step:
    """Raises Conflict where none was shown."""
    for step in shown:
        if (step.stack, step.region) == (stack.name, stack.region):
            return step
    raise _other_than_shown(stack)


def _other_than_shown(stack: Stack) -> Conflict:
    return Conflict(
        f"What is to change in the stack {stack.name} in {stack.region} is not what was shown: somebody was at work.",
        code="changed_since_shown",
        remedy="Deploy again: what is to change is shown anew.",
    )


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


def _take_away(installation: Installation, drawer: Drawer, leaving: Iterable[Stack], tell: Tell) -> None:
    """Delete what a region had beside its data. No job begins there any more; one that just has ends as it began."""
    for stack in leaving:
        running = destruction.running_jobs(installation, [stack.region])
        if running:
            tell(f"{stack.name} in {stack.region} stays until the next deployment: {running[0].name} began meanwhile")
            continue
        tell(f"{stack.name} in {stack.region}: deleting; its data stays")
        held = kept.held_by(stack)
        kept.note(drawer, held)
        stack.delete(tell)
        kept.note(drawer, held)  # again: who deployed meanwhile may have held it for taken over


def _foreseen(installation: Installation, part: _Part) -> Step:
    stack = part.stack
    heirlooms = kept.heirlooms(installation, stack, part.path)
    if heirlooms:
        return _from_template(stack, part.path, part.parameters, [thing.name for thing in heirlooms])
    changed_at = stack.changed_at()
    proposal = stack.propose(part.template, part.parameters, installation.stage)
    if proposal is None:
        return Step(stack.name, stack.region, False, (), changed_at=changed_at)
    stack.withdraw(proposal)
    return Step(stack.name, stack.region, proposal.creates, proposal.changes, changed_at=changed_at)


def _from_template(stack: Stack, path: Path, parameters: Mapping[str, str], taken_over: Collection[str]) -> Step:
    changes = tuple(
        Change("Import" if name in taken_over else "Add", name, kind)
        for name, kind in sorted(templates.types(templates.read(path), parameters).items())
    )
    return Step(stack.name, stack.region, True, changes, exact=False)


def _end_of(stack: Stack) -> Step:
    held = {thing.name for thing in kept.held_by(stack)}
    changes = tuple(Change("Keep" if name in held else "Remove", name, kind) for name, kind, _ in stack.resources())
    return Step(stack.name, stack.region, False, changes, goes=True, changed_at=stack.changed_at())
