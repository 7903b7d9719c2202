"""Calls of deployed functions that a deployment ends with: the first admin key, and the first look at the market."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from spotune.contracts.errors import NotFound, Unavailable
from spotune.deploy.account import Account, AwsSaysNo, call
from spotune.deploy.drawer import Drawer
from spotune.deploy.installation import Installation

FIRST_KEY = "first-key"
"""The note that says that it was made, and when."""

_TRIES = 5
"""A role that was made a moment ago may not be known everywhere yet."""


def first_key(installation: Installation, drawer: Drawer, outputs: Mapping[str, str]) -> str | None:
    """The installation's first admin key; None where it was made before.

    The note is left before anybody sees the key: killed in between, the next deployment says how to have another made.
    """
    if drawer.note(FIRST_KEY) is not None:
        return None
    key = issue(installation.account, outputs, installation.settings.first_tenant, "first", installation.pause)
    drawer.leave_note(FIRST_KEY, {"tenant": installation.settings.first_tenant, "made_at": int(time.time())})
    return key


def new_key(installation: Installation) -> str:
    """A further admin key of the first tenant.

    Raises:
        NotFound: the installation is not deployed.
    """
    outputs = installation.home.outputs()
    if "KeysFunction" not in outputs:
        raise NotFound(
            f"There is no installation {installation.stage} in {installation.settings.region}.",
            code="not_deployed",
            remedy="Deploy it first: spotune deploy",
        )
    return issue(installation.account, outputs, installation.settings.first_tenant, "operator", installation.pause)


def issue(account: Account, outputs: Mapping[str, str], tenant: str, name: str, pause: float = 0) -> str:
    """An admin key, made by the deployed keys function, which whoever may invoke it may have made.

    Raises:
        Unavailable: the function failed, a few times over.
    """
    order = json.dumps({"tenant": tenant, "name": name})
    for left in reversed(range(_TRIES)):
        body = _invoke(account, outputs["KeysFunction"], order)
        if "key" in body:
            return str(body["key"])
        if left:
            time.sleep(pause)
    raise Unavailable(
        f"The function that makes API keys failed: {json.dumps(body)[:500]}",
        code="key_not_issued",
        remedy="See the logs of the keys function; then have a key made with `spotune deploy --new-key`.",
    )


def refresh_market(account: Account, outputs: Mapping[str, str]) -> None:
    """Have the market fetched once; its schedule would come hours later. Does not wait for it."""
    call(
        account.client("lambda").invoke,
        FunctionName=outputs["RefreshMarketFunction"],
        InvocationType="Event",
        Payload="{}",
    )


def _invoke(account: Account, function: str, payload: str) -> dict[str, object]:
    try:
        answer = call(account.client("lambda").invoke, FunctionName=function, Payload=payload)
    except AwsSaysNo as refused:
        return {"error": str(refused)}
    body = json.loads(answer["Payload"].read())
    return body if isinstance(body, dict) else {"error": body}
