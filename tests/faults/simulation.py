"""One history from one seed: tenants ask, messages and events arrive as they please, and the reconciler comes by."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any

import handlers.launch
import handlers.training_changed
from spotune.contracts.errors import SpotuneError
from spotune.contracts.request import JobRequest
from spotune.service.access.keys import issue_key
from spotune.service.jobs.observation import observe
from spotune.service.jobs.submit import submit
from tests import tiny_model
from tests.faults.checks import Watcher
from tests.faults.history import History, Result
from tests.faults.nemesis import Killed
from tests.faults.world import AWAY, make_world
from tests.in_process import Answer, Client, Context, sqs_record

TENANTS = ("acme", "beta", "gamma")
JOBS = 30
"""Submissions a seed, over all tenants."""
STORM = 8 * 3600.0
"""Seconds of faults; submissions come within the first third."""
CALM = 3 * 86_400.0
"""Seconds at most that everything then has to come to its end."""
RECONCILE_EVERY = 240.0
SHORT_TYPES = ("ml.g4dn.xlarge", "ml.g4dn.2xlarge", "ml.g4dn.4xlarge", "ml.g6.xlarge")
"""Types that quotas and capacity are taken from: the cheapest ones, which plans choose."""
JOBS_URL = "/v1/fine_tuning/jobs"


def simulate(seed: int, *, jobs: int = JOBS, to_the_end: bool = True) -> Result:
    """Run one history to its end, or to the first broken invariant. The same seed gives the same one."""
    return _Simulation(seed, jobs, to_the_end=to_the_end).play()


class _Simulation(History):
    def __init__(self, seed: int, jobs: int, *, to_the_end: bool) -> None:
        world = make_world(seed)
        super().__init__(world, Watcher(world), to_the_end=to_the_end, storm=STORM, calm=CALM, every=RECONCILE_EVERY)
        self._wanted = jobs
        self._clients: dict[str, Client] = {}
        self._files: dict[str, str] = {}
        self._requests: dict[str, tuple[str, JobRequest]] = {}
        self._ids: dict[str, str] = {}
        """Idempotency key -> job."""
        self._owners: dict[str, str] = {}

    def _set_up(self) -> None:
        for tenant in TENANTS:
            self._clients[tenant] = Client(issue_key(self._world.here, tenant, "faults"))
            # Not uploaded: an uploaded file's id is chance's, and a retry's own id follows from it.
            self._files[tenant] = f"s3://data/{tenant}/rows.jsonl"
            self._world.objects.write(self._files[tenant], tiny_model.chat_rows(24))

    def _plan_the_storm(self) -> None:
        chance = self._chance
        for number in range(self._wanted):
            self._later(chance.uniform(0, STORM / 3), partial(self._submit, f"key-{number}", chance.choice(TENANTS)))
        for _ in range(self._wanted):
            self._later(chance.uniform(0, STORM), self._person_acts)
            self._later(chance.uniform(0, STORM), self._person_looks)
        for _ in range(6):
            self._later(chance.uniform(0, STORM), self._shortage)
            self._later(chance.uniform(0, STORM), self._poison)

    def _calm_down(self) -> None:
        for name in SHORT_TYPES:
            self._available(name)
        super()._calm_down()

    def _another_process(self) -> None:
        """Something else that may run at the same time, from its beginning to its end."""
        names = [one.name for one in self._world.double.jobs() if one.live]
        choices: list[Callable[[], Any]] = [partial(observe, self._world.here, name) for name in names[:8]]
        choices += [partial(submit, self._world.here, *asked, key) for key, asked in list(self._requests.items())[-3:]]
        choices += [partial(self._person_acts)] if self._ids else []
        if choices:
            with suppress(Killed, SpotuneError):
                self._chance.choice(choices)()

    def _submit(self, key: str, tenant: str, tries: int = 4) -> None:
        """Ask until there is an answer, with the same key each time; sometimes twice although there was one."""
        body = self._body(key, tenant)
        try:
            answer = self._clients[tenant].call("POST", JOBS_URL, body, idempotency_key=key)
        except Killed:
            answer = Answer(502, "{}")
        if answer.status == 500:
            self._watcher.violations.append(f"a submission is answered {answer.raw}")
        if answer.status == 200:
            self._answered(key, tenant, str(answer.body["id"]))
        if tries > 1 and (answer.status >= 500 or self._world.nemesis.strikes("submitted again", 0.2)):
            self._later(self._chance.uniform(0, 120), partial(self._submit, key, tenant, tries - 1))

    def _answered(self, key: str, tenant: str, job_id: str) -> None:
        first = self._ids.setdefault(key, job_id)
        self._owners[job_id] = tenant
        if first != job_id:
            self._watcher.violations.append(f"{key}: made {first} and {job_id}")

    def _body(self, key: str, tenant: str) -> dict[str, Any]:
        if key not in self._requests:
            chance = self._chance
            constraints: dict[str, Any] = {"budget_usd": chance.choice([0.25, 0.6, 1.5])}
            if chance.random() < 0.4:
                constraints["finish_within_hours"] = chance.choice([2, 4, 8])
            if chance.random() < 0.2:
                constraints["market"] = chance.choice(["spot", "on_demand"])
            if Random(f"{self._world.seed}:{key}:region").random() < 0.25:
                constraints["regions"] = [AWAY]
            request = {"model": tiny_model.NAME, "training_file": self._files[tenant], "constraints": constraints}
            self._requests[key] = tenant, JobRequest.model_validate(request)
        return self._requests[key][1].model_dump(mode="json", exclude_unset=True)

    def _person_acts(self) -> None:
        """Cancel, pause, resume or retry a job; or try to with another tenant's."""
        if not self._ids:
            return
        job_id = self._chance.choice(list(self._ids.values()))
        act = self._chance.choice(["cancel", "pause", "pause", "resume", "resume", "retry", "retry"])
        if self._world.nemesis.strikes("another tenant's id probed", 0.2):
            stranger = self._chance.choice([one for one in TENANTS if one != self._owners[job_id]])
            self._probe(stranger, job_id, act)
            return
        if act == "retry":
            ended = [job.id for job in self._watcher.jobs() if job.state in ("failed", "cancelled")]
            known = [one for one in ended if one in self._owners]
            self._retry(self._chance.choice(known or [job_id]), self._chance.choice(["", "changed"]))
            return
        self._call(self._owners[job_id], "POST", f"{JOBS_URL}/{job_id}/{act}")

    def _retry(self, job_id: str, suffix: str) -> None:
        """The same changes are the same retry, whatever became of the answer."""
        owner, changes = self._owners[job_id], {"suffix": suffix} if suffix else {}
        with suppress(Killed):
            answer = self._clients[owner].call("POST", f"{JOBS_URL}/{job_id}/retry", changes)
            if answer.status == 200:
                self._answered(f"retry of {job_id} {suffix}", owner, str(answer.body["id"]))

    def _person_looks(self) -> None:
        """At whatever the API shows, in whatever state it is."""
        if not self._ids:
            return
        job_id = self._chance.choice(list(self._ids.values()))
        looked = [f"{JOBS_URL}/{job_id}{tail}" for tail in ("", "/diagnosis", "/checkpoints", "/events")]
        self._call(self._owners[job_id], "GET", self._chance.choice([*looked, JOBS_URL, "/v1/budget", "/v1/models"]))

    def _poison(self) -> None:
        """Messages and events that nobody sent: refused or ignored, and nothing else."""
        self._world.nemesis.faults["poison message"] += 1
        bodies = ["", "{", "[]", '{"job_id": 5}', '{"job_id": "ftjob-x", "entry_id": "ftjob-x#1#0"}']
        records = [sqs_record(str(number), body) for number, body in enumerate(bodies)]
        try:
            refused = handlers.launch.handler({"Records": records}, Context())["batchItemFailures"]
            for name in ("ftjob-x-1", "ftjob-", "-", "x" * 5000):
                handlers.training_changed.handler({"detail": {"TrainingJobName": name}}, Context())
        except Exception as error:
            self._crashed(error)
        else:
            if len(refused) < len(bodies) - 1:
                self._watcher.violations.append(f"poison was taken: {refused}")

    def _probe(self, stranger: str, job_id: str, act: str) -> None:
        for method, path in (("GET", job_id), ("POST", f"{job_id}/{act}"), ("GET", f"{job_id}/events")):
            status = self._call(stranger, method, f"{JOBS_URL}/{path}")
            if status not in (404, 502, 503):
                self._watcher.violations.append(f"{stranger}: {method} of another tenant's {path} answers {status}")

    def _call(self, tenant: str, method: str, path: str) -> int:
        try:
            answer = self._clients[tenant].call(method, path)
        except Killed:
            return 502
        if answer.status == 500:
            self._watcher.violations.append(f"{method} {path} answers {answer.raw}")
        return answer.status

    def _shortage(self) -> None:
        """A type's capacity or quota is gone for a while."""
        name, hours = self._chance.choice(SHORT_TYPES), self._chance.uniform(0.2, 2)
        nemesis, double = self._world.nemesis, self._world.double
        if self._chance.random() < 0.5:
            nemesis.faults["no capacity"] += 1
            double.capacity.set_available(name, False)
        else:
            nemesis.faults["no quota"] += 1
            for market in ("spot", "on_demand"):
                double.quotas.set(name, market, self._chance.choice([0, 1]))
        self._later(hours * 3600, partial(self._available, name))

    def _available(self, name: str) -> None:
        double = self._world.double
        double.capacity.set_available(name, True)
        for market in ("spot", "on_demand"):
            double.quotas.set(name, market, 20)
        double.look_again()
