"""Calls of deployed functions that a deployment ends with: the first admin key, and the first look at the market."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from spotune.contracts.errors import NotFound, Unavailable
from spotune.contracts.identity import clear_key, key_hash, key_id
from spotune.deploy.account import Account, AwsSaysNo, call
from spotune.deploy.drawer import Drawer
from spotune.deploy.installation import Installation

FIRST_KEY = "first-key"
"""The note that says which it is, or which ones nobody has seen."""

_TRIES = 5
"""A role that was made a moment ago may not be known everywhere yet."""


def first_key(installation: Installation, drawer: Drawer, outputs: Mapping[str, str]) -> str | None:
    """The installation's first admin key; None where it was shown before, or somebody who deploys as well shows theirs.

    It is noted before it is made: a command that is killed in between leaves one that nobody has seen, and the next
    one has it revoked for its own. So does one that runs beside it; of the two, the one that was noted last shows its
    key. Killed once it is noted as shown, one can only have another made.
    """
    clear, tenant = clear_key(), installation.settings.first_tenant
    sha256 = key_hash(clear)
    began = drawer.revise(FIRST_KEY, partial(_with_unseen, tenant, sha256))
    *before, last = began.get("unseen", [None])
    if last != sha256:
        return None
    order = {"tenant": tenant, "name": "first", "instead_of": before}
    _keep(installation.account, outputs, clear, order, installation.pause)
    shown = {"tenant": tenant, "id": key_id(sha256)}
    ended = drawer.revise(FIRST_KEY, lambda noted: shown if noted == began else noted)
    return clear if ended == shown else None


def _with_unseen(tenant: str, sha256: str, noted: Any) -> Any:
    """The note with a further key that nobody has seen yet; as it is where one was shown, or this one stands in it."""
    if noted is not None and sha256 in noted.get("unseen", (sha256,)):
        return noted
    unseen = noted["unseen"] if noted is not None and noted["tenant"] == tenant else []
    return {"tenant": tenant, "unseen": [*unseen, sha256]}


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
    """An admin key, kept by the deployed keys function, which whoever may invoke it may have made.

    Raises:
        Unavailable: the function failed, a few times over.
    """
    clear = clear_key()
    _keep(account, outputs, clear, {"tenant": tenant, "name": name}, pause)
    return clear


def refresh_market(account: Account, outputs: Mapping[str, str]) -> None:
    """Have the market fetched once; its schedule would come hours later. Does not wait for it."""
    call(
        account.client("lambda").invoke,
        FunctionName=outputs["RefreshMarketFunction"],
        InvocationType="Event",
        Payload="{}",
    )


def _keep(account: Account, outputs: Mapping[str, str], clear: str, order: Mapping[str, object], pause: float) -> None:
    """Have a key's hash kept. However often it is asked, by us or by retries of a lost answer, it is one key."""
    payload = json.dumps({**order, "sha256": key_hash(clear)})
    for left in reversed(range(_TRIES)):
        body = _invoke(account, outputs["KeysFunction"], payload)
        if "id" in body:
            return
        if left:
            time.sleep(pause)
    raise Unavailable(
        f"The function that makes API keys failed: {json.dumps(body)[:500]}",
        code="key_not_issued",
        remedy="See the logs of the keys function; then have a key made with `spotune deploy --new-key`.",
    )


def _invoke(account: Account, function: str, payload: str) -> dict[str, object]:
    try:
        answer = call(account.client("lambda").invoke, FunctionName=function, Payload=payload)
    except AwsSaysNo as refused:
        return {"error": str(refused)}
    body = json.loads(answer["Payload"].read())
    return body if isinstance(body, dict) else {"error": body}
