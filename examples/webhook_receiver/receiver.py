"""Receives Spotune's events: verifies each, drops what it has seen, and prints the rest.

export OPENAI_WEBHOOK_SECRET=whsec_...         # from `spotune webhooks create http://127.0.0.1:8080/`
python examples/webhook_receiver/receiver.py 8080
"""

from __future__ import annotations

import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from openai import InvalidWebhookSignatureError, OpenAI

BIGGEST = 1_000_000
"""Bytes of a body that are read; an event has some hundreds."""


def receiver(port: int, secret: str) -> HTTPServer:
    """A server on this machine; `serve_forever` starts it. In production it stands behind TLS."""
    webhooks = OpenAI(api_key="not needed here").webhooks
    seen: set[str] = set()  # in production a table: a restart forgets this one

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), BIGGEST))
            try:
                event = webhooks.unwrap(body, dict(self.headers), secret=secret)
            except (InvalidWebhookSignatureError, ValueError):
                self.send_error(400, "not signed with our secret, or not now")
                return
            self.send_response(204)  # first the answer, then the work: ten seconds are all there is
            self.end_headers()
            if event.id not in seen:
                seen.add(event.id)
                print(event.type, body.decode(), flush=True)

    return HTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    receiver(int(sys.argv[1]), os.environ["OPENAI_WEBHOOK_SECRET"]).serve_forever()
