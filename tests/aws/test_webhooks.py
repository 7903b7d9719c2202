"""Posting to webhooks, against real servers of good and bad manners."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from spotune.aws.base import NoAnswer, WebhookRefused
from spotune.aws.webhooks import READ_BYTES, Webhooks
from spotune.contracts.addresses import parse_networks
from spotune.contracts.errors import RequestRefused
from tests.receiver import Receiver, receiving

LOOPBACK = parse_networks("127.0.0.0/8")
HEADERS = {"Content-Type": "application/json", "webhook-id": "evt_1"}
LIMIT = 0.6
"""Seconds for an exchange that never ends by itself."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def sender() -> Webhooks:
    return Webhooks(LOOPBACK)


def test_a_post_arrives_with_its_headers_and_its_very_bytes(receiver: Receiver, sender: Webhooks) -> None:
    assert sender.post(receiver.url + "?a=b", HEADERS, b'{"a": "\xc3\xa4"}') == 200
    (request,) = receiver.requests
    assert (request.path, request.body) == ("/hook?a=b", b'{"a": "\xc3\xa4"}')
    assert request.headers["webhook-id"] == "evt_1"
    assert request.headers["host"] == receiver.url.split("/")[2]
    assert request.headers["connection"] == "close"


@pytest.mark.parametrize("status", [204, 400, 404, 410, 500, 503])
def test_any_status_is_the_answer(receiver: Receiver, sender: Webhooks, status: int) -> None:
    receiver.answers.append(status)
    assert sender.post(receiver.url, HEADERS, b"{}") == status


def test_a_redirect_is_not_followed(receiver: Receiver, sender: Webhooks) -> None:
    def redirect(request: BaseHTTPRequestHandler) -> None:
        request.send_response(307)
        request.send_header("Location", receiver.url + "/elsewhere")
        request.end_headers()

    receiver.answers.append(redirect)
    assert sender.post(receiver.url, HEADERS, b"{}") == 307
    assert len(receiver.requests) == 1


