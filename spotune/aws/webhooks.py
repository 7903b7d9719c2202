"""Posts to webhooks: the one place that connects to an address that a tenant chose.

A name is looked up once, every address that it stands for is checked, and the connection goes to one of those very
addresses; the name itself goes into the Host header and the TLS handshake only. So a name that changes its address
between check and connection (DNS rebinding) changes nothing. Redirects are not followed, proxies of the environment
are not asked, and the whole exchange ends when its time is over, however slowly the other side talks.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from spotune.aws.base import NoAnswer, WebhookRefused
from spotune.contracts.addresses import Network, Target, forbidden, is_opened, parse_target

TIME_LIMIT = 10.0
"""Seconds for connecting, sending and the answer together."""

READ_BYTES = 4096
"""Of an answer's body; the rest is never read."""

Resolve = Callable[[str, int], Sequence[str]]


class Webhooks:
    """Fulfils `WebhookSender`.

    Args:
        opened: networks that this installation opens.
        resolve: the addresses of a host and port; the system's resolver by default.
        tls: how servers are verified; by the system's certificate authorities by default.
        time_limit: seconds for one exchange.
    """

    def __init__(
        self,
        opened: Sequence[Network] = (),
        *,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
        time_limit: float = TIME_LIMIT,
    ) -> None:
        self._opened = opened
        self._resolve = resolve or _system_addresses
        self._tls = tls
        self._time_limit = time_limit

    def check(self, url: str) -> None:
        """See `WebhookSender`."""
        self._addresses(parse_target(url))

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """See `WebhookSender`."""
        target = parse_target(url)
        addresses = self._addresses(target)
        if target.tls and self._tls is None:
            self._tls = ssl.create_default_context()
        exchange = _Exchange(target, addresses, self._tls if target.tls else None, self._time_limit)
        try:
            return exchange.post(headers, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = (
                f"no answer within {self._time_limit:g} s" if exchange.is_over else f"{type(error).__name__}: {error}"
            )
            raise NoAnswer(reason) from error

    def _addresses(self, target: Target) -> tuple[str, ...]:
        """Every address of the target, each checked: one bad one among them refuses all."""
        try:
            addresses = tuple(dict.fromkeys(self._resolve(target.host, target.port)))
        except (OSError, UnicodeError) as error:
            raise NoAnswer(f"{target.host} cannot be looked up ({error})") from error
        for address in addresses:
            if why := forbidden(address, self._opened):
                raise WebhookRefused(f"{target.host} leads to {address}, which is {why}")
            if not target.tls and not is_opened(address, self._opened):
                raise WebhookRefused(f"plain http leads to {address}, which this installation does not open")
        if not addresses:
            raise NoAnswer(f"{target.host} has no address")
        return addresses


class _Exchange:
    """One request and its answer within a time limit. A timer cuts the connection, so that a trickle ends, too."""

    def __init__(self, target: Target, addresses: Sequence[str], tls: ssl.SSLContext | None, time_limit: float) -> None:
        self._target = target
        self._addresses = addresses
        self._tls = tls
        self._over_at = time.monotonic() + time_limit
        self._socket: socket.socket | None = None

    @property
    def is_over(self) -> bool:
        """True where the time is up."""
        return time.monotonic() >= self._over_at

    def post(self, headers: Mapping[str, str], body: bytes) -> int:
        """The answer's status."""
        timer = threading.Timer(self._left(), self._cut)
        timer.daemon = True
        timer.start()
        try:
            return self._exchange(headers, body)
        finally:
            timer.cancel()
            if self._socket is not None:
                self._socket.close()

    def _exchange(self, headers: Mapping[str, str], body: bytes) -> int:
        connection = http.client.HTTPConnection(self._target.host, self._target.port)
        connection.sock = self._connect()
        connection.auto_open = 0  # never a second connection, by its own look-up
        connection.putrequest("POST", self._target.path, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": self._target.host_header, "Content-Length": str(len(body)), **headers}.items():
            connection.putheader(name, value)
        connection.putheader("Connection", "close")
        connection.endheaders(body)
        answer = connection.getresponse()
        self._in_time(self._socket)  # http.client takes a cut for the end of the headers
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer.read(READ_BYTES)  # a polite end for most; the status is known whatever comes
        return answer.status

    def _connect(self) -> socket.socket:
        """To the first of the checked addresses that answers."""
        for number, address in enumerate(self._addresses, start=1):
            try:
                self._socket = socket.create_connection((address, self._target.port), timeout=self._left())
                break
            except OSError:
                if number == len(self._addresses) or self.is_over:
                    raise
        plain = self._in_time(self._socket)
        if self._tls is None:
            return plain
        secured = self._tls.wrap_socket(plain, server_hostname=self._target.host, do_handshake_on_connect=False)
        self._socket = secured
        self._in_time(secured)
        secured.do_handshake()
        return secured

    def _in_time(self, connected: socket.socket | None) -> socket.socket:
        """The connection; a timer that went off before it was there could not cut it."""
        if connected is None or self.is_over:
            raise TimeoutError("too late")
        return connected

    def _left(self) -> float:
        return max(self._over_at - time.monotonic(), 0.001)

    def _cut(self) -> None:
        """From the timer's thread. Past SSLSocket's own method, which would pull its state from under the reader."""
        with contextlib.suppress(OSError):
            if self._socket is not None:
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _system_addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(where[0]) for _, _, _, _, where in found]
