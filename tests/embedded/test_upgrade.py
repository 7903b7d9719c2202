"""An installation of an earlier version with jobs on their way, updated in place: nothing is lost or begun twice.

The earlier version comes out of the history (`earlier.py`): its template and its bundle are deployed first, then
everything as it lies here, both by what `spotune deploy` does. It takes longer than most tests, for it trains for real
on both sides of the update.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spotune.deploy import bundle, deployment, templates
from spotune.deploy.account import Account
from spotune.deploy.bundle import BundleSources, Packages
from spotune.deploy.installation import Installation
from spotune.deploy.settings import Limits, Settings
from spotune.local import stack
from spotune.local.state import ACCOUNT, EVENT_SOURCE, REGION, StackState, environment
from tests import tiny_model
from tests.embedded.earlier import Earlier, earlier_version
from tests.embedded.installed import TENANT, Installed, accepted, attempts
from tests.embedded.standing_still import standing_still
from tests.landings import rows
from tests.polling import wait_for

pytestmark = [pytest.mark.embedded, pytest.mark.torch]

KEPT = (
    "ApiFunction",
    "ArtifactsBucket",
    "DataBucket",
    "HttpApi",
    "LaunchQueue",
    "ModelsBucket",
    "SigningSecret",
    "Table",
)
"""Resources that hold something, or that others know by name: an update must not replace them."""

MOVING = frozenset({"last_used_at"})
"""Fields that change by being asked for."""

RULE = {
    "name": "landing",
    "job": {"model": tiny_model.NAME, "constraints": {"budget_usd": 5}},
    "trigger": {"min_rows": 10_000, "quiet_seconds": 0, "min_interval_seconds": 0},
    "frozen": {"fraction": 0.2},
    "dry_run": True,
}


def job(epochs: int) -> dict[str, Any]:
    """A request without its file."""
    return {
        "model": tiny_model.NAME,
        "seed": 5,
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": epochs, "batch_size": 4}}},
        "constraints": {"budget_usd": 5},
        "adapter": {"type": "lora", "rank": 4},
        "training": {"max_sequence_length": 64, "packing": False},
    }


@dataclass(frozen=True, slots=True)
class Jobs:
    """Jobs of the earlier version, each where an update may meet it."""

    done: str
    running: str
    waiting: str
    """Its training job has been created, and has no instance."""
    paused: str
    cancelled: str
    commanded: str
    """Recorded, and its first command is in the queue."""


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Earlier:
    return earlier_version(tmp_path_factory.mktemp("earlier"))


@pytest.fixture(scope="module")
def account(
    earlier: Earlier, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[StackState]:
    """The emulator and the double. Embedded mode's own installation stands beside the one that is updated."""
    home = tmp_path_factory.mktemp("upgraded")
    (home / "cache").mkdir()
    (home / "cache" / "bundles").symlink_to(pytestconfig.cache.mkdir("bundles"), target_is_directory=True)
    state = stack.up(home, emulator_port=0, double_port=0)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment(state).items():
            patched.setenv(name, value)
        yield state
    stack.down(home)


@pytest.fixture(scope="module")
def installation(account: StackState) -> Installation:
    """As its settings say it, on both sides of the update."""
    settings = Settings(
        stage="upgraded",
        region=REGION,
        image=f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/spotune-training:1",
        limits=Limits(requests_per_minute=60_000),
        webhook_networks=("127.0.0.0/8",),
    )
    overrides = {"EventSource": EVENT_SOURCE, "AdvisorUrl": f"{account.double_url}/_double/spot-advisor-data.json"}
    return Installation(Account(REGION), settings, overrides, pause=0.1)


@pytest.fixture(scope="module")
def old(
    earlier: Earlier, account: StackState, installation: Installation, tiny_folder: Path, pytestconfig: pytest.Config
) -> Installed:
    """The earlier version, deployed."""
    sources = BundleSources(earlier.folder / "handlers", earlier.folder / "spotune", Packages.installed())
    code = bundle.build(pytestconfig.cache.mkdir("earlier-bundles"), sources)
    all_of_them = Installation.home_parameters

    def those_that_it_takes(self: Installation, bucket: str, code_key: str) -> dict[str, str]:
        given = all_of_them(self, bucket, code_key)
        return {name: value for name, value in given.items() if name in earlier.parameters}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(templates, "INSTALLATION", earlier.template)
        patched.setattr(Installation, "home_parameters", those_that_it_takes)
        made = deployment.deploy(installation, code, print)
    assert made.key is not None
    earlier.add_base_model(account.with_(models_bucket=made.outputs["ModelsBucket"]), tiny_folder, tiny_model.NAME)
    return Installed(account, installation.home.name, made.outputs, made.key)


def test_an_update_in_place_loses_no_job_and_no_dollar(
    earlier: Earlier, old: Installed, installation: Installation, pytestconfig: pytest.Config
) -> None:
    print(f"updating from {earlier.revision}")
    with contextlib.ExitStack() as held:
        jobs = put_jobs_everywhere(old, held)
        before = said_of(old, jobs)
        code, names = old.code(), old.physical_names()

        made = deployment.deploy(installation, bundle.build(pytestconfig.cache.mkdir("bundles")), print)

        assert (made.changed, made.key) == (True, None)
        new = Installed(old.state, old.stack, made.outputs, old.key, old.sent)
        assert new.code() != code, "the functions run what lies here"
        assert new.job(jobs.running)["status"] == "running"
    assert made.api_url == old.outputs["ApiUrl"]
    assert {name: new.physical_names().get(name) for name in KEPT} == {name: names[name] for name in KEPT}
    for path, said in before.items():
        assert_still_said(said, new.call("GET", path), path)
    go_on(new, jobs)
    check_ends(new, jobs)
    check_rule(new)


