"""The life of a model version and of its group's champion, pure.

    registered -> champion | awaiting_approval | passed | rejected
    awaiting_approval -> champion | passed | rejected          a person approves or rejects
    passed, former, deprecated -> champion                     a person promotes, or goes back to it
    champion -> former                                         another one took its place
    whatever is no champion -> deprecated, deleted             a person's word

A group has one champion at most, and once it has had one it always has: what would take a champion away is refused.
Nothing that a gate or a person rejected, and nothing whose files are not there, becomes one. The answer is None where
nothing changes: what is asked for is so already.
"""

from __future__ import annotations

from dataclasses import dataclass

from spotune.contracts.base import Timestamp
from spotune.contracts.errors import Conflict
from spotune.contracts.models import ChampionChange, ModelGroup, ModelVersion, StatusChange, VersionStatus

KEPT_CHANGES = 100
"""Of a version's and of a group's history."""
GATE = "gate"
"""Who decides where no person does."""

PROMOTABLE: frozenset[VersionStatus] = frozenset({"passed", "former", "deprecated"})
_REMEDIES: dict[VersionStatus, str] = {
    "awaiting_approval": "Approve it, or reject it.",
    "rejected": "See its verdict; train again with other data or settings.",
    "deleted": "Train again: only its record is left.",
    "champion": "Promote another version first.",
}


@dataclass(frozen=True, slots=True)
class Move:
    """A group as it becomes, and those of its versions that change with it."""

    group: ModelGroup
    versions: tuple[ModelVersion, ...]


@dataclass(frozen=True, slots=True)
class Act:
    """What somebody asks for: who, why, and when."""

    by: str
    at: Timestamp
    why: str = ""


def register(
    group: ModelGroup, champion: ModelVersion | None, made: ModelVersion, now: Timestamp, *, fault: str = ""
) -> Move:
    """Take a new version into its group, with the status that its verdict gives it.

    Args:
        group: as it was read, or a new one.
        champion: the group's, where it has one.
        made: the version; its number, status and history are set here.
        fault: what is wrong with its files; it is not made champion then.
    """
    number = group.versions + 1
    grown = group.with_(versions=number)
    status, why = _first_status(champion, made, fault)
    act = Act(GATE, now, why)
    version = made.with_(number=number, status=status, history=(), told=0, mirrored=False)
    if status == "champion":
        return _enthrone(grown, champion, version, act)
    return Move(grown, (_changed(version, status, act),))


def promote(
    group: ModelGroup, champion: ModelVersion | None, version: ModelVersion, act: Act, *, fault: str = ""
) -> Move | None:
    """Make a version the champion because a person says so.

    Raises:
        Conflict: it waits for approval, was rejected or deleted, or its files are not there.
    """
    if version.status == "champion":
        return None
    if version.status not in PROMOTABLE:
        raise _wrong_status(version, "promoted")
    _check_files(version, fault)
    return _enthrone(group, champion, version, act)


def approve(
    group: ModelGroup, champion: ModelVersion | None, version: ModelVersion, act: Act, *, fault: str = ""
) -> Move | None:
    """Let in what waits for approval. It becomes champion, unless another one is by now than its gate compared it with.

    Raises:
        Conflict: it does not wait, or its files are not there.
    """
    if version.status in ("champion", "passed"):
        return None
    if version.status != "awaiting_approval":
        raise _wrong_status(version, "approved")
    _check_files(version, fault)
    if (changed := _champion_changed(champion, version)) is not None:
        return Move(group, (_changed(version, "passed", Act(act.by, act.at, _joined(act.why, changed))),))
    return _enthrone(group, champion, version, act)


def reject(version: ModelVersion, act: Act) -> ModelVersion | None:
    """Turn away what waits for approval.

    Raises:
        Conflict: it does not wait.
    """
    if version.status == "rejected":
        return None
    if version.status != "awaiting_approval":
        raise _wrong_status(version, "rejected")
    return _changed(version, "rejected", act)


def deprecate(version: ModelVersion, act: Act) -> ModelVersion | None:
    """Pass a version over from now on.

    Raises:
        Conflict: it is champion, or was rejected or deleted.
    """
    if version.status == "deprecated":
        return None
    if version.status in ("champion", "rejected", "deleted"):
        raise _wrong_status(version, "deprecated")
    return _changed(version, "deprecated", act)


