"""The example receives what Spotune posts, and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from examples.webhook_receiver.receiver import receiver
from spotune.aws.webhooks import Webhooks
from spotune.contracts.addresses import parse_networks
from spotune.contracts.notifications import OutwardEvent
from spotune.service.notifications.signatures import secret_of, signed_headers
from tests.store.test_notices import endpoint

SECRET = secret_of(b"master", endpoint())
BODY = OutwardEvent(id="evt_1", created_at=1, type="budget.warning", data={"id": "2026-11"}).model_dump_json().encode()


@pytest.fixture
def url() -> Iterator[str]:
    server = receiver(0, SECRET)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_event_is_printed_once_however_often_it_comes(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    sender = Webhooks(parse_networks("127.0.0.0/8"))
    for _ in range(3):
        assert sender.post(url, signed_headers((SECRET,), "evt_1", BODY, time.time()), BODY) == 204
    forged = signed_headers((secret_of(b"another", endpoint()),), "evt_2", BODY, time.time())
    assert sender.post(url, forged, BODY) == 400
    assert sender.post(url, {}, BODY) == 400
    assert capsys.readouterr().out == f"budget.warning {BODY.decode()}\n"
