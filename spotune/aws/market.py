"""Prices, spot history, interruption rates, placement scores and quotas, from AWS's own services.

Every answer is by SageMaker's names of the types (`ml.g5.xlarge`), in micro-dollars an hour.
"""

from __future__ import annotations

import json
import statistics
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from spotune.aws.base import AwsRefused
from spotune.aws.clients import call, client
from spotune.contracts.base import MICRO, MicroUSD
from spotune.contracts.errors import Unavailable
from spotune.contracts.market import Quotas, quota_name

PRICING_REGION = "us-east-1"
"""The Price List API answers for all regions from a few."""
ADVISOR_URL = "https://spot-bid-advisor.s3.amazonaws.com/spot-advisor-data.json"
ADVISOR_BYTES = 20_000_000
"""The feed has some 3 MB; what is larger is not it."""
ADVISOR_SECONDS = 20
FEWEST_TYPES = 3
"""EC2 scores placements of at least three types at a time."""


class MarketSources:
    """Fulfils `MarketSource`.

    Args:
        region: whose market.
        advisor_url: the Spot Instance Advisor's feed; the public one where it is empty.
    """

    def __init__(self, region: str, advisor_url: str = "") -> None:
        self._region = region
        self._advisor_url = advisor_url or ADVISOR_URL

    def sagemaker_prices(self, types: Sequence[str]) -> dict[str, MicroUSD]:
        """See `MarketSource`."""
        wanted = set(types)
        found: dict[str, MicroUSD] = {}
        for product in self._products("AmazonSageMaker", {"regionCode": self._region, "component": "Training"}):
            usage = str(product["product"]["attributes"].get("usagetype", ""))
            name = usage.rpartition("Train:")[2]
            if "Train:" in usage and name in wanted:
                found.update((name, price) for price in _hourly_prices(product))
        return found

    def ec2_prices(self, types: Sequence[str]) -> dict[str, MicroUSD]:
        """See `MarketSource`."""
        fixed = {
            "regionCode": self._region,
            "operatingSystem": "Linux",
            "tenancy": "Shared",
            "preInstalledSw": "NA",
            "capacitystatus": "Used",
        }
        found: dict[str, MicroUSD] = {}
        for name in types:
            for product in self._products("AmazonEC2", {**fixed, "instanceType": _ec2(name)}):
                found.update((name, price) for price in _hourly_prices(product))
        return found

    def spot_prices(self, types: Sequence[str]) -> dict[str, MicroUSD]:
        """See `MarketSource`. The median over the zones of their newest prices."""
        arguments = {
            "InstanceTypes": [_ec2(name) for name in types],
            "ProductDescriptions": ["Linux/UNIX"],
            "StartTime": time.time(),  # EC2 answers with the prices in force then
        }
        newest: dict[str, dict[str, tuple[Any, MicroUSD]]] = defaultdict(dict)
        for item in _paged(self._client("ec2").describe_spot_price_history, "SpotPriceHistory", arguments):
            zones = newest[f"ml.{item['InstanceType']}"]
            known = zones.get(item["AvailabilityZone"])
            if known is None or item["Timestamp"] > known[0]:
                zones[item["AvailabilityZone"]] = item["Timestamp"], round(float(item["SpotPrice"]) * MICRO)
        return {name: round(statistics.median(price for _, price in zones.values())) for name, zones in newest.items()}

    def advisor(self) -> dict[str, tuple[int, int]]:
        """See `MarketSource`."""
        feed = _read_json(self._advisor_url)
        types = feed.get("spot_advisor", {}).get(self._region, {}).get("Linux", {})
        return {f"ml.{name}": (int(entry["s"]), int(entry["r"])) for name, entry in types.items()}

    def placement_scores(self, groups: Iterable[Sequence[str]]) -> dict[str, int]:
        """See `MarketSource`. A group has one score; groups of fewer than three types have none."""
        found: dict[str, int] = {}
        for group in groups:
            if len(group) < FEWEST_TYPES:
                continue
            arguments = {
                "InstanceTypes": [_ec2(name) for name in group],
                "TargetCapacity": 1,
                "RegionNames": [self._region],
            }
            for item in _paged(self._client("ec2").get_spot_placement_scores, "SpotPlacementScores", arguments):
                found.update(dict.fromkeys(group, int(item["Score"])))
        return found

    def quotas(self, types: Sequence[str]) -> dict[str, Quotas]:
        """See `MarketSource`. A quota that is not listed stays unknown."""
        arguments = {"ServiceCode": "sagemaker"}
        listed = _paged(self._client("service-quotas").list_service_quotas, "Quotas", arguments)
        values = {quota["QuotaName"]: int(quota["Value"]) for quota in listed}
        return {
            name: Quotas(spot=values.get(quota_name(name, "spot")), on_demand=values.get(quota_name(name, "on_demand")))
            for name in types
        }

    def _products(self, service: str, filters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        pricing = self._client("pricing", PRICING_REGION)
        terms = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in filters.items()]
        for item in _paged(pricing.get_products, "PriceList", {"ServiceCode": service, "Filters": terms}):
            yield json.loads(item)

    def _client(self, service: str, region: str = "") -> Any:
        return client(service, region or self._region)


def _hourly_prices(product: Mapping[str, Any]) -> Iterator[MicroUSD]:
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            price = dimension["pricePerUnit"].get("USD")
            if price is not None and str(dimension.get("unit", "")).lower() in ("hrs", "hour", "hours"):
                yield round(float(price) * MICRO)


def _paged(operation: Any, key: str, arguments: Mapping[str, Any]) -> Iterator[Any]:
    token: dict[str, str] = {}
    while True:
        answer = call(operation, **arguments, **token)
        yield from answer.get(key, ())
        if not answer.get("NextToken"):
            return
        token = {"NextToken": answer["NextToken"]}


def _read_json(url: str) -> dict[str, Any]:
    """A small JSON object over HTTP.

    Raises:
        Unavailable: no answer, one that is too large, or none that is JSON.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise AwsRefused("ValidationError", f"{url} is no address of the Spot Instance Advisor's feed.")
    try:
        with urllib.request.urlopen(url, timeout=ADVISOR_SECONDS) as stream:  # noqa: S310 the scheme is checked above
            body = stream.read(ADVISOR_BYTES + 1)
        if len(body) > ADVISOR_BYTES:
            raise ValueError(f"it is larger than {ADVISOR_BYTES} bytes")
        document = json.loads(body)
        if not isinstance(document, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"The Spot Instance Advisor's feed cannot be read: {error}.", code="advisor_unreadable"
        ) from error
    return document


def _ec2(instance_type: str) -> str:
    return instance_type.removeprefix("ml.")