def test_of_a_huge_answer_little_is_read(receiver: Receiver, sender: Webhooks) -> None:
    sent = []

    def flood(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(10_000):
                request.wfile.write(b"x" * 65_536)
                sent.append(65_536)

    receiver.answers.append(flood)
    assert sender.post(receiver.url, HEADERS, b"{}") == 200
    assert sum(sent) < 100 * 1024**2, f"{READ_BYTES} were wanted"


def test_a_server_that_never_answers_is_given_up_in_time(receiver: Receiver) -> None:
    done = threading.Event()
    receiver.answers.append(lambda _: wait(done))
    assert _time_of_failure(receiver.url) < 5
    done.set()


def test_an_answer_that_trickles_is_cut_though_no_byte_is_late(receiver: Receiver) -> None:
    done = threading.Event()

    def trickle(request: BaseHTTPRequestHandler) -> None:
        with contextlib.suppress(OSError):
            request.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            while not done.wait(0.05):
                request.wfile.write(b"x")
                request.wfile.flush()

    receiver.answers.append(trickle)
    assert _time_of_failure(receiver.url) < 5
    done.set()


def test_a_handshake_that_never_ends_is_cut() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        seconds = _time_of_failure(f"https://127.0.0.1:{mute.getsockname()[1]}/")
    assert seconds < 5


def test_what_is_no_http_is_no_answer(receiver: Receiver, sender: Webhooks) -> None:
    receiver.answers.append(lambda request: request.wfile.write(b"220 smtp.example.com ESMTP\r\n"))
    with pytest.raises(NoAnswer, match="BadStatusLine"):
        sender.post(receiver.url, HEADERS, b"{}")


def test_a_port_where_nobody_listens_is_no_answer(sender: Webhooks) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(NoAnswer, match="ConnectionRefused"):
        sender.post(f"http://127.0.0.1:{port}/", HEADERS, b"{}")


def test_nothing_is_sent_to_an_address_that_is_not_open(receiver: Receiver) -> None:
    closed = Webhooks()
    for url in (
        receiver.url,
        receiver.url.replace("http:", "https:"),
        "https://localhost:8443/",
        "https://[::1]:8443/",
    ):
        with pytest.raises(WebhookRefused, match="loopback"):
            closed.check(url)
        with pytest.raises(WebhookRefused, match="loopback"):
            closed.post(url, HEADERS, b"{}")
    assert receiver.requests == []


def test_plain_http_goes_to_opened_networks_alone() -> None:
    public = Webhooks(LOOPBACK, resolve=lambda host, port: ["8.8.8.8"])
    public.check("https://hooks.example.com/")
    with pytest.raises(WebhookRefused, match="plain http"):
        public.check("http://hooks.example.com/")


@pytest.mark.parametrize(
    "addresses",
    [["8.8.8.8", "169.254.169.254"], ["127.0.0.1", "fe80::1%eth0"], ["2606:4700::1", "::ffff:10.0.0.1"]],
    ids=str,
)
def test_one_bad_address_among_good_ones_refuses_all(receiver: Receiver, addresses: list[str]) -> None:
    mixed = Webhooks(LOOPBACK, resolve=lambda host, port: addresses)
    with pytest.raises(WebhookRefused):
        mixed.post("https://hooks.example.com/", HEADERS, b"{}")
    assert receiver.requests == []


def test_the_connection_goes_to_the_address_that_was_checked(receiver: Receiver) -> None:
    """A name that answers with another address the second time (DNS rebinding) is asked once."""
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    rebound = Webhooks(LOOPBACK, resolve=lambda host, port: answers.pop(0))
    url = receiver.url.replace("127.0.0.1", "hooks.example.com")
    assert rebound.post(url, HEADERS, b"{}") == 200
    assert receiver.requests[0].headers["host"] == url.split("/")[2]
    assert answers == [["10.0.0.1"]]
    with pytest.raises(WebhookRefused, match=r"10\.0\.0\.1, which is private"):
        rebound.post(url, HEADERS, b"{}")
    assert len(receiver.requests) == 1


def test_the_next_address_is_tried_where_the_first_does_not_answer(receiver: Receiver) -> None:
    several = Webhooks(LOOPBACK, resolve=lambda host, port: ["127.0.0.2", "127.0.0.1"])
    assert several.post(receiver.url.replace("127.0.0.1", "hooks.example.com"), HEADERS, b"{}") == 200


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")])
def test_a_name_that_cannot_be_looked_up_is_no_answer(error: Exception) -> None:
    def resolve(host: str, port: int) -> list[str]:
        raise error

    with pytest.raises(NoAnswer, match="cannot be looked up"):
        Webhooks(resolve=resolve).check("https://nobody.example.com/")
    with pytest.raises(NoAnswer, match="has no address"):
        Webhooks(resolve=lambda host, port: []).check("https://nobody.example.com/")


def test_a_url_that_was_never_good_is_refused_here_too(sender: Webhooks) -> None:
    with pytest.raises(RequestRefused):
        sender.post("https://0x7f.1/", HEADERS, b"{}")


def test_proxies_of_the_environment_are_not_asked(
    receiver: Receiver, sender: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    assert sender.post(receiver.url, HEADERS, b"{}") == 200


class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Of hooks.example.com, signed by itself; key and certificate in one file."""
        folder = tmp_path_factory.mktemp("tls")
        names = "subjectAltName=DNS:hooks.example.com"
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=hooks"]
        made += ["-addext", names, "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
        subprocess.run(made, check=True, capture_output=True)
        both = folder / "both.pem"
        both.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
        return both

    @pytest.fixture
    def secured(self, certificate: Path) -> Iterator[Receiver]:
        with receiving(certificate) as made:
            yield made

    def test_the_certificate_is_checked_against_the_name_and_not_the_address(
        self, secured: Receiver, certificate: Path
    ) -> None:
        trusting = ssl.create_default_context(cafile=str(certificate))
        sender = Webhooks(LOOPBACK, resolve=lambda host, port: ["127.0.0.1"], tls=trusting)
        assert sender.post(secured.url.replace("127.0.0.1", "hooks.example.com"), HEADERS, b"{}") == 200
        with pytest.raises(NoAnswer, match="Hostname mismatch"):
            sender.post(secured.url.replace("127.0.0.1", "other.example.com"), HEADERS, b"{}")
        assert len(secured.requests) == 1

    def test_a_certificate_that_nobody_signed_is_refused(self, secured: Receiver) -> None:
        sender = Webhooks(LOOPBACK, resolve=lambda host, port: ["127.0.0.1"])
        with pytest.raises(NoAnswer, match=r"self[- ]signed"):
            sender.post(secured.url.replace("127.0.0.1", "hooks.example.com"), HEADERS, b"{}")
        assert secured.requests == []


def wait(done: threading.Event) -> None:
    done.wait(10)


def _time_of_failure(url: str) -> float:
    began = time.monotonic()
    with pytest.raises(NoAnswer, match=f"no answer within {LIMIT}"):
        Webhooks(LOOPBACK, time_limit=LIMIT).post(url, HEADERS, b"{}")
    return time.monotonic() - began
