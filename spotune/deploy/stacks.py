"""One CloudFormation stack: what would change, the change itself, and its end.

Every change is a change set: proposed, shown, carried out. `ready` first brings a stack out of whatever state an
earlier command, a failure or another person left it in:

    (none), REVIEW_IN_PROGRESS      nothing is there; the change set creates
    *_COMPLETE                      the change set updates
    *_IN_PROGRESS                   somebody is at work, or we were killed: wait for its end, then look again
    ROLLBACK_COMPLETE and the like  it takes nothing but its deletion: delete it, then create
    UPDATE_ROLLBACK_FAILED          continue the rollback, then update
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spotune.contracts.errors import Conflict, RequestRefused, Unavailable
from spotune.deploy import events, templates
from spotune.deploy.account import AwsSaysNo, call, pages
from spotune.deploy.templates import Policy

Tell = Callable[[str], None]
"""Takes a line about what happens, for whoever waits."""

CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
_SPENT = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED")
"""No change set can be proposed for a stack in these. It may hold data all the same."""

_OVERTAKEN = ("ChangeSetNotFound", "InvalidChangeSetStatus")
_NOTHING_CHANGED = ("didn't contain changes", "No updates are to be performed")


@dataclass(frozen=True, slots=True)
class Change:
    """What a change set would do to one resource."""

    action: str
    """`Add`, `Modify`, `Remove` or `Import`; `Keep` of what outlives its stack."""
    name: str
    type: str
    replacement: str = "False"
    """`True` where the resource would be made anew, `Conditional` where that shows only on the way."""
    properties: tuple[str, ...] = ()
    holds_data: bool = False
    """The deployed template has it kept where the stack gives it up."""

    @property
    def loses_data(self) -> bool:
        """True where what the resource holds would not be there afterwards, or where that shows only on the way."""
        return self.holds_data and (self.action == "Remove" or self.replacement != "False")


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change set that has been worked out and not carried out."""

    name: str
    changes: tuple[Change, ...]
    creates: bool


