"""What must hold of rules, arrivals, retrainings and champions whatever goes wrong, on the truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from spotune.contracts.base import Contract
from spotune.contracts.job import JobRecord
from spotune.contracts.rules import Arrival, Retraining, RuleRecord
from spotune.store.page import Page
from spotune.store.records import decode
from tests.faults.champions import Losses, misled
from tests.faults.counted import miscounted, misjudged
from tests.faults.datasets import Datasets
from tests.faults.landing import Landing
from tests.faults.limits import DAY, beyond_its_limits, never_ended, unbalanced, went_back
from tests.faults.world import World

T = TypeVar("T", bound=Contract)

MOST = 100_000


class RetrainingWatcher:
    """Looks at the truth after every step, and at all of it at the end."""

    def __init__(
        self, world: World, tenants: tuple[str, ...], s3: Landing, losses: Losses, violations: list[str]
    ) -> None:
        self._store = world.store
        self._clock = world.clock
        self._tenants = tenants
        self._s3 = s3
        self._losses = losses
        self._violations = violations
        self._decoded: dict[str, tuple[bytes, RuleRecord]] = {}
        self._seen: dict[str, RuleRecord] = {}
        self._told: dict[tuple[str, int], Retraining] = {}
        self._groups: dict[str, tuple[int, int]] = {}
        """Of each rule's group: its version and the length of its history, as they were looked at last."""
        self._asked: set[str] = set()

    def asked(self, path: str, body: Any) -> None:
        """A person asks for this now; whether it comes through is not known."""
        number = body.get("version", "") if isinstance(body, dict) else ""
        self._asked.add(f"{path} {number}".strip())

    def rules(self) -> list[RuleRecord]:
        """All rules, read past the store's own doors: one that was not written since is not decoded again."""
        for rule_id, body in self._store._rules.items():
            if self._decoded.get(rule_id, (b"",))[0] is not body:
                self._decoded[rule_id] = body, decode(RuleRecord, body)
        return [rule for _, rule in self._decoded.values()]

    def retrainings(self, rule: RuleRecord) -> list[Retraining]:
        """Of a rule, oldest first."""
        return list(reversed(self._store.list_retrainings(rule.tenant, rule.id, after=0, limit=MOST).items))

    def open(self) -> bool:
        """Arrivals that nobody has looked at, retrainings on their way, or rules that are to fire."""
        if next(self._store.waiting_arrivals(self._clock.now() + DAY), None) is not None:
            return True
        return any(rule.live is not None or _is_to_fire(rule) for rule in self.rules())

    def look(self) -> None:
        """Compare with what was seen before."""
        for rule in self.rules():
            before = self._seen.get(rule.id)
            if before is None or before.version != rule.version:
                self._seen[rule.id] = rule
                retrainings = self.retrainings(rule)
                self._say(rule, went_back(before, rule))
                self._say(rule, beyond_its_limits(rule, retrainings))
                self._say(rule, self._went_on(retrainings))
            self._say(rule, self._look_at_group(rule))

    def look_at_the_end(self) -> None:
        """After everything has had its time without faults."""
        self.look()
        jobs = defaultdict[str, list[JobRecord]](list)
        for job in self._of_all(self._store.list_jobs):
            jobs[job.retraining].append(job)
        for rule in self.rules():
            retrainings, arrivals = self.retrainings(rule), self._arrivals(rule)
            self._say(rule, miscounted(rule, arrivals, self._s3))
            self._say(rule, misjudged(rule, arrivals, self._s3))
            self._say(rule, unbalanced(rule, retrainings, arrivals))
            self._say(rule, never_ended(rule, retrainings, jobs))
        self._look_at_datasets(jobs)

    def _look_at_datasets(self, jobs: Mapping[str, list[JobRecord]]) -> None:
        """In the order in which they were trained on: a champion's rows are known to all rules of its group."""
        known: dict[str, set[int]] = {}
        makers: dict[str, str] = {}
        rules = {rule.id: rule for rule in self.rules()}
        datasets = {rule.id: Datasets(rule, self._arrivals(rule), self._s3, known, makers) for rule in rules.values()}
        made = [one for rule in rules.values() for one in self.retrainings(rule)]
        job_of = {(one.rule_id, one.number): next(iter(jobs[f"{one.rule_id}/{one.number}"]), None) for one in made}
        for one in sorted(made, key=lambda one: (job_of[one.rule_id, one.number] or one).created_at):
            job = job_of[one.rule_id, one.number]
            self._say(rules[one.rule_id], datasets[one.rule_id].look(one, job))

    def _say(self, rule: RuleRecord, found: Iterator[str]) -> None:
        self._violations.extend(f"rule {rule.request.name}: {words}" for words in found)

    def _of_all(self, listed: Callable[..., Page[T]]) -> list[T]:
        return [one for tenant in self._tenants for one in listed(tenant, after=None, limit=MOST).items]

    def _arrivals(self, rule: RuleRecord) -> list[Arrival]:
        """Without the marks of deletions."""
        found = self._store.list_arrivals(rule.tenant, rule.id, after=None, limit=MOST).items
        return [one for one in found if one.state != "deletion"]

    def _went_on(self, retrainings: list[Retraining]) -> Iterator[str]:
        """What has ended stays as it ended, and takes the same data as long as it lives."""
        for one in retrainings:
            before = self._told.get((one.rule_id, one.number))
            if before is not None and before.ended and one.state != before.state:
                yield f"retraining {one.number} went from {before.state} to {one.state}"
            if before is not None and (one.after, one.through) != (before.after, before.through):
                yield f"retraining {one.number} takes other data than it did"
            self._told[one.rule_id, one.number] = one

    def _look_at_group(self, rule: RuleRecord) -> Iterator[str]:
        group = self._store.get_group(rule.tenant, rule.request.group)
        version, known = self._groups.get(rule.id, (0, 0))
        if group is None or group.version == version:
            return
        self._groups[rule.id] = group.version, len(group.history)
        page = self._store.list_versions(rule.tenant, group.name, after=0, limit=MOST)
        yield from misled(group, {one.number: one for one in page.items}, known, self._losses, self._asked)


def _is_to_fire(rule: RuleRecord) -> bool:
    return rule.request.enabled and not rule.waiting_for and rule.sequence > rule.claimed
