"""A stack's bad days that no emulator can be brought to: a CloudFormation that answers as it is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError

from spotune.contracts.errors import Conflict, NotAuthenticated, RequestRefused, Unavailable
from spotune.deploy.account import AwsSaysNo
from spotune.deploy.events import first_failure
from spotune.deploy.stacks import Proposal, Stack

PROPOSAL = Proposal("spotune-1", (), creates=False)


def refusal(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Operation")


@dataclass
class Told:
    """Shows these states one after another, the last one for ever; `None` is no stack. Notes what it is asked to do."""

    states: list[str | None]
    execution: list[str] = field(default_factory=lambda: ["EXECUTE_COMPLETE"])
    proposals: list[dict[str, Any]] = field(default_factory=list)
    events: list[list[dict[str, Any]]] = field(default_factory=lambda: [[]])
    template: dict[str, Any] = field(default_factory=dict)
    refuses: dict[str, ClientError] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    def describe_stacks(self, **_: object) -> dict[str, Any]:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state is None:
            raise refusal("ValidationError", "Stack with id spotune-x does not exist")
        return {"Stacks": [{"StackStatus": state, "StackName": "spotune-x", "StackId": "arn:spotune-x/1"}]}

    def get_template(self, **_: object) -> dict[str, Any]:
        return {"TemplateBody": self.template}

    def describe_stack_events(self, **_: object) -> dict[str, Any]:
        return {"StackEvents": self.events[0]}

    def describe_events(self, **_: object) -> dict[str, Any]:
        return {"OperationEvents": []}

    def describe_change_set(self, **_: object) -> dict[str, Any]:
        if self.proposals:
            return self.proposals.pop(0) if len(self.proposals) > 1 else self.proposals[0]
        return {"ExecutionStatus": self.execution.pop(0) if len(self.execution) > 1 else self.execution[0]}

    def get_paginator(self, operation: str) -> Any:
        told = self

        class Pages:
            def paginate(self, **_: object) -> Iterator[dict[str, Any]]:
                if operation == "describe_stack_events":
                    yield from ({"StackEvents": page} for page in told.events)
                else:
                    yield from told.proposals

        return Pages()

    def __getattr__(self, operation: str) -> Any:
        def does(**_: object) -> dict[str, Any]:
            self.done.append(operation)
            if operation in self.refuses:
                raise self.refuses[operation]
            return {}

        return does


def stack(told: Told, deadline: float = 60.0) -> Stack:
    return Stack(told, "spotune-x", pause=0.0, deadline=deadline)


def silent(_: str) -> None:
    """Nobody waits."""


def event(name: str, status: str, reason: str = "", kind: str = "AWS::Lambda::Function") -> dict[str, Any]:
    return {
        "EventId": f"{name}-{status}",
        "LogicalResourceId": name,
        "ResourceType": kind,
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
    }


def of_stack(status: str, reason: str = "") -> dict[str, Any]:
    return event("spotune-x", status, reason, "AWS::CloudFormation::Stack")


def test_whoever_is_at_work_is_waited_for() -> None:
    told, said = Told(["UPDATE_IN_PROGRESS"] * 3 + ["UPDATE_COMPLETE"]), []
    stack(told).ready(said.append)
    assert told.states == ["UPDATE_COMPLETE"]
    assert said == ["somebody is at work in spotune-x: waiting for the end"]
    assert told.done == []


def test_nobody_waits_for_ever_and_nothing_is_undone() -> None:
    told = Told(["UPDATE_IN_PROGRESS"])
    with pytest.raises(Unavailable, match="Run the command again") as failure:
        stack(told, deadline=-1).ready(silent)
    assert failure.value.code == "deployment_slow"
    assert told.done == []


def test_a_rollback_that_failed_goes_on_first() -> None:
    told = Told(["UPDATE_ROLLBACK_FAILED"] * 3 + ["UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"])
    stack(told).ready(silent)
    assert told.done == ["continue_update_rollback"]


def test_a_rollback_that_somebody_else_has_told_to_go_on_is_waited_for() -> None:
    told = Told(["UPDATE_ROLLBACK_FAILED"] * 3 + ["UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"])
    told.refuses["continue_update_rollback"] = refusal("ValidationError", "is in UPDATE_ROLLBACK_IN_PROGRESS state")
    stack(told).ready(silent)
    assert told.states == ["UPDATE_ROLLBACK_COMPLETE"]


def test_a_rollback_that_cannot_go_on_says_why() -> None:
    told = Told(["UPDATE_ROLLBACK_FAILED"])
    told.refuses["continue_update_rollback"] = refusal("ValidationError", "a nested stack is in the way")
    with pytest.raises(AwsSaysNo, match="nested stack"):
        stack(told).ready(silent)


@pytest.mark.parametrize(
    ("state", "stays"),
    [
        (None, False),
        ("REVIEW_IN_PROGRESS", False),
        ("DELETE_IN_PROGRESS", False),
        ("DELETE_FAILED", False),
        ("CREATE_IN_PROGRESS", True),
        ("UPDATE_COMPLETE", True),
    ],
)
def test_a_stack_that_somebody_deletes_does_not_stay(state: str | None, stays: bool) -> None:
    assert stack(Told([state])).stays() is stays


def test_a_rollback_that_fails_again_is_a_persons_work() -> None:
    told = Told(["UPDATE_ROLLBACK_FAILED"], events=[[event("Table", "UPDATE_FAILED", "it was deleted by hand")]])
    with pytest.raises(Conflict, match=r"Table .*deleted by hand.*Continue update rollback") as refused:
        stack(told).ready(silent)
    assert refused.value.code == "stack_stuck"


@pytest.mark.parametrize("state", ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"])
def test_what_a_first_deployment_left_is_deleted(state: str) -> None:
    told = Told([state, state, state, "DELETE_IN_PROGRESS", None])
    stack(told).ready(silent)
    assert told.done == ["delete_stack"]


def test_a_deletion_has_not_ended_while_the_stack_still_shows_its_state_of_before() -> None:
    told = Told(["CREATE_COMPLETE", "CREATE_COMPLETE", "DELETE_IN_PROGRESS", None])
    stack(told).delete(silent)
    assert told.states == [None]


def test_a_stack_that_cannot_be_deleted_says_why() -> None:
    events = [[event("DataBucket", "DELETE_FAILED", "it is not empty"), of_stack("DELETE_IN_PROGRESS")]]
    told = Told(["CREATE_COMPLETE", "CREATE_COMPLETE", "DELETE_IN_PROGRESS", "DELETE_FAILED"], events=events)
    with pytest.raises(Conflict, match=r"DataBucket .*not empty") as refused:
        stack(told).delete(silent)
    assert refused.value.code == "stack_not_deleted"


def test_a_change_has_not_ended_while_the_stack_still_shows_its_state_of_before() -> None:
    told = Told(
        ["CREATE_COMPLETE", "CREATE_COMPLETE", "UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"],
        execution=["AVAILABLE", "EXECUTE_IN_PROGRESS", "EXECUTE_FAILED"],
        events=[
            [of_stack("UPDATE_ROLLBACK_COMPLETE"), event("A", "UPDATE_FAILED", "no"), of_stack("UPDATE_IN_PROGRESS")]
        ],
    )
    with pytest.raises(Unavailable, match=r"UPDATE_ROLLBACK_COMPLETE: A \(AWS::Lambda::Function\): no What ran before"):
        stack(told).carry_out(PROPOSAL, silent)


def test_an_execution_whose_answer_was_lost_is_waited_for() -> None:
    lost = refusal("InvalidChangeSetStatus", "ChangeSet [spotune-1] is in EXECUTE_IN_PROGRESS status")
    told = Told(["UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"], refuses={"execute_change_set": lost})
    stack(told).carry_out(PROPOSAL, silent)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("ChangeSetNotFound", "ChangeSet [spotune-1] does not exist"),
        ("InvalidChangeSetStatus", "ChangeSet [spotune-1] cannot be executed in its execution status of [OBSOLETE]"),
        ("ValidationError", "Stack [spotune-x] does not exist"),
        ("ValidationError", "Stack:arn is in UPDATE_IN_PROGRESS state and can not be updated."),
    ],
)
def test_a_change_that_somebody_else_was_quicker_with_says_so_and_waits_for_nothing(code: str, words: str) -> None:
    told = Told(["UPDATE_COMPLETE"], refuses={"execute_change_set": refusal(code, words)})
    with pytest.raises(Conflict, match="changed meanwhile") as refused:
        stack(told).carry_out(PROPOSAL, silent)
    assert refused.value.code == "stack_changed_meanwhile"


def test_any_other_refusal_of_a_change_is_told_as_it_is() -> None:
    refuses = {"execute_change_set": refusal("InsufficientCapabilities", "Requires capabilities: [CAPABILITY_IAM]")}
    with pytest.raises(AwsSaysNo, match="Requires capabilities"):
        stack(Told(["UPDATE_COMPLETE"], refuses=refuses)).carry_out(PROPOSAL, silent)


def test_a_proposal_whose_answer_was_lost_is_found_by_its_name() -> None:
    taken = refusal("AlreadyExistsException", "ChangeSet spotune-1 already exists")
    page = {"Status": "CREATE_COMPLETE", "Changes": [_change("A")]}
    told = Told(["UPDATE_COMPLETE"], refuses={"create_change_set": taken}, proposals=[page])
    proposal = stack(told).propose({"TemplateBody": "{}"}, {}, "x")
    assert proposal is not None
    assert [change.name for change in proposal.changes] == ["A"]


def test_every_page_of_a_proposal_is_read() -> None:
    pages = [{"Status": "CREATE_COMPLETE", "Changes": [_change(name)]} for name in "ABC"]
    proposal = stack(Told(["UPDATE_COMPLETE"], proposals=[pages[0], *pages])).propose({"TemplateBody": "{}"}, {}, "x")
    assert proposal is not None
    assert [change.name for change in proposal.changes] == ["A", "B", "C"]


KEPT = {"Type": "AWS::S3::Bucket", "DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
CODE = {"Type": "AWS::S3::Bucket", "DeletionPolicy": "Delete", "UpdateReplacePolicy": "Retain"}
MADE = {"Type": "AWS::SecretsManager::Secret", "DeletionPolicy": "Delete", "UpdateReplacePolicy": "Delete"}


@pytest.mark.parametrize(
    ("resource", "action", "replacement", "lost"),
    [
        (KEPT, "Remove", None, True),
        (KEPT, "Modify", "True", True),
        (KEPT, "Modify", "Conditional", True),
        (KEPT, "Modify", "False", False),
        (CODE, "Remove", None, False),
        (CODE, "Modify", "True", True),
        (MADE, "Remove", None, False),
        (MADE, "Modify", "True", False),
    ],
)
def test_what_the_deployed_template_keeps_is_data(
    resource: dict[str, Any], action: str, replacement: str | None, lost: bool
) -> None:
    entry = {"Action": action, "LogicalResourceId": "A", "ResourceType": resource["Type"]}
    change = {"ResourceChange": entry | ({"Replacement": replacement} if replacement else {})}
    told = Told(["UPDATE_COMPLETE"], proposals=[{"Status": "CREATE_COMPLETE", "Changes": [change]}])
    told.template = {"Resources": {"A": resource, "Fn::ForEach::B": ["X", [], {}]}}
    proposal = stack(told).propose({"TemplateBody": "{}"}, {}, "x")
    assert proposal is not None
    assert [change.loses_data for change in proposal.changes] == [lost]


@pytest.mark.parametrize(
    ("words", "kind", "code"),
    [
        ("Stack:arn is in UPDATE_IN_PROGRESS state and can not be updated.", Conflict, "stack_not_ready"),
        ("Stack:arn is in ROLLBACK_COMPLETE state and can not be updated.", Conflict, "stack_not_ready"),
        ("Parameters: [Nonsense] do not exist in the template", RequestRefused, "change_refused"),
    ],
)
def test_a_proposal_that_is_refused_says_whose_work_it_is(words: str, kind: type[Exception], code: str) -> None:
    told = Told(["UPDATE_COMPLETE"], refuses={"create_change_set": refusal("ValidationError", words)})
    with pytest.raises(kind) as refused:
        stack(told).propose({"TemplateBody": "{}"}, {}, "x")
    assert refused.value.code == code  # type: ignore[attr-defined]


def test_credentials_that_expire_meanwhile_are_not_a_failure_of_the_deployment() -> None:
    expired = refusal("ExpiredToken", "The security token included in the request is expired")
    told = Told(["UPDATE_COMPLETE"], refuses={"execute_change_set": expired})
    with pytest.raises(NotAuthenticated, match="goes on without them") as refused:
        stack(told).carry_out(PROPOSAL, silent)
    assert refused.value.code == "aws_credentials_expired"


def test_the_first_cause_is_found_behind_what_it_caused_and_behind_a_page_of_events() -> None:
    noise = [event(f"R{number}", "CREATE_FAILED", "Resource creation cancelled") for number in range(100)]
    before = [event("Old", "CREATE_FAILED", "an earlier failure"), of_stack("CREATE_IN_PROGRESS")]
    pages = [noise, [event("Cause", "CREATE_FAILED", "no such role"), of_stack("CREATE_IN_PROGRESS"), *before]]
    assert first_failure(Told([None], events=pages), "spotune-x") == "Cause (AWS::Lambda::Function): no such role"


def test_a_failure_without_a_resource_is_the_stacks_own() -> None:
    events = [
        [of_stack("ROLLBACK_IN_PROGRESS"), of_stack("CREATE_FAILED", "a hook said no"), of_stack("CREATE_IN_PROGRESS")]
    ]
    assert first_failure(Told([None], events=events), "spotune-x") == "a hook said no"


def _change(name: str) -> dict[str, Any]:
    return {"ResourceChange": {"Action": "Modify", "LogicalResourceId": name, "ResourceType": "AWS::SNS::Topic"}}
