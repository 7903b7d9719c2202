"""Traces: a subsegment for each AWS call, with job, tenant and attempt as annotations, to Lambda's own X-Ray daemon.

The documents are X-Ray's published format, sent as datagrams: no library, no wait, no answer. On only where Lambda says
where its daemon is and that the invocation is sampled; elsewhere nothing is built and nothing sent. See
docs/decisions/0004-traces-without-the-x-ray-sdk.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from spotune.contracts.subject import subject

DAEMON = "AWS_XRAY_DAEMON_ADDRESS"
HEADER = "_X_AMZN_TRACE_ID"
"""Lambda sets it anew for each invocation: `Root=...;Parent=...;Sampled=1`."""

_PREFIX = b'{"format": "json", "version": 1}\n'
_ANNOTATED = ("job", "tenant", "attempt", "service")
_THROTTLED = 429

Send = Callable[[bytes], None]


def trace(client: Any, environment: Mapping[str, str] = os.environ, send: Send | None = None) -> None:
    """From now on each call of this boto3 client is a subsegment, where traces are on.

    Args:
        send: takes a datagram; the daemon's socket where none is given.
    """
    daemon = environment.get(DAEMON, "")
    if send is None and not daemon:
        return
    calls = _Calls(client, environment, send or _to(daemon))
    events = client.meta.events
    events.register("before-parameter-build", calls.begin)
    events.register("after-call", calls.end)
    events.register("after-call-error", calls.fail)


class _Calls:
    """One client's calls under way; botocore hands the same context to the first and the last hook of a call."""

    def __init__(self, client: Any, environment: Mapping[str, str], send: Send) -> None:
        self._service = client.meta.service_model.service_id
        self._region = client.meta.region_name
        self._environment = environment
        self._send = send

    def begin(self, model: Any, context: dict[str, Any], **_: object) -> None:
        """Note when a call begins."""
        context["spotune_began"] = (model.name, time.time())

    def end(self, http_response: Any, parsed: Mapping[str, Any], context: Mapping[str, Any], **_: object) -> None:
        """Send the subsegment of a call that was answered."""
        status, metadata = http_response.status_code, parsed.get("ResponseMetadata", {})
        known = {"request_id": metadata.get("RequestId"), "retries": metadata.get("RetryAttempts", 0)}
        failed = {"error": 400 <= status < 500, "throttle": status == _THROTTLED, "fault": status >= 500}
        marks = {name: True for name, value in failed.items() if value}
        self._finish(context, known, {"http": {"response": {"status": status}}, **marks})

    def fail(self, exception: Exception, context: Mapping[str, Any], **_: object) -> None:
        """Send the subsegment of a call that got no answer. The message may quote what was sent; its class does not."""
        cause = {"exceptions": [{"id": _new_id(), "type": type(exception).__name__, "remote": True}]}
        self._finish(context, {}, {"fault": True, "cause": cause})

    def _finish(self, context: Mapping[str, Any], known: dict[str, Any], more: dict[str, Any]) -> None:
        parent = parse_header(self._environment.get(HEADER, ""))
        if parent is None or "spotune_began" not in context:
            return
        (trace_id, parent_id), (operation, began) = parent, context["spotune_began"]
        document = {
            "name": self._service,
            "id": _new_id(),
            "trace_id": trace_id,
            "parent_id": parent_id,
            "type": "subsegment",
            "namespace": "aws",
            "start_time": began,
            "end_time": time.time(),
            "annotations": {name: value for name, value in subject().items() if name in _ANNOTATED},
            "aws": {"operation": operation, "region": self._region, **known},
            **more,
        }
        self._send(_PREFIX + json.dumps(document, separators=(",", ":"), default=str).encode())


def parse_header(header: str) -> tuple[str, str] | None:
    """Trace id and parent's id of a sampled invocation; None where it is not sampled, or there is no trace."""
    parts = dict(part.strip().partition("=")[::2] for part in header.split(";"))
    if parts.get("Sampled") != "1" or not parts.get("Root") or not parts.get("Parent"):
        return None
    return parts["Root"], parts["Parent"]


def _to(daemon: str) -> Send:
    """A socket to `host:port`. What cannot be sent is dropped: work does not fail for being traced."""
    host, _, port = daemon.rpartition(":")
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.setblocking(False)

    def send(body: bytes) -> None:
        with contextlib.suppress(OSError):
            datagrams.sendto(body, (host, int(port)))

    return send


def _new_id() -> str:
    return secrets.token_hex(8)
