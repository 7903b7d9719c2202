"""What rules, their arrivals and their retrainings need of a store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from spotune.contracts.rules import Arrival, ArrivalState, Retraining, RuleRecord
from spotune.store.page import Page

MOST_ARRIVALS = 30
"""Of one change: each is up to three items, and DynamoDB takes 100 a transaction."""


class RetrainingStore(Protocol):
    """Rules are guarded by their version; an arrival is one of its rule and object version. Tenant-scoped reads return
    None (or an empty page) for another tenant's things, as for missing ones."""

    def create_rule(self, rule: RuleRecord) -> bool:
        """Keep a new rule (version 1); False, and nothing is kept, where one of its id exists, deleted or not."""

    def find_rule(self, rule_id: str) -> RuleRecord | None:
        """One rule whatever its tenant, deleted or not, read consistently: never for a person's request."""

    def get_rule(self, tenant: str, rule_id: str) -> RuleRecord | None:
        """One rule that was not deleted, read consistently."""

    def list_rules(self, tenant: str, *, after: str | None, limit: int) -> Page[RuleRecord]:
        """A tenant's rules, newest first, without those deleted, after the rule with this id.

        Raises:
            RequestRefused: the tenant has no rule of this id (code `unknown_cursor`).
        """

    def rules_of_bucket(self, bucket: str) -> Iterator[RuleRecord]:
        """The rules of all tenants, enabled or not, whose source lies in this bucket. May lag by moments."""

    def active_rules(self) -> Iterator[RuleRecord]:
        """The rules of all tenants that may fire or whose retraining has not ended. May lag by moments."""

    def replace_rule(self, before: RuleRecord, rule: RuleRecord) -> None:
        """Replace `before` by `rule` (version + 1).

        Raises:
            VersionConflict: the stored version is not `before.version`.
        """

    def record_arrival(self, arrival: Arrival) -> Arrival:
        """Keep a new arrival, or answer the one that is known of this rule and object version."""

    def commit_arrivals(self, before: RuleRecord, rule: RuleRecord, arrivals: tuple[Arrival, ...]) -> None:
        """Replace a rule and these of its arrivals (`MOST_ARRIVALS`) in one transaction, guarded by the rule's version.

        Whoever changes an arrival has read it after the rule: nothing else guards it.

        Raises:
            VersionConflict: as above; nothing was written.
        """

    def get_arrival(self, rule_id: str, uri: str, version_id: str) -> Arrival | None:
        """One arrival, read consistently."""

    def arrivals_of_object(self, rule_id: str, uri: str) -> tuple[Arrival, ...]:
        """The arrivals of one key, all its versions in whatever state, the first to arrive first. Read consistently."""

    def arrivals_of_bytes(self, rule_id: str, sha256: str) -> tuple[Arrival, ...]:
        """The arrivals whose file has this hash, in whatever state, the first to arrive first. Read consistently."""

    def accepted_arrivals(self, rule_id: str, *, after: int, through: int) -> Iterator[Arrival]:
        """Arrivals that were given a sequence greater than `after` up to `through`, in its order, whatever became of
        them since. Read consistently. One that was given another sequence since is here in state `set_aside`."""

    def list_arrivals(
        self, tenant: str, rule_id: str, *, after: str | None, limit: int, state: ArrivalState | None = None
    ) -> Page[Arrival]:
        """A rule's arrivals, newest first; `after` is `<uri>#<version id>`."""

    def waiting_arrivals(self, arrived_before: float) -> Iterator[Arrival]:
        """Arrivals of all rules in state `arrived` since before this moment, oldest first. May lag by moments."""

    def begin_retraining(self, before: RuleRecord, rule: RuleRecord, retraining: Retraining) -> None:
        """Replace the rule and keep the new retraining (version 1) in one transaction.

        Raises:
            VersionConflict: as above; nothing was written.
        """

    def commit_retraining(
        self, before: Retraining, retraining: Retraining, rules: tuple[RuleRecord, RuleRecord] | None = None
    ) -> None:
        """Replace a retraining (version + 1), and with it its rule: `rules` is that before and after.

        Raises:
            VersionConflict: a stored version is not the one that was read; nothing was written.
        """

    def get_retraining(self, tenant: str, rule_id: str, number: int) -> Retraining | None:
        """One retraining, read consistently."""

    def list_retrainings(self, tenant: str, rule_id: str, *, after: int, limit: int) -> Page[Retraining]:
        """A rule's retrainings, newest first; `after` is a number, 0 for the newest."""


def split_cursor(after: str) -> tuple[str, str]:
    """The URI and the version id of the arrival that a page follows."""
    uri, _, version_id = after.rpartition("#")
    return uri, version_id