@dataclass(frozen=True)
class Stack:
    """A stack by its name.

    Attributes:
        client: CloudFormation's, in the stack's region.
        pause: seconds between two looks.
        deadline: seconds after which nobody waits any longer; CloudFormation goes on.
    """

    client: Any
    name: str
    pause: float = 3.0
    deadline: float = 3600.0

    @property
    def region(self) -> str:
        """Where it is."""
        return str(self.client.meta.region_name)

    def status(self) -> str | None:
        """CloudFormation's word for its state; None where there is none, or it was deleted."""
        found = self.describe()
        return None if found is None else str(found["StackStatus"])

    def describe(self) -> dict[str, Any] | None:
        """What CloudFormation says of it; None where there is none, or it was deleted."""
        try:
            (found,) = call(self.client.describe_stacks, StackName=self.name)["Stacks"]
        except AwsSaysNo as refused:
            if "does not exist" in refused.reason:
                return None
            raise
        return None if found["StackStatus"] == "DELETE_COMPLETE" else dict(found)

    def outputs(self) -> dict[str, str]:
        """Its outputs; empty where there is no stack."""
        return outputs_of(self.describe() or {})

    def parameters(self) -> dict[str, str]:
        """Its parameters; empty where there is no stack."""
        return parameters_of(self.describe() or {})

    def resources(self) -> Iterator[tuple[str, str, str]]:
        """Logical name, type and physical name of everything in it."""
        for page in pages(self.client, "list_stack_resources", StackName=self.name):
            for entry in page["StackResourceSummaries"]:
                yield entry["LogicalResourceId"], entry["ResourceType"], entry.get("PhysicalResourceId", "")

    def template(self) -> dict[str, Any]:
        """The template that it was made of; an empty one where there is no stack."""
        if not self.exists():
            return {}
        body = call(self.client.get_template, StackName=self.name, TemplateStage="Original")["TemplateBody"]
        return body if isinstance(body, dict) else templates.parsed(body)

    def exists(self) -> bool:
        """True where it holds something, or may."""
        return self.status() not in (None, "REVIEW_IN_PROGRESS")

    def stays(self) -> bool:
        """True where it holds something, and nobody deletes it."""
        return self.exists() and not (self.status() or "DELETE").startswith("DELETE")

    def require_rest(self) -> None:
        """Let nobody go on while somebody is at work in it.

        Raises:
            Conflict: somebody is.
        """
        status = self.status() or ""
        if _at_work(status):
            raise self._refused(f"it is in {status}")

    def changed_at(self) -> str:
        """When its last change began, as an ISO time; empty where it holds nothing."""
        found = self.describe()
        if found is None or found["StackStatus"] == "REVIEW_IN_PROGRESS":
            return ""
        return str(found.get("LastUpdatedTime", found["CreationTime"]).isoformat())

    def rest(self, tell: Tell) -> str | None:
        """Wait until nobody is at work in it; its state then."""
        if _at_work(self.status() or ""):
            tell(f"somebody is at work in {self.name}: waiting for the end")
        return self._wait(tell)

    def ready(self, tell: Tell, before_deletion: Callable[[Stack], object] = lambda _: None) -> None:
        """Bring it into a state from which it can be changed.

        Args:
            before_deletion: called where it has to be deleted first, while it still says what it holds.

        Raises:
            Conflict: its last change cannot be rolled back, or it cannot be deleted.
        """
        self.rest(tell)
        found = self.describe() or {"StackStatus": None}
        status = found["StackStatus"]
        if status in _SPENT:
            tell(f"{self.name} is in {status}: what is left of it is deleted first")
            before_deletion(self)
            self._delete(found["StackId"], tell)
        elif status == "UPDATE_ROLLBACK_FAILED":
            tell(f"{self.name} is in {status}: its rollback goes on first")
            self._continue_rollback()
            if self._wait(tell) == "UPDATE_ROLLBACK_FAILED":
                raise Conflict(
                    f"The last change of the stack {self.name} cannot be rolled back: {self._failure()}",
                    code="stack_stuck",
                    remedy="Mend it, or skip it in the console (Continue update rollback), then deploy again.",
                )

    def _continue_rollback(self) -> None:
        try:
            call(self.client.continue_update_rollback, StackName=self.name)
        except AwsSaysNo:
            if self.status() == "UPDATE_ROLLBACK_FAILED":
                raise
            # It goes on already: somebody else's word, or our own, whose answer was lost.

    def propose(self, template: Mapping[str, str], parameters: Mapping[str, str], stage: str) -> Proposal | None:
        """Have CloudFormation work out what this template would change; None where that is nothing.

        Args:
            template: `TemplateURL` or `TemplateBody`.
            stage: tag of all that is made.

        Raises:
            RequestRefused: CloudFormation takes template or parameters for wrong.
            Conflict: the stack is in a state that nothing can be proposed in.
        """
        creates = not self.exists()
        tags = [{"Key": "spotune-stage", "Value": stage}]
        kind = "CREATE" if creates else "UPDATE"
        return self._proposed(creates, parameters, **template, ChangeSetType=kind, Tags=tags)

    def propose_import(
        self, body: str, parameters: Mapping[str, str], imports: Sequence[Mapping[str, Any]]
    ) -> Proposal:
        """Have CloudFormation work out a new stack of what is there already.

        Args:
            body: a template of these resources and no others.
            imports: each with its type, its name in the template, and its identifier.

        Raises:
            RequestRefused: one of them is not there, or another stack's.
        """
        found = self._proposed(True, parameters, TemplateBody=body, ChangeSetType="IMPORT", ResourcesToImport=imports)
        assert found is not None, "an import changes something"
        return found

    def _proposed(self, creates: bool, parameters: Mapping[str, str], **request: Any) -> Proposal | None:
        name = f"spotune-{uuid.uuid4().hex[:16]}"
        try:
            call(
                self.client.create_change_set,
                StackName=self.name,
                ChangeSetName=name,
                Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
                Capabilities=CAPABILITIES,
                **request,
            )
        except AwsSaysNo as refused:
            if refused.aws_code != "AlreadyExistsException":  # else our own, whose answer was lost
                raise self._refused(refused.reason) from refused
        try:
            proposed = self._wait_for_proposal(name)
        except AwsSaysNo as refused:
            raise self._overtaken(refused) from refused
        if proposed["Status"] == "FAILED":
            self.withdraw(Proposal(name, (), creates))
            reason = proposed.get("StatusReason", "")
            if any(words in reason for words in _NOTHING_CHANGED):
                return None
            raise self._refused(reason)
        deployed = self.template()
        changes = (_change(entry["ResourceChange"], deployed) for entry in proposed["Changes"])
        return Proposal(name, tuple(changes), creates)

    def withdraw(self, proposal: Proposal) -> None:
        """Forget a change set, and the empty stack that it stood for, where nobody else has a use for it."""
        try:
            call(self.client.delete_change_set, StackName=self.name, ChangeSetName=proposal.name)
        except AwsSaysNo as refused:
            if "does not exist" not in refused.reason:
                raise
        found = self.describe() if proposal.creates else None
        if found is None or found["StackStatus"] != "REVIEW_IN_PROGRESS":
            return
        if any(page["Summaries"] for page in pages(self.client, "list_change_sets", StackName=self.name)):
            return
        self._delete(found["StackId"], lambda _: None)

    def carry_out(self, proposal: Proposal, tell: Tell) -> None:
        """Carry out a change set and wait for its end.

        Raises:
            Conflict: the stack was changed since it was proposed.
            Unavailable: it failed and was rolled back; the message holds its first reason.
        """
        try:
            call(
                self.client.execute_change_set,
                StackName=self.name,
                ChangeSetName=proposal.name,
                ClientRequestToken=proposal.name,
                # What a failed change has made is deleted again, though it is kept otherwise: it holds nothing yet.
                RetainExceptOnCreate=True,
            )
        except AwsSaysNo as refused:
            if refused.aws_code == "InvalidChangeSetStatus" and "EXECUTE_" in refused.reason:
                pass  # our own, whose answer was lost
            else:
                raise self._overtaken(refused) from refused
        status = self._wait(tell, lambda status: _at_work(status) or self._carries_out(proposal))
        if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"):
            left = "It holds nothing." if proposal.creates else "What ran before runs on."
            raise Unavailable(
                f"The stack {self.name} ended in {status}: {self._failure()}",
                code="deployment_failed",
                remedy=f"{left} Mend what it names, then deploy again.",
            )

    def protect(self, on: bool) -> None:
        """Have CloudFormation refuse to delete it, or no longer."""
        call(self.client.update_termination_protection, StackName=self.name, EnableTerminationProtection=on)

    def delete(self, tell: Tell) -> None:
        """Delete it; what its template says is to be kept is kept.

        Raises:
            Conflict: something in it could not be deleted.
        """
        if (found := self.describe()) is not None:
            self._delete(found["StackId"], tell)

    def _delete(self, stack_id: str, tell: Tell) -> None:
        """Delete this very one, and no later one of its name."""
        this = replace(self, name=stack_id)
        call(self.client.delete_stack, StackName=stack_id)
        time.sleep(self.pause)
        status = this._wait(tell, lambda status: status != "DELETE_FAILED")
        if status is not None:
            raise Conflict(
                f"The stack {self.name} ended in {status}: {this._failure()}",
                code="stack_not_deleted",
                remedy="Mend what it names, then run the command again.",
            )

    def _overtaken(self, refused: AwsSaysNo) -> Conflict | AwsSaysNo:
        """That somebody else was quicker, where that is what it says."""
        told = refused.aws_code.removesuffix("Exception") in _OVERTAKEN
        if not told and not any(words in refused.reason for words in ("does not exist", "_IN_PROGRESS")):
            return refused
        return Conflict(
            f"The stack {self.name} was changed meanwhile: {refused.reason}",
            code="stack_changed_meanwhile",
            remedy="Run the command again: it works out what is to change anew.",
        )

    def _failure(self) -> str:
        return events.first_failure(self.client, self.name)

    def _wait(self, tell: Tell, busy: Callable[[str], bool] | None = None) -> str | None:
        """Its state once nothing is at work in it."""
        told, until = (
            {event["EventId"] for event in events.newest(self.client, self.name)},
            time.monotonic() + self.deadline,
        )
        while (status := self.status()) is not None and (busy or _at_work)(status):
            if time.monotonic() > until:
                raise Unavailable(
                    f"The stack {self.name} has been in {status} for {self.deadline / 60:.0f} minutes.",
                    code="deployment_slow",
                    remedy="CloudFormation goes on. Run the command again: it waits for the end.",
                )
            time.sleep(self.pause)
            for event in reversed(
                [event for event in events.newest(self.client, self.name) if event["EventId"] not in told]
            ):
                told.add(event["EventId"])
                if not event["ResourceStatus"].endswith("_IN_PROGRESS"):
                    tell(f"{event['LogicalResourceId']}: {event['ResourceStatus']}")
        return status

    def _carries_out(self, proposal: Proposal) -> bool:
        """True until CloudFormation says that it is done: for a moment the stack may still show its state of before."""
        try:
            shown = call(self.client.describe_change_set, StackName=self.name, ChangeSetName=proposal.name)
        except AwsSaysNo:
            return False
        return shown["ExecutionStatus"] in ("AVAILABLE", "EXECUTE_IN_PROGRESS")

    def _wait_for_proposal(self, name: str) -> dict[str, Any]:
        until, wanted = time.monotonic() + self.deadline, {"StackName": self.name, "ChangeSetName": name}
        while (shown := call(self.client.describe_change_set, **wanted))["Status"] not in ("CREATE_COMPLETE", "FAILED"):
            if time.monotonic() > until:
                raise Unavailable(
                    f"CloudFormation has been working out what is to change in {self.name} for an hour.",
                    code="deployment_slow",
                    remedy="Run the command again.",
                )
            time.sleep(self.pause)
        listed = pages(self.client, "describe_change_set", **wanted)
        return shown | {"Changes": [change for page in listed for change in page.get("Changes", ())]}

    def _refused(self, reason: str) -> RequestRefused | Conflict:
        if "_IN_PROGRESS" in reason or "_FAILED state" in reason or "ROLLBACK_COMPLETE state" in reason:
            return Conflict(
                f"Nothing can be proposed for the stack {self.name}: {reason}",
                code="stack_not_ready",
                remedy="Wait for whoever is at work in it, or deploy without --plan, which mends a failed one first.",
            )
        return RequestRefused(
            f"CloudFormation refuses the change of the stack {self.name}: {reason}",
            code="change_refused",
            remedy="Correct the setting that it names.",
        )


def outputs_of(described: Mapping[str, Any]) -> dict[str, str]:
    """The outputs in what CloudFormation says of a stack."""
    return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", ())}


def parameters_of(described: Mapping[str, Any]) -> dict[str, str]:
    """The parameters in what CloudFormation says of a stack."""
    return {one["ParameterKey"]: one.get("ParameterValue", "") for one in described.get("Parameters", ())}


def _at_work(status: str) -> bool:
    return status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS"


def _change(change: Mapping[str, Any], deployed: Mapping[str, Any]) -> Change:
    properties = {detail["Target"].get("Name") or detail["Target"]["Attribute"] for detail in change.get("Details", ())}
    policy: Policy = "DeletionPolicy" if change["Action"] == "Remove" else "UpdateReplacePolicy"
    return Change(
        action=change["Action"],
        name=change["LogicalResourceId"],
        type=change["ResourceType"],
        replacement=change.get("Replacement") or "False",
        properties=tuple(sorted(properties)),
        holds_data=templates.keeps(deployed, change["LogicalResourceId"], policy),
    )
