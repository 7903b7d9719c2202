"""One history of new data from one seed: objects land where rules look, and models are made of them, or are not."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from unittest.mock import patch

import handlers.data_arrived
from spotune.contracts.base import MICRO
from spotune.contracts.errors import SpotuneError
from spotune.contracts.rules import Retraining, RuleRecord
from spotune.contracts.sources import SourceGrant
from spotune.service.access.keys import issue_key
from spotune.service.files import reading
from spotune.service.jobs.observation import observe
from spotune.service.reconcile import reconcile
from tests import tiny_model
from tests.faults.champions import Losses
from tests.faults.checks import Watcher
from tests.faults.history import RECEIVES, VISIBILITY, History, Result
from tests.faults.landing import Landing, event_of, rows_of
from tests.faults.nemesis import Killed
from tests.faults.retraining_checks import RetrainingWatcher
from tests.faults.world import make_world
from tests.in_process import Client, Context, sqs_record

ARRIVALS = 250
"""Object versions a seed that land where a rule looks, about."""
STORM = 40 * 3600.0
"""Seconds of faults: long enough for the limits of a day to be met, and to be over."""
CALM = 5 * 86_400.0
SWEPT = 6 * 3600.0
"""Seconds of the calm after which each source was swept, so that nothing is unheard of."""
RECONCILE_EVERY = 121.0
"""Half as often as the schedule has it, and no multiple of a minute: which rule is called in a pass goes by that."""
TENANTS = ("acme", "beta")
SOURCES = {"acme": "s3://data/acme/landing/", "beta": "s3://lake/mail/"}
"""Beta's is a bucket that is opened to it, and that keeps no versions."""
MARKERS = ("_SUCCESS", "_temporary/0/part-1.jsonl", "part-7.jsonl.tmp", ".part-3.jsonl", "part-9.crc", "day/", "x~")
"""Names that are no data."""
FAULTY = (b"{not json\n", b"\xff\xfe\x00\x01", b'{"messages": []}\n', rows_of([1, 2]) + b'{"messages": 5}\n')

TEMPLATE: dict[str, Any] = {
    "model": tiny_model.NAME,
    "constraints": {"budget_usd": 1.0},
    "adapter": {"type": "lora", "rank": 4},
    "gate": {"better_than_base": True, "better_than_champion": {"metric": "eval_loss", "by": 0.0}},
}
RULES: dict[str, tuple[dict[str, Any], ...]] = {
    "acme": (
        {
            "name": "tickets",
            "source": {"uri": "s3://data/acme/landing/**"},
            "job": TEMPLATE,
            "trigger": {"min_rows": 40, "quiet_seconds": 300, "min_interval_seconds": 7200, "max_per_day": 3},
            "monthly_budget_usd": 1.4,
        },
        {
            "name": "all-of-them",
            "source": {"uri": "s3://data/acme/landing/*/*.jsonl"},
            "job": {**TEMPLATE, "registry": {"start_from": "champion", "group": "tickets"}},
            "trigger": {"min_growth": 0.3, "min_bytes": 4000, "quiet_seconds": 60, "max_per_day": 2},
            "selection": {"rows": "all"},
        },
    ),
    "beta": (
        {
            "name": "mail",
            "source": {"uri": "s3://lake/mail/**"},
            "job": {**TEMPLATE, "gate": {**TEMPLATE["gate"], "approval": True}},
            "trigger": {"schedule": "0 */5 * * *", "quiet_seconds": 0, "min_interval_seconds": 600, "max_per_day": 2},
            "selection": {"rows": "new"},
        },
        {
            "name": "rehearsal",
            "source": {"uri": "s3://lake/mail/**"},
            "job": TEMPLATE,
            "trigger": {"min_rows": 60},
            "dry_run": True,
        },
    ),
}
LOOPS = ("s3://data/acme/**", "s3://data/acme/rules/*", "s3://artifacts/acme/**", "s3://data/beta/landing/**")
"""Where no rule of acme's may look: its own results, and another tenant's data."""

_ACTS = {
    "new": 50,
    "upload": 10,
    "copy": 6,
    "overwrite": 8,
    "same": 3,
    "back": 3,
    "delete": 4,
    "again": 3,
    "faulty": 6,
    "marker": 5,
    "empty": 2,
}
"""What happens to a source, and how often, of a hundred times."""
_NEEDS_ONE = ("copy", "overwrite", "same", "back", "delete", "again")


