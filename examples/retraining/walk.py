"""Retraining from end to end on this machine: data lands, a model is tuned, and only a better one takes its place.

    python examples/retraining/walk.py

No account and no GPU: embedded mode, with the tickets of examples/support_routing cut into landing files. The README
beside this file says what comes out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
import yaml

from spotune.cli.data import cached_model
from spotune.contracts.layout import split_uri
from spotune.local import stack
from spotune.local.deployment import client
from spotune.local.models import add_base_model
from spotune.local.state import StackState

HERE = Path(__file__).parent
TICKETS = HERE.parent / "support_routing" / "train.jsonl"
PREFIX = "local/tickets/"
LOOK_SECONDS = 1.0
LONGEST_SECONDS = 1800.0
"""That any step may take on a slow machine."""


def main() -> int:
    """Start embedded mode, walk, and end it where it did not run before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rule", type=Path, default=HERE / "rule.yaml")
    options = parser.parse_args()
    rule = yaml.safe_load(options.rule.read_text())
    was_up = stack.status().running
    state = stack.up()
    try:
        add_base_model(state, base_model(rule["job"]["model"]), rule["job"]["model"])
        walk(state, rule)
    finally:
        if not was_up:
            stack.down()
    return 0


def base_model(name: str) -> Path:
    """The base model's folder, made once and cached."""
    folder = cached_model(name)
    command = [sys.executable, "-m", "training_container.base_model", "--name", name, "--out", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def walk(state: StackState, rule: dict[str, Any]) -> None:
    """The whole loop, step by step."""
    tickets = TICKETS.read_text(encoding="utf-8").splitlines()
    loop = Loop(state, rule)
    loop.make_the_rule()
    loop.land_the_first_tickets(tickets[:240])
    first = loop.retraining(1)
    loop.land_worse_tickets(tickets[240:360])
    loop.retraining(2)
    loop.land_better_tickets(tickets[360:480])
    loop.retraining(3)
    loop.go_back(first)


class Loop:
    """A rule, the bucket that it looks at, and the group of models that it feeds."""

    def __init__(self, state: StackState, rule: dict[str, Any]) -> None:
        self._http = httpx.Client(
            base_url=f"{state.api_url}/v1", headers={"Authorization": f"Bearer {state.api_key}"}, timeout=60
        )
        self._s3 = client("s3", state.emulator_url)
        self._bucket = state.data_bucket
        self._body = {**rule, "source": {"uri": rule["source"]["uri"].replace("BUCKET", state.data_bucket)}}
        self._group = rule["name"]
        self._rule: dict[str, Any] = {}

    def make_the_rule(self) -> None:
        """Asked for twice: it is one rule."""
        title("A rule")
        self._rule = self._call("POST", "/rules", self._body)
        again = self._call("POST", "/rules", self._body)
        print(f"{self._rule['id']} watches {self._body['source']['uri']}")
        print(f"The same body a second time is rule {again['id']}.")

    def land_the_first_tickets(self, tickets: list[str]) -> None:
        """Four good files, one of them twice, one that was cut off, and a marker."""
        title("Monday: 240 tickets land, and some things that are no tickets")
        for number in range(4):
            self._land(f"monday/part-{number}.jsonl", tickets[number::4])
        self._land("monday/part-2-copy.jsonl", tickets[2::4])
        self._put("monday/part-4.jsonl", "\n".join(tickets[:20]).encode()[:-150])
        self._put("monday/_SUCCESS", b"")
        self._show_arrivals(6)

    def land_worse_tickets(self, tickets: list[str]) -> None:
        """An export whose columns changed places: each row asks the decision and answers with the ticket."""
        title("Tuesday: 120 tickets in which two columns changed places")
        rows = [json.loads(ticket) for ticket in tickets]
        for row in rows:
            _, ticket, decision = row["messages"]
            ticket["content"], decision["content"] = decision["content"], ticket["content"]
        self._land("tuesday/part-0.jsonl", [json.dumps(row) for row in rows])
        self._show_arrivals(7)

    def land_better_tickets(self, tickets: list[str]) -> None:
        """As Monday's, and new."""
        title("Wednesday: 120 good tickets")
        self._land("wednesday/part-0.jsonl", tickets[0::2])
        self._land("wednesday/part-1.jsonl", tickets[1::2])
        self._show_arrivals(9)

    def retraining(self, number: int) -> str:
        """Wait until the rule has fired and its job has ended; the champion's adapter by then."""
        begun = wait_for(f"retraining {number}", lambda: self._retraining(number))
        taken = f"arrivals {begun['after'] + 1} to {begun['through']}"
        print(f"\nRetraining {number} begins, because of {begun['cause']}: {taken}.")
        job = self._job(number)
        show_plan(job)
        ended = wait_for("its end", lambda: self._ended(number))
        print(f"It trained on {ended['rows']} rows and cost {dollars(ended['billed'])}: {ended['state']}.")
        if ended["state"] != "succeeded":
            raise SystemExit(ended["reason"])
        show_verdict(self._call("GET", f"/fine_tuning/jobs/{job['id']}")["spotune"]["verdict"])
        return self._show_champion()

    def go_back(self, first: str) -> None:
        """The former champion is champion again, with the adapter that it had."""
        title("And back")
        self._call("POST", f"/model_groups/{self._group}/rollback", {"why": "the walk shows how"})
        now = self._show_champion()
        print("Its adapter is the first one's, byte for byte." if now == first else "Its adapter is ANOTHER one.")

    def _land(self, name: str, tickets: Iterable[str]) -> None:
        self._put(name, "".join(f"{ticket}\n" for ticket in tickets).encode())

    def _put(self, name: str, body: bytes) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=PREFIX + name, Body=body)

    def _show_arrivals(self, files: int) -> None:
        """What became of each file, once all of them were looked at."""

        def counted() -> list[dict[str, Any]] | None:
            found: list[dict[str, Any]] = self._call("GET", self._url("/arrivals?limit=100"))["data"]
            return found if len([one for one in found if one["state"] != "arrived"]) >= files else None

        for one in reversed(wait_for("the files to be looked at", counted)):
            name = one["uri"].partition(PREFIX)[2]
            print(f"  {name:28} {one['state']:12} {one['rows'] or '':>4}  {one['reason']}")
        print(f"The rule waits for: {self._call('GET', self._url())['waiting_for'] or 'nothing'}")

    def _retraining(self, number: int) -> dict[str, Any] | None:
        found = self._call("GET", self._url("/retrainings?limit=100"))["data"]
        return next((one for one in found if one["number"] == number), None)

    def _ended(self, number: int) -> dict[str, Any] | None:
        found = self._retraining(number)
        return found if found and found["state"] not in ("preparing", "submitted") else None

    def _job(self, number: int) -> dict[str, Any]:
        """The retraining's job, once it has a plan."""

        def planned() -> dict[str, Any] | None:
            found = self._retraining(number)
            if found is None or found["job_id"] is None:
                return None
            job: dict[str, Any] = self._call("GET", f"/fine_tuning/jobs/{found['job_id']}")
            return job if job["spotune"]["plan"] else None

        return wait_for("its plan", planned)

    def _url(self, tail: str = "") -> str:
        return f"/rules/{self._rule['id']}{tail}"

    def _show_champion(self) -> str:
        """The hash of its adapter."""
        champion = self._call("GET", f"/model_groups/{self._group}")["champion"]
        bucket, key = split_uri(champion["uri"] + "adapter_model.safetensors")
        digest = hashlib.sha256(self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()).hexdigest()
        print(f"Champion: version {champion['version']}, {champion['model']}, adapter {digest[:16]}")
        return digest

    def _call(self, method: str, path: str, body: object = None) -> Any:
        answer = self._http.request(method, path, json=body)
        if answer.is_error:
            raise SystemExit(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()


def show_plan(job: dict[str, Any]) -> None:
    """What the retraining's job would take on AWS."""
    chosen = job["spotune"]["plan"]["chosen"]
    hours, cost = chosen["billed_hours"], chosen["cost"]
    print(f"Job {job['id']}. On AWS: {chosen['instance_type']} ({chosen['market']}),", end=" ")
    print(f"{60 * hours['low']:.0f} to {60 * hours['high']:.0f} minutes,", end=" ")
    print(f"{dollars(cost['low'])} to {dollars(cost['high'])}, at most {dollars(chosen['worst_case_cost'])}.")


def show_verdict(verdict: dict[str, Any]) -> None:
    """The gate's table."""
    for one in verdict["conditions"]:
        met = {True: "met", False: "NOT MET", None: "not measured"}[one["met"]]
        print(f"  {one['name']}: {met}. Wanted: {one['wanted']}. Measured: {one['measured']}.")
    print(f"The gate says {verdict['decision']}: {verdict['reason']}")


def dollars(micro: int | None) -> str:
    """An amount in micro-dollars."""
    return "nothing" if not micro else f"${micro / 1_000_000:.4f}"


def title(text: str) -> None:
    """Of a step."""
    print(f"\n== {text} ==")


def wait_for(what: str, look: Callable[[], Any]) -> Any:
    """What `look` finds first; the rule is looked at once a minute."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        time.sleep(LOOK_SECONDS)
    raise SystemExit(f"Waited {LONGEST_SECONDS:.0f} s in vain for {what}.")


if __name__ == "__main__":
    sys.exit(main())
