"""The API's calls about rules."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from spotune.cli.client import Api, read_answer
from spotune.contracts.api import ListObject
from spotune.contracts.rule_objects import ArrivalObject, DeletedRuleObject, RetrainingObject, RuleObject
from spotune.contracts.rules import RuleRequest

RULES = "rules"


class RuleApi(Api):
    """One connection to the API. Firing and deleting are sent once; all else asks for a state and may be sent again."""

    def create_rule(self, request: RuleRequest) -> RuleObject:
        """Make a rule. The same request again is the same rule."""
        sent = self._post(RULES, request.model_dump(mode="json", exclude_unset=True))
        return read_answer(RuleObject, self._send(sent, repeat=True))

    def rules(self, *, limit: int) -> ListObject[RuleObject]:
        """The tenant's rules, newest first."""
        return read_answer(ListObject[RuleObject], self._get(RULES, {"limit": limit}))

    def rule(self, rule: str) -> RuleObject:
        """One rule, by its name or its id."""
        return read_answer(RuleObject, self._get(_path(rule)))

    def change_rule(self, rule: str, changes: Mapping[str, object]) -> RuleObject:
        """Change fields of a rule; null sets one back."""
        sent = self._http.build_request("PATCH", _path(rule), json=dict(changes))
        return read_answer(RuleObject, self._send(sent, repeat=True))

    def delete_rule(self, rule: str) -> DeletedRuleObject:
        """Delete a rule."""
        return read_answer(DeletedRuleObject, self._send(self._http.build_request("DELETE", _path(rule))))

    def fire_rule(self, rule: str) -> RetrainingObject:
        """Begin a retraining."""
        return read_answer(RetrainingObject, self._send(self._post(f"{_path(rule)}/fire")))

    def retrainings(self, rule: str, *, limit: int) -> ListObject[RetrainingObject]:
        """A rule's retrainings, newest first."""
        return read_answer(ListObject[RetrainingObject], self._get(f"{_path(rule)}/retrainings", {"limit": limit}))

    def arrivals(self, rule: str, *, state: str | None, limit: int) -> ListObject[ArrivalObject]:
        """A rule's arrivals, newest first; with `state` of those alone that are in it."""
        asked: dict[str, str | int] = {"limit": limit, **({} if state is None else {"state": state})}
        return read_answer(ListObject[ArrivalObject], self._get(f"{_path(rule)}/arrivals", asked))

    def release(self, rule: str, number: int) -> RetrainingObject:
        """Count the data of a rejected retraining as new again."""
        sent = self._post(f"{_path(rule)}/retrainings/{number}/release")
        return read_answer(RetrainingObject, self._send(sent, repeat=True))


def _path(rule: str) -> str:
    return f"{RULES}/{quote(rule, safe='')}"
