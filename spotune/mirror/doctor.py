"""What `spotune doctor` says of the hub that `spotune models add` copies from. It is asked twice at most, for seconds.

Jobs read models from the bucket alone: nothing here is more than a warning.
"""

from __future__ import annotations

from collections.abc import Iterator

from spotune.contracts.errors import RequestRefused
from spotune.deploy.doctor.findings import Finding, ok, unknown, warn
from spotune.mirror.hub import Hub, Look, Token, address_here

_HUB, _TOKEN = "hub", "hub token"
_LIST, _WHO = "/api/models?limit=1", "/api/whoami-v2"
_OWN = "set HF_TOKEN to a token of yours, or run `hf auth login`"


def examine_hub() -> Iterator[Finding]:
    """Whether the hub answers this machine, and whether it takes the token that lies here."""
    try:
        token = Token.from_environment()
    except RequestRefused as refused:
        with Hub(address_here()) as hub:
            yield judge_hub(shown(hub.address), hub.look(_LIST))
        yield warn(_TOKEN, str(refused), refused.remedy)
        return
    with Hub(address_here(), token.value) as hub:
        seen = hub.look(_LIST)
        yield judge_hub(shown(hub.address), seen)
        yield judge_token(token, seen, hub.look(_WHO) if token.value and seen.status else None)


def shown(address: str) -> str:
    """An address without the password that may stand in it."""
    return address.rpartition("@")[2]


def judge_hub(address: str, seen: Look) -> Finding:
    """Whether models can be copied from here."""
    if seen.status == 0:
        remedy = (
            "Let this machine reach it, or name another hub in HF_ENDPOINT. Models in the bucket are not concerned."
        )
        return warn(_HUB, f"{address} does not answer: {seen.reason.rstrip('.')}.", remedy, address=address)
    if seen.status == 401 or (seen.status == 200 and isinstance(seen.body, list)):
        return ok(_HUB, f"{address} answers.", address=address)
    if seen.status == 429 or seen.status >= 500:
        return warn(_HUB, f"{address} answers {seen.status}: it is busy.", "Ask again later.", address=address)
    says = f"{address} answers {seen.status}, and not as a hub does."
    remedy = "See whether HF_ENDPOINT leads to a hub, and no proxy answers in its place."
    return warn(_HUB, says, remedy, address=address)


def judge_token(token: Token, seen: Look, who: Look | None) -> Finding:
    """Whose the token is; that there is none is no fault.

    Args:
        seen: the hub's answer to a question that it answers everybody.
        who: its answer to whose the token is; None where it was not asked.
    """
    if not token.value:
        if seen.status == 401:
            return warn(_TOKEN, "There is none, and this hub answers nobody without.", f"Ask with one: {_OWN}.")
        return ok(_TOKEN, f"There is none, and public models need none. For gated and private ones: {_OWN}.")
    if who is None or who.status == 0:
        return unknown(_TOKEN, f"{token.source} has one. Whether it is taken could not be asked.")
    if who.status == 401:
        says = f"The hub does not take that of {token.source}. What is asked with it is refused, public models too."
        return warn(_TOKEN, says, f"Take it away, or {_OWN}.")
    name = who.body.get("name") if isinstance(who.body, dict) else None
    if who.status == 200 and isinstance(name, str) and name.isprintable():
        return ok(_TOKEN, f"That of {token.source} is {name}'s.", account=name)
    return unknown(_TOKEN, f"{token.source} has one. This hub does not say whose it is (it answers {who.status}).")
