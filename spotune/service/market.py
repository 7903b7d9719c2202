"""The market: refreshed from AWS on a schedule, read by every plan."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from spotune import planner
from spotune.aws.base import AwsRefused, MarketSource, ObjectMissing
from spotune.contracts.errors import RequestRefused, SpotuneError, Unavailable
from spotune.contracts.layout import market_uri
from spotune.contracts.market import MarketSnapshot, SourceName
from spotune.planner.market import Fetched, merge
from spotune.service.installation import Installation

LATEST = "latest"
KEPT_SECONDS = 300
"""How long a process plans on the snapshot that it has read."""

logger = logging.getLogger(__name__)


class SnapshotUnreadable(SpotuneError):
    """The stored snapshot is not one that this version reads."""


def refresh_all(here: Installation) -> tuple[MarketSnapshot, ...]:
    """Refresh every region of the installation; one that fails keeps none of the others from it.

    Raises:
        Unavailable: some could not be stored, after all were tried; the message names them.
    """
    refreshed, failed = [], []
    for place in here.places:
        try:
            refreshed.append(refresh(here, place.region))
        except (SpotuneError, AwsRefused, ObjectMissing) as error:
            logger.exception("the market of %s could not be refreshed", place.region)
            failed.append(f"{place.region} ({error})")
    if failed:
        raise Unavailable(
            f"The market could not be refreshed in {', '.join(failed)}.",
            code="market_not_refreshed",
            remedy="Plans go on with what was stored before; the next refresh tries again.",
        )
    return tuple(refreshed)


def refresh(here: Installation, region: str = "") -> MarketSnapshot:
    """Ask every source of a region, the home where none is named; keep what is plausible, as the snapshot in force too.

    A source that fails keeps its last good values; what is refused is logged. Twice at once does no harm: both write
    what they saw, and the later one stays.
    """
    place = here.place(region)
    merged = merge(_previous(here, place.region), _fetch(place.market), here.clock())
    for words in merged.refused:
        logger.warning("refused: %s", words)
    body = merged.snapshot.model_dump_json().encode()
    for name in (str(int(here.clock())), LATEST):
        here.objects.write(_uri(here, place.region, name), body)
    return merged.snapshot


def market_of(here: Installation, region: str | None) -> MarketSnapshot:
    """The snapshot in force of a region that a person names, the home's without one.

    Raises:
        RequestRefused: the installation does not run there.
    """
    known = [place.region for place in here.places]
    if region is not None and region not in known:
        raise RequestRefused(
            f"This installation does not run in {region!r}.",
            code="unknown_region",
            param="region",
            remedy=f"Choose among {', '.join(known)}, or leave it out.",
        )
    return current_market(here, region or "")


def current_market(here: Installation, region: str = "") -> MarketSnapshot:
    """The snapshot in force; the bundled one, with a warning, where there is none that can be read."""
    region = region or here.settings.region
    try:
        return _kept(here, region, int(here.clock() // KEPT_SECONDS))
    except ObjectMissing:
        return _bundled(region, "No prices were fetched yet: the bundled ones are used.")
    except (SnapshotUnreadable, AwsRefused, Unavailable) as error:
        logger.error("the market snapshot of %s cannot be used: %s", region, error)
        return _bundled(region, f"The fetched prices cannot be used ({error}): the bundled ones are.")


@lru_cache(maxsize=32)
def _kept(here: Installation, region: str, _period: int) -> MarketSnapshot:
    """The bundled one is not kept: the first refresh is to show at once."""
    return read_snapshot(here, region)


def read_snapshot(here: Installation, region: str = "") -> MarketSnapshot:
    """The stored snapshot in force of a region, of the home where none is named.

    Raises:
        ObjectMissing: none was stored yet.
        SnapshotUnreadable: it is damaged, or of another version.
    """
    uri = _uri(here, region or here.settings.region, LATEST)
    try:
        return MarketSnapshot.model_validate_json(here.objects.read(uri))
    except ValidationError as error:
        first = error.errors()[0]
        raise SnapshotUnreadable(
            f"{uri} is no market snapshot of version 2: {'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}.",
            code="market_unreadable",
            remedy="Invoke the function that refreshes the market; it writes a new one.",
        ) from error


def _bundled(region: str, warning: str) -> MarketSnapshot:
    bundled = planner.load_catalog().market(region)
    return bundled.with_(warnings=(*bundled.warnings, warning))


def _previous(here: Installation, region: str) -> MarketSnapshot:
    """What the new values are held against. A type that the catalog has gained since comes from the bundle."""
    bundled = planner.load_catalog().market(region)
    try:
        stored = read_snapshot(here, region)
    except (ObjectMissing, SnapshotUnreadable) as error:
        logger.info("starting from the bundled snapshot: %s", error)
        return bundled
    return stored.with_(quotes={**bundled.quotes, **stored.quotes})


def _fetch(source: MarketSource) -> Fetched:
    catalog = planner.load_catalog()
    types = list(catalog.instances)
    groups: dict[str, list[str]] = defaultdict(list)
    for spec in catalog:
        groups[spec.gpu.name].append(spec.instance_type)
    asks: dict[SourceName, Callable[[], Any]] = {
        "sagemaker_prices": lambda: source.sagemaker_prices(types),
        "ec2_prices": lambda: source.ec2_prices(types),
        "spot_prices": lambda: source.spot_prices(types),
        "advisor": source.advisor,
        "placement_scores": lambda: source.placement_scores(groups.values()),
        "quotas": lambda: source.quotas(types),
    }
    answers: dict[str, Any] = {}
    errors: dict[SourceName, str] = {}
    for name, ask in asks.items():
        try:
            answers[name] = ask() or None
        except (SpotuneError, AwsRefused) as error:
            logger.warning("%s failed: %s", name, error)
            errors[name] = str(error)[:300]
        except (KeyError, ValueError, TypeError) as error:
            logger.exception("%s answered what cannot be read", name)
            errors[name] = f"its answer cannot be read: {type(error).__name__} {error}"[:300]
    return Fetched(**answers, errors=errors)


def _uri(here: Installation, region: str, name: str) -> str:
    """All regions' snapshots lie at home, where plans are made."""
    return market_uri(here.settings.models_bucket, region, name)
