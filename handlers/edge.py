"""The one way in where a web ACL guards the API: through CloudFront, which proves itself by a header with a secret.

HTTP APIs take no web ACL of their own, and their own address stays open beside CloudFront's. Signed requests below
/iam/ alone may go on coming directly: a signature is made for the very host that it is sent to, and API Gateway checks
it before the function runs. Tokens below /jwt/ are for any host, and so they come through CloudFront.
"""

from __future__ import annotations

import hmac
from typing import Any

from spotune.contracts.errors import NotAllowed
from spotune.service.installation import Installation

HEADER = "x-spotune-edge"
SIGNED = "/iam/"

Event = dict[str, Any]


def behind_edge(here: Installation, event: Event) -> Event:
    """The event, its address the caller's own and not CloudFront's.

    Raises:
        NotAllowed: it should have come through CloudFront, and did not.
        Unavailable, AwsRefused: the secret cannot be read.
    """
    if here.edge is None:
        return event
    headers = {name.lower(): value for name, value in event.get("headers", {}).items()}
    proof = headers.get(HEADER, "").encode()
    # During a rotation CloudFront goes on with the value before for as long as it takes to be deployed.
    if any(hmac.compare_digest(proof, value) for value in here.edge.values()):
        return _from_viewer(event, headers.get("x-forwarded-for", ""))
    if str(event.get("rawPath", "")).startswith(SIGNED):
        return event
    raise NotAllowed(
        "This address is not the API's.",
        code="not_through_the_edge",
        remedy="Use the address that `spotune deploy` prints; this one takes signed requests below /iam/ alone.",
    )


def _from_viewer(event: Event, forwarded: str) -> Event:
    """API Gateway ends the list with CloudFront's address, and CloudFront put the caller's before it."""
    addresses = [one.strip() for one in forwarded.split(",")]
    if len(addresses) < 2:
        return event
    context = event["requestContext"]
    return {**event, "requestContext": {**context, "http": {**context["http"], "sourceIp": addresses[-2]}}}