def delete(version: ModelVersion, act: Act) -> ModelVersion | None:
    """Give up a version's files; its record stays.

    Raises:
        Conflict: it is champion.
    """
    if version.status == "deleted":
        return None
    if version.status == "champion":
        raise _wrong_status(version, "deleted")
    return _changed(version, "deleted", act)


def former_champions(group: ModelGroup) -> tuple[int, ...]:
    """Where rollbacks lead, one after another: the nearest first.

    A promotion puts its version on top; a rollback takes off whatever is above the version that it went back to.
    """
    first = group.history[0].before if group.history else None
    line = [] if first is None else [first]
    for change in group.history:
        if change.rollback:
            while line and line[-1] != change.number:
                line.pop()
            line = line or [change.number]
        else:
            line.append(change.number)
    return tuple(line[-2::-1])


def roll_back(
    group: ModelGroup, champion: ModelVersion, former: ModelVersion | None, act: Act, *, fault: str = ""
) -> Move:
    """Go back to a former champion.

    Args:
        former: the nearest of `former_champions` that nobody deprecated or deleted since.
        fault: what is wrong with its files.

    Raises:
        Conflict: there is none, or its files are not there.
    """
    if former is None or former.status != "former":
        raise Conflict(
            f"Group {group.name} has no champion before {champion.name} to go back to.",
            code="nothing_to_roll_back_to",
            remedy="Promote the version that you want; `spotune models versions` lists them.",
        )
    _check_files(former, fault)
    return _enthrone(group, champion, former, act, rollback=True)


def _first_status(champion: ModelVersion | None, made: ModelVersion, fault: str) -> tuple[VersionStatus, str]:
    verdict = made.verdict
    if verdict.decision == "reject":
        return "rejected", verdict.reason
    if verdict.decision == "hold":
        return "awaiting_approval", verdict.reason
    if fault:
        return "passed", f"It passed its gate and is not promoted: {fault}."
    if (changed := _champion_changed(champion, made)) is not None:
        return "passed", changed
    return "champion", verdict.reason


def _champion_changed(champion: ModelVersion | None, version: ModelVersion) -> str | None:
    """In words, where its gate compared it with another one than the present champion."""
    compared, present = version.verdict.champion, champion.name if champion is not None else None
    if compared == present:
        return None
    return f"Its gate compared it with {compared or 'no champion'}, and {present or 'none'} is champion by now."


def _enthrone(
    group: ModelGroup, champion: ModelVersion | None, version: ModelVersion, act: Act, *, rollback: bool = False
) -> Move:
    change = ChampionChange(
        number=version.number, before=group.champion, at=act.at, by=act.by, why=act.why, rollback=rollback
    )
    group = group.with_(champion=version.number, history=(*group.history, change)[-KEPT_CHANGES:])
    crowned = _changed(version, "champion", act, rollback=rollback)
    if champion is None or champion.number == version.number:
        # The same where it was replaced between the reads of group and version: the group's version then says so.
        return Move(group, (crowned,))
    left = Act(act.by, act.at, f"{version.name} took its place.")
    return Move(group, (crowned, _changed(champion, "former", left)))


def _changed(version: ModelVersion, status: VersionStatus, act: Act, *, rollback: bool = False) -> ModelVersion:
    sequence = version.history[-1].sequence + 1 if version.history else 1
    change = StatusChange(sequence=sequence, status=status, at=act.at, by=act.by, why=act.why, rollback=rollback)
    return version.with_(status=status, history=(*version.history, change)[-KEPT_CHANGES:], mirrored=False)


def _check_files(version: ModelVersion, fault: str) -> None:
    if fault:
        raise Conflict(
            f"{version.name} cannot be champion: {fault}.",
            code="model_files_gone",
            param="version",
            remedy="Choose a version whose files are there, or restore them from the bucket's older versions.",
        )


def _wrong_status(version: ModelVersion, what: str) -> Conflict:
    return Conflict(
        f"Version {version.number} of {version.group} is {version.status.replace('_', ' ')}, so it cannot be {what}.",
        code="wrong_status",
        param="version",
        remedy=_REMEDIES.get(version.status, "See it with `spotune models show`."),
    )


def _joined(*words: str) -> str:
    return " ".join(word for word in words if word)