def put_jobs_everywhere(old: Installed, held: contextlib.ExitStack) -> Jobs:
    """A job in each place where the update may meet it, and a rule, a webhook and a further key beside them.

    The training job that runs stands still until `held` ends, so that no machine is too fast for the update.
    """
    old.call("POST", "webhook_endpoints", {"name": "hook", "url": "http://127.0.0.1:19999/hook"})
    old.call("POST", "keys", {"name": "another"})
    old.land("landing/before.jsonl", rows(*range(20)))
    old.call("POST", "rules", {**RULE, "source": {"uri": f"s3://{old.outputs['DataBucket']}/{TENANT}/landing/**"}})
    wait_for(lambda: old.call("GET", "rules/landing")["pending"]["rows"] or None, "the rule takes its file in")
    done = old.submit(job(epochs=1))
    old.await_status(done, "succeeded")
    running = old.submit(job(epochs=1))
    old.await_status(running, "running")
    held.enter_context(standing_still(old.state, f"{running}-1"))
    old.give_capacity(False)
    waiting, paused, cancelled = (old.submit(job(epochs=1)) for _ in range(3))
    for one in (waiting, paused, cancelled):
        wait_for(lambda one=one: accepted(old.job(one)) or None, f"{one} has a training job")  # type: ignore[misc]
    old.call("POST", f"fine_tuning/jobs/{paused}/pause")
    old.call("POST", f"fine_tuning/jobs/{cancelled}/cancel")
    old.await_status(paused, "paused")
    old.await_status(cancelled, "cancelled")
    old.hold_commands(True)
    commanded = old.submit(job(epochs=1), once="once")
    assert not accepted(old.job(commanded))
    return Jobs(done, running, waiting, paused, cancelled, commanded)


def said_of(old: Installed, jobs: Jobs) -> dict[str, Any]:
    """What the earlier version says of all that the update may touch, by address."""
    paths = (
        *(f"fine_tuning/jobs/{job_id}" for job_id in (jobs.done, jobs.paused, jobs.cancelled)),
        f"fine_tuning/jobs/{jobs.done}/events?limit=100",
        f"fine_tuning/jobs/{jobs.done}/checkpoints",
        "files",
        "keys",
        "models",
        "rules/landing",
        "webhook_endpoints",
        "accuracy",
    )
    return {path: old.call("GET", path) for path in paths}


def go_on(new: Installed, jobs: Jobs) -> None:
    """What is held is let go; who never heard an answer asks again."""
    again = new.call("POST", "fine_tuning/jobs", new.sent["once"], once="once")
    assert again["id"] == jobs.commanded, "the same key is the same job on both sides of an update"
    new.hold_commands(False)
    new.give_capacity(True)
    new.call("POST", f"fine_tuning/jobs/{jobs.paused}/resume")


def check_ends(new: Installed, jobs: Jobs) -> None:
    """Every job ended, on the training jobs that it had, and its money is settled to the dollar."""
    to_end = (jobs.running, jobs.waiting, jobs.paused, jobs.commanded)
    ended = [new.await_status(job_id, "succeeded") for job_id in to_end]
    assert [len(attempts(one)) for one in ended] == [1, 1, 2, 1], "nothing was begun a second time"
    assert attempts(ended[0])[0]["interruptions"] == 0, "what ran, ran on"
    everything = [*ended, new.job(jobs.done), new.job(jobs.cancelled)]
    assert [one["spotune"]["money"]["reserved"] for one in everything] == [0] * 6
    billed = sum(one["spotune"]["money"]["billed"] for one in everything)
    assert billed > 0
    budget = new.call("GET", "budget")
    assert (budget["reserved"], budget["billed"]) == (0, billed)
    for one in everything:
        numbers = new.log_numbers(one["id"])
        assert numbers == list(range(1, len(numbers) + 1)), "the log goes on where the earlier version left it"


def check_rule(new: Installed) -> None:
    """A rule that took a file in before the update takes the next one in after it, and plans on both."""
    new.land("landing/after.jsonl", rows(*range(20, 60)))
    wait_for(lambda: new.call("GET", "rules/landing")["pending"]["rows"] > 20 or None, "the next file is taken in")
    new.call("POST", "rules/landing/fire")

    def planned() -> Any:
        (one,) = new.call("GET", "rules/landing/retrainings")["data"]
        return one if one["state"] not in ("preparing", "submitted") else None

    assert wait_for(planned, "the retraining is planned")["state"] == "planned"


def assert_still_said(before: Any, after: Any, where: str) -> None:
    """What was said is said still; more may be."""
    if isinstance(before, dict):
        assert isinstance(after, dict), where
        for name in before.keys() - MOVING:
            assert name in after, f"{where}.{name} is gone"
            assert_still_said(before[name], after[name], f"{where}.{name}")
    elif isinstance(before, list):
        assert isinstance(after, list), where
        assert len(after) == len(before), where
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            assert_still_said(one, other, f"{where}[{number}]")
    else:
        assert after == before, f"{where}: {json.dumps(before)[:80]} became {json.dumps(after)[:80]}"