def retrain(seed: int, *, arrivals: int = ARRIVALS, to_the_end: bool = True) -> Result:
    """Run one history to its end, or to the first broken invariant. The same seed gives the same one."""
    # One after another: threads would draw the nemesis's numbers in no order, and a seed would give no one history.
    with patch.object(reading, "FEW", sys.maxsize):
        return _Retraining(seed, arrivals, to_the_end=to_the_end).play()


class _Retraining(History):
    def __init__(self, seed: int, arrivals: int, *, to_the_end: bool) -> None:
        self._s3 = Landing(versionless={"lake"})
        losses = Losses(seed)
        world = make_world(
            seed,
            objects=self._s3,
            report_of=losses.report,
            monthly_limit=40 * MICRO,
            sources=(SourceGrant(tenant="beta", bucket="lake", prefix="mail/"),),
        )
        super().__init__(world, Watcher(world), to_the_end=to_the_end, storm=STORM, calm=CALM, every=RECONCILE_EVERY)
        self._rules = RetrainingWatcher(world, TENANTS, self._s3, losses, self._watcher.violations)
        self._wanted = arrivals
        self._clients: dict[str, Client] = {}
        self._next = dict.fromkeys(TENANTS, 1)
        """The number of the next new row of each source."""
        self._files = 0

    def _set_up(self) -> None:
        for tenant in TENANTS:
            self._clients[tenant] = Client(issue_key(self._world.here, tenant, "faults"))
            for body in RULES[tenant]:
                self._make_rule(tenant, body)
        for uri in LOOPS:
            body = {**RULES["acme"][0], "name": "loop", "source": {"uri": uri}}
            if self._clients["acme"].call("POST", "/v1/rules", body).status < 400:
                self._watcher.violations.append(f"a rule may look at {uri}")

    def _make_rule(self, tenant: str, body: dict[str, Any]) -> None:
        """Twice: it is one rule."""
        made = {self._clients[tenant].call("POST", "/v1/rules", body).body["id"] for _ in range(2)}
        if len(made) != 1:
            self._watcher.violations.append(f"a rule that is made twice is {made}")

    def _plan_the_storm(self) -> None:
        chance, planned = self._chance, 0
        while planned < self._wanted:
            tenant, burst = chance.choice(TENANTS), chance.choice([1, 1, 3, 8, 15])
            at = chance.uniform(0, STORM - 3600)
            for _ in range(burst):
                self._later(at + chance.uniform(0, 30), partial(self._land, tenant))
            planned += burst
        for _ in range(40):
            self._later(chance.uniform(0, STORM), self._person_acts)
        for _ in range(6):
            self._later(chance.uniform(0, STORM), self._poison)

    def _look(self) -> None:
        self._rules.look()
        super()._look()

    def _look_at_the_end(self) -> None:
        super()._look_at_the_end()
        self._rules.look_at_the_end()

    def _calm_down(self) -> None:
        for rule in self._rules.rules():
            # What is off is not swept, either.
            self._clients[rule.tenant].call("PATCH", f"/v1/rules/{rule.id}", {"enabled": True})
        passed = 0.0
        while passed < SWEPT or (passed < CALM and self._open()):
            self._pass(RECONCILE_EVERY)
            self._reconcile()
            passed += RECONCILE_EVERY

    def _open(self) -> bool:
        return super()._open() or self._rules.open()

    def _land(self, tenant: str) -> None:
        """One thing that happens to the objects below a source."""
        act = self._chance.choices([*_ACTS], [*_ACTS.values()])[0]
        there = [change.uri for change in self._s3.present() if change.uri.startswith(SOURCES[tenant])]
        if act in _NEEDS_ONE and not there:
            act = "new"
        self._world.nemesis.faults[f"landed: {act}"] += 1
        self._arrivals += act != "delete"
        uri = self._chance.choice(there) if act in _NEEDS_ONE else self._new_uri(tenant)
        match act:
            case "new" | "overwrite":
                self._s3.write(uri, self._rows(tenant))
            case "upload":
                self._s3.upload(uri, self._rows(tenant))
            case "copy":
                self._s3.copy(uri, self._new_uri(tenant))
            case "same":
                self._s3.write(uri, self._s3.read(uri))
            case "back":
                bodies = [change.body for change in self._s3.changes_of(uri) if change.body is not None]
                self._s3.write(uri, self._chance.choice(bodies))
            case "delete":
                self._s3.delete(uri)
            case "again":
                self._s3.delete(uri)
                self._s3.write(uri, self._rows(tenant))
            case "faulty":
                self._s3.write(uri, self._chance.choice(FAULTY))
            case "marker":
                self._s3.write(SOURCES[tenant] + self._chance.choice(MARKERS), self._rows(tenant))
            case "empty":
                self._s3.write(uri, b"")

    def _new_uri(self, tenant: str) -> str:
        self._files += 1
        odd = self._chance.choice(["part", "part", "größe 1+2%", "a=b&c"])
        return f"{SOURCES[tenant]}day-{self._files % 7}/{odd}-{self._files}.jsonl"

    def _rows(self, tenant: str) -> bytes:
        """Mostly new rows; some that came before, in this file or another."""
        first = self._next[tenant]
        self._next[tenant] += self._chance.randint(2, 9)
        numbers = list(range(first, self._next[tenant]))
        numbers += [self._chance.randint(1, first) for _ in range(self._chance.choice([0, 0, 1, 3]))]
        return rows_of(numbers)

    def _deliver(self) -> None:
        super()._deliver()
        changes, self._s3.untold[:] = list(self._s3.untold), []
        for change in changes:
            self._deliver_event(partial(self._receive, [json.dumps(event_of(change))]))

    def _receive(self, bodies: list[str], received: int = 1) -> None:
        """Lambda hands the queue's messages over, and those that failed come again."""
        records = [sqs_record(str(number), body) for number, body in enumerate(bodies)]
        try:
            failures = handlers.data_arrived.handler({"Records": records}, Context())["batchItemFailures"]
            failed = [bodies[int(one["itemIdentifier"])] for one in failures]
        except (Killed, Exception) as error:
            self._crashed(error)
            failed = bodies
        if failed and received < RECEIVES:
            self._later(VISIBILITY, partial(self._receive, failed, received + 1))
        elif failed and not self._world.nemesis.calm:
            self._world.nemesis.faults["dead letter"] += 1

    def _another_process(self) -> None:
        names = [one.name for one in self._world.double.jobs() if one.live]
        changes = self._s3.changes[-4:]
        choices: list[Callable[[], Any]] = [partial(observe, self._world.here, name) for name in names[:4]]
        choices += [partial(self._receive, [json.dumps(event_of(change))], RECEIVES) for change in changes]
        choices += [partial(reconcile, self._world.here), self._person_acts]
        with suppress(Killed, SpotuneError):
            self._chance.choice(choices)()

    def _poison(self) -> None:
        """Messages that nobody sent: refused or ignored, and nothing else."""
        self._world.nemesis.faults["poison message"] += 1
        for body in ("", "{", "[]", '{"detail": 5}', '{"source": "aws.s3", "detail": {"bucket": {"name": "x"}}}'):
            self._receive([body], RECEIVES)

    def _person_acts(self) -> None:
        """Fire, release, switch off and on, approve, reject, promote, roll back; or try to with another tenant's."""
        rule = self._chance.choice(self._rules.rules())
        stranger = self._world.nemesis.strikes("another tenant's rule probed", 0.2)
        tenant = next(one for one in TENANTS if (one == rule.tenant) != stranger)
        method, path, body = self._chance.choice(self._acts(rule))
        with suppress(Killed):
            self._rules.asked(path, body)
            answer = self._clients[tenant].call(method, path, body)
            if answer.status == 500:
                self._watcher.violations.append(f"{method} {path} answers {answer.raw}")
            if stranger and f"/rules/{rule.id}" in path and answer.status not in (404, 502, 503):
                self._watcher.violations.append(f"{tenant}: {method} {path} of {rule.tenant} answers {answer.status}")

    def _acts(self, rule: RuleRecord) -> list[tuple[str, str, Any]]:
        url, group = f"/v1/rules/{rule.id}", f"/v1/model_groups/{rule.request.group}"
        number = self._chance.randint(1, 4)
        acts: list[tuple[str, str, Any]] = [
            ("GET", url, None),
            ("GET", f"{url}/arrivals", None),
            ("GET", f"{url}/retrainings", None),
            ("GET", f"{group}/versions", None),
            ("POST", f"{url}/fire", None),
            ("PATCH", url, {"enabled": self._chance.random() < 0.7}),
            ("POST", f"{url}/retrainings/{number}/release", None),
            ("POST", f"{group}/promote", {"version": number, "why": "it seems better"}),
            ("POST", f"{group}/rollback", {"why": "it seems worse"}),
            ("POST", f"{group}/versions/{number}/approve", {}),
            ("POST", f"{group}/versions/{number}/reject", {"why": "no"}),
        ]
        live = [one for one in self._rules.retrainings(rule) if _has_job(one)]
        acts += [("POST", f"/v1/fine_tuning/jobs/{one.job_id}/cancel", None) for one in live[-1:]]
        return acts


def _has_job(retraining: Retraining) -> bool:
    return retraining.state == "submitted" and retraining.job_id is not None
