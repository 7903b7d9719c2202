"""Requests a minute: refused in words that OpenAI's SDK acts on, counted for known keys alone."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest

from spotune.contracts.errors import Unavailable
from spotune.service.access.keys import issue_key
from spotune.service.installation import Installation, install
from spotune.store.memory import MemoryStore
from tests.handlers.test_jobs import JOBS
from tests.in_process import Answer, Client, World, answer_to, http_event

KEYS = "/v1/keys"


def client_with(world: World, requests_per_minute: int | None) -> Client:
    return Client(issue_key(world.here, "acme", "limited", requests_per_minute=requests_per_minute))


def told(answer: Answer) -> tuple[str, str, str]:
    """Limit, remaining, reset."""
    named = (answer.headers[f"x-ratelimit-{name}-requests"] for name in ("limit", "remaining", "reset"))
    return next(named), next(named), next(named)


def start_of_a_minute(world: World) -> None:
    world.clock.now = world.clock.now // 60 * 60


def test_a_key_that_has_made_its_requests_is_told_when_to_come_again(world: World) -> None:
    start_of_a_minute(world)
    client = client_with(world, 2)
    assert told(client.call("GET", JOBS)) == ("2", "1", "60s")
    world.clock.now += 20.5
    assert told(client.call("GET", "/v1/no-such-route")) == ("2", "0", "40s")
    refused = client.call("GET", JOBS)
    assert (refused.status, refused.error["type"], refused.error["code"]) == (
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
    )
    assert refused.headers["retry-after"] == "40"
    assert told(refused) == ("2", "0", "40s")
    world.clock.now += int(refused.headers["retry-after"])
    assert client.call("GET", JOBS).status == 200


def test_a_refused_request_does_nothing(world: World) -> None:
    client = client_with(world, 1)
    assert client.call("POST", KEYS, {"name": "one"}).status == 200
    before = len(world.store.list_keys("acme"))
    assert client.call("POST", KEYS, {"name": "two"}).status == 429
    assert len(world.store.list_keys("acme")) == before


def test_what_is_refused_for_another_reason_counts_too(world: World) -> None:
    client = Client(issue_key(world.here, "acme", "reader", ("read",), requests_per_minute=2))
    assert client.call("POST", KEYS, {"name": "x"}).status == 403
    assert client.call("POST", JOBS, raw=b"{").status == 403
    assert client.call("GET", JOBS).status == 429


def test_one_key_does_not_use_up_another_s_minute(world: World) -> None:
    first, second = client_with(world, 1), client_with(world, 1)
    assert first.call("GET", JOBS).status == 200
    assert first.call("GET", JOBS).status == 429
    assert second.call("GET", JOBS).status == 200


def test_the_installation_s_limit_holds_for_a_key_without_one(world: World) -> None:
    settings = dataclasses.replace(world.here.settings, requests_per_minute=3)
    install(dataclasses.replace(world.here, settings=settings))
    client = client_with(world, None)
    assert [client.call("GET", JOBS).status for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.parametrize("key", [None, "sk-spotune-" + "x" * 43, "nonsense"])
def test_requests_without_a_known_key_are_not_counted(
    world: World, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(*_: object, **__: object) -> int:
        raise AssertionError("it wrote into the store")

    monkeypatch.setattr(MemoryStore, "count_request", count)
    answer = Client(key).call("GET", JOBS)
    assert answer.status == 401
    assert "x-ratelimit-limit-requests" not in answer.headers


def test_a_revoked_key_is_unknown_and_not_counted(world: World, client: Client) -> None:
    made = client.call("POST", KEYS, {"name": "ci", "requests_per_minute": 1}).body
    other = Client(made["key"])
    assert other.call("GET", JOBS).status == 200
    assert other.call("GET", JOBS).status == 429
    client.call("DELETE", f"{KEYS}/{made['id']}")
    assert other.call("GET", JOBS).status == 401


def test_the_document_stays_open_and_counts_nothing(world: World) -> None:
    client = client_with(world, 1)
    answers = [client.call("GET", "/openapi.json") for _ in range(3)]
    assert {answer.status for answer in answers} == {200}
    assert client.call("GET", JOBS).status == 200


def test_threads_that_race_get_exactly_the_limit(world: World) -> None:
    client = client_with(world, 25)
    lock = threading.Lock()

    def ask(_: int) -> int:
        with lock:  # Powertools' resolver serves one request at a time, as a Lambda does.
            return client.call("GET", JOBS).status

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(ask, range(60)))
    assert (statuses.count(200), statuses.count(429)) == (25, 35)


def test_instances_whose_clocks_differ_share_the_window_they_agree_on(world: World) -> None:
    start_of_a_minute(world)
    world.clock.now += 30
    key = issue_key(world.here, "acme", "limited", requests_per_minute=4)
    for skew in (-2.0, 0.0, 2.0, 0.0):
        install(dataclasses.replace(world.here, clock=skewed(world.here, skew)))
        assert Client(key).call("GET", JOBS).status == 200
    for skew in (-2.0, 2.0):
        install(dataclasses.replace(world.here, clock=skewed(world.here, skew)))
        refused = Client(key).call("GET", JOBS)
        assert refused.status == 429
        assert 28 <= int(refused.headers["retry-after"]) <= 32


def skewed(here: Installation, by: float) -> Callable[[], float]:
    return lambda: here.clock() + by


def test_a_request_that_cannot_be_counted_is_not_let_through(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object, **__: object) -> int:
        raise Unavailable("the job table does not answer.", code="store_unavailable")

    monkeypatch.setattr(MemoryStore, "count_request", down)
    answer = client.call("POST", KEYS, {"name": "x"})
    assert (answer.status, answer.error["code"]) == (503, "store_unavailable")


def test_a_key_is_made_with_no_higher_limit_than_its_maker(world: World) -> None:
    maker = client_with(world, 100)
    low = maker.call("POST", KEYS, {"name": "low", "requests_per_minute": 5}).body
    same = maker.call("POST", KEYS, {"name": "same"}).body
    assert (low["requests_per_minute"], same["requests_per_minute"]) == (5, 100)
    refused = maker.call("POST", KEYS, {"name": "high", "requests_per_minute": 101})
    assert (refused.status, refused.error["code"], refused.error["param"]) == (
        400,
        "rate_limit_too_high",
        "requests_per_minute",
    )
    listed = {key["name"]: key["requests_per_minute"] for key in maker.call("GET", KEYS).body["data"]}
    assert listed == {"low": 5, "same": 100, "limited": 100}


@pytest.mark.parametrize("limit", [0, -1, 60_001, 1.5, "x"])
def test_a_limit_that_is_none_is_refused(client: Client, limit: object) -> None:
    answer = client.call("POST", KEYS, {"name": "x", "requests_per_minute": limit})
    assert (answer.status, answer.error["param"]) == (400, "requests_per_minute")


def sdk(world: World, key: str, **options: object) -> openai.OpenAI:
    """OpenAI's own client, whose requests become events of the handler."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        query = request.url.query.decode()
        made = answer_to(http_event(request.method, request.url.path, query, headers, request.content))
        return httpx2.Response(made.status, headers=made.headers, text=made.raw)

    transport = openai.DefaultHttpxClient(transport=httpx2.MockTransport(answer))
    return openai.OpenAI(base_url="http://spotune/v1", api_key=key, http_client=transport, **options)  # type: ignore[arg-type]


def test_openai_s_sdk_raises_its_own_error(world: World) -> None:
    start_of_a_minute(world)
    key = issue_key(world.here, "acme", "limited", requests_per_minute=1)
    client = sdk(world, key, max_retries=0)
    client.fine_tuning.jobs.list()
    with pytest.raises(openai.RateLimitError) as refused:
        client.fine_tuning.jobs.list()
    assert (refused.value.code, refused.value.type) == ("rate_limit_exceeded", "rate_limit_error")
    assert refused.value.response.headers["retry-after"] == "60"
    assert refused.value.response.headers["x-ratelimit-remaining-requests"] == "0"


def test_openai_s_sdk_waits_as_long_as_it_is_told_and_then_gets_its_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_of_a_minute(world)
    world.clock.now += 12
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        world.clock.now += seconds

    monkeypatch.setattr("openai._base_client.time.sleep", sleep)
    key = issue_key(world.here, "acme", "limited", requests_per_minute=1)
    client = sdk(world, key)
    client.fine_tuning.jobs.list()
    assert client.fine_tuning.jobs.list().data == []
    assert waited == [48]
