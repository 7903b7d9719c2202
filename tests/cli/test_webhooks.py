"""`webhooks` against the real handlers."""

from __future__ import annotations

from tests.cli.conftest import Run, Service

URL = "https://hooks.example.com/x"


def test_a_webhook_is_made_tested_listed_and_deleted(service: Service, run: Run) -> None:
    made = run("webhooks", "create", URL, "--event", "budget.warning", "--json").json
    assert made["signing_secret"].startswith("whsec_")
    assert made["event_types"] == ["budget.warning"]
    listed = run("webhooks", "list", "--json").json
    assert [one["id"] for one in listed["data"]] == [made["id"]]
    assert "answered 200: delivered" in run("webhooks", "test", made["id"]).out
    service.world.webhooks.answers.append(500)
    assert "answered 500: a delivery would be tried again" in run("webhooks", "test", made["id"]).out
    assert "gets nothing any more" in run("webhooks", "delete", made["id"]).out
    assert run("webhooks", "delete", made["id"]).code == 3


def test_the_secret_is_printed_once_and_again_only_when_it_is_replaced(service: Service, run: Run) -> None:
    out = run("webhooks", "create", URL, "--name", "ci").out
    assert out.startswith("whsec_")
    webhook = out.split("\n\n")[1].split()[0]
    assert "whsec_" not in run("webhooks", "list").out
    rotated = run("webhooks", "rotate", webhook, "--keep-old").out
    assert rotated.startswith("whsec_")
    assert rotated.splitlines()[0] != out.splitlines()[0]
    assert "24 hours" in rotated


def test_an_address_inside_is_refused_with_the_reason(service: Service, run: Run) -> None:
    refused = run("webhooks", "create", "https://metadata.internal/")
    assert refused.code == 2
    assert "which is private" in refused.err
    assert run("webhooks", "create", "https://0x7f.1/").code == 2


def test_an_unknown_event_is_refused_before_anything_is_sent(service: Service, run: Run) -> None:
    for line in (("create", URL, "--event", "job.done"), ("test", "we_1", "--event", "job.done")):
        refused = run("webhooks", *line)
        assert refused.code == 2
        assert "fine_tuning.job.succeeded" in refused.err
    assert service.calls == []
