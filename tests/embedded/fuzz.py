"""`make fuzz`: requests made up from `/openapi.json` against embedded mode, round by round; SEED=n repeats one."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
import requests
from schemathesis.core.transport import Response

from spotune.local.deployment import TENANT
from spotune.local.state import StackState
from tests import tiny_model
from tests.embedded.idle import idle_stack
from tests.fuzzing import Known, Send, explore

ROUNDS_SECONDS = 600.0
EXAMPLES = 100


def run(state: StackState, number: int, examples: int, seconds: float) -> Counter[int]:
    """One round; the statuses that came.

    Raises:
        AssertionError: (or a group of them) an answer is none that the document allows.
    """
    document = httpx.get(f"{state.api_url}/openapi.json", timeout=60).raise_for_status().json()
    with requests.Session() as session:
        send = _sender(state, session)
        return explore(document, send, _known(state), number=number, examples=examples, seconds=seconds)


def _sender(state: StackState, session: requests.Session) -> Send:
    def send(request: requests.PreparedRequest) -> Response:
        request.url = (request.url or "").replace("http://127.0.0.1", state.api_url, 1)
        request.headers["Authorization"] = f"Bearer {state.api_key}"
        started = time.monotonic()
        answer = session.send(request, timeout=60)
        headers = {name.lower(): [value] for name, value in answer.headers.items()}
        elapsed = time.monotonic() - started
        return Response(answer.status_code, headers, answer.content, request, elapsed, verify=False)

    return send


def _known(state: StackState) -> Known:
    """Things to ask for. Two files, since one is deleted on the way; a key that may be revoked."""
    headers = {"Authorization": f"Bearer {state.api_key}"}
    with httpx.Client(base_url=state.api_url, headers=headers, timeout=60) as http:

        def ask(path: str, **arguments: object) -> str:
            answer = http.post(path, **arguments).raise_for_status()  # type: ignore[arg-type]
            return str(answer.json()["id"])

        rows = {"files": {"file": ("train.jsonl", tiny_model.chat_rows(20))}, "data": {"purpose": "fine-tune"}}
        spare, training = ask("/v1/files", **rows), ask("/v1/files", **rows)
        job = ask("/v1/fine_tuning/jobs", json={"model": tiny_model.NAME, "training_file": training})
        key = ask("/v1/keys", json={"name": "to be revoked"})
        source = {"uri": f"s3://{state.data_bucket}/{TENANT}/fuzz/**"}
        wanted = {"name": "fuzz", "source": source, "job": {"model": tiny_model.NAME}, "trigger": {"min_rows": 10}}
        rule = ask("/v1/rules", json=wanted)
    ids = {"file_id": spare, "job_id": job, "key_id": key, "rule": rule}
    return {"model": tiny_model.NAME, "training_file": training, **ids}


def main(arguments: list[str]) -> int:
    """Rounds for ten minutes, or one round of a given seed."""
    deadline = time.monotonic() + ROUNDS_SECONDS
    with tempfile.TemporaryDirectory(prefix="spotune-fuzz-") as folder, idle_stack(Path(folder)) as state:
        while True:
            number = int(arguments[0]) if arguments else random.randrange(10**9)
            print(f"seed {number}")
            print(dict(run(state, number, EXAMPLES, ROUNDS_SECONDS)))
            if arguments or time.monotonic() > deadline:
                return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
