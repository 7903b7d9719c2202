"""The neighbours that a market refresh asks: Pricing, Service Quotas, EC2's spot prices and scores, the advisor's feed.

Values come from the bundled catalog, in the shapes and the pages of the real services; the control door changes them.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from spotune.contracts.base import MICRO
from spotune.contracts.market import quota_name
from spotune.local.double.faults import ServiceError, invalid
from spotune.local.double.quotas import Quotas
from spotune.planner.catalog import Catalog, InstanceSpec, load_catalog

PAGE = 25
ZONES = "abc"
EC2_SHARE = 0.8
"""EC2's on-demand price over SageMaker's of most G sizes (1 / 1.25)."""
SOURCES = ("pricing", "spot_prices", "placement_scores", "quotas", "advisor")


@dataclass
class Market:
    """What the neighbours answer in one region.

    `prices` overrides SageMaker's on-demand price of a type, in dollars an hour, `spot` EC2's spot price; `broken`
    names the sources that fail; `asked` holds what was asked for of a quota, by its code, and is never answered.
    """

    region: str
    quotas: Quotas
    prices: dict[str, float] = field(default_factory=dict)
    spot: dict[str, float] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    asked: dict[str, float] = field(default_factory=dict)

    def json_operation(self, service: str, name: str, request: dict[str, Any]) -> dict[str, Any]:
        """Pricing's GetProducts; Service Quotas' list, a request for more, and the requests that were made.

        Raises:
            ServiceError: another operation, a wrong value, or the source is broken.
        """
        if (service, name) == ("AWSPriceListService", "GetProducts"):
            self._check("pricing")
            return _page("PriceList", [json.dumps(one) for one in self._products(request)], request)
        if service == "ServiceQuotasV20190624":
            self._check("quotas")
            if request.get("ServiceCode") != "sagemaker":
                raise ServiceError("NoSuchResourceException", f"There is no service {request.get('ServiceCode')!r}.")
            if name == "ListServiceQuotas":
                return _page("Quotas", list(self._quotas()), request)
            if name == "RequestServiceQuotaIncrease":
                return {"RequestedQuota": self._ask(request)}
            if name == "ListRequestedServiceQuotaChangeHistory":
                wanted = request.get("Status", "PENDING") == "PENDING"
                return _page("RequestedQuotas", list(self._requests()) if wanted else [], request)
        raise ServiceError("UnknownOperationException", f"The double has no operation {service}.{name}.")

    def query(self, body: bytes) -> str:
        """EC2's query protocol: DescribeSpotPriceHistory and GetSpotPlacementScores, as XML.

        Raises:
            ServiceError: another action, a wrong value, or the source is broken.
        """
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        action = form.get("Action", "")
        types = _listed(form, "InstanceType")
        if action == "DescribeSpotPriceHistory":
            self._check("spot_prices")
            return _xml(action, "spotPriceHistorySet", self._history(types))
        if action == "GetSpotPlacementScores":
            self._check("placement_scores")
            if not int(form.get("TargetCapacity", "0")) >= 1:
                raise ServiceError("InvalidParameterValue", "TargetCapacity must be 1 or more.")
            regions = _listed(form, "RegionName") or [self.region]
            score = 9 if len(types) >= 3 else 1
            return _xml(action, "spotPlacementScoreSet", ({"region": one, "score": str(score)} for one in regions))
        raise ServiceError("InvalidAction", f"The double has no EC2 action {action!r}.")

    def feed(self) -> dict[str, Any]:
        """The Spot Instance Advisor's document.

        Raises:
            ServiceError: the source is broken.
        """
        self._check("advisor")
        regions = {
            region: {"Linux": {name.removeprefix("ml."): {"s": one[0], "r": one[1]} for name, one in types.items()}}
            for region, types in _catalog().advisor.items()
        }
        return {"ranges": [], "instance_types": {}, "spot_advisor": regions}

    def _check(self, source: str) -> None:
        if source in self.broken:
            raise ServiceError("InternalFailure", f"The source {source} is broken, as it was told to be.", 500)

    def _products(self, request: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
        filters = {one["Field"]: one["Value"] for one in request.get("Filters", ())}
        if any(one.get("Type") != "TERM_MATCH" for one in request.get("Filters", ())):
            raise ServiceError("InvalidParameterException", "The double matches terms only (TERM_MATCH).")
        service = request.get("ServiceCode")
        if filters.get("regionCode", self.region) != self.region or service not in ("AmazonSageMaker", "AmazonEC2"):
            return
        for spec in _catalog():
            price = self._sagemaker_price(spec)
            if price is None:
                continue
            name = spec.instance_type.removeprefix("ml.")
            if service == "AmazonEC2" and filters.get("instanceType", name) == name:
                yield _product({"instanceType": name, "usagetype": f"BoxUsage:{name}"}, price * EC2_SHARE)
            if service == "AmazonSageMaker" and filters.get("component", "Training") == "Training":
                usage = f"USE1-Train:{spec.instance_type}"
                yield _product({"instanceName": spec.instance_type, "component": "Training", "usagetype": usage}, price)

    def _sagemaker_price(self, spec: InstanceSpec) -> float | None:
        bundled = None if spec.on_demand is None else spec.on_demand / MICRO
        return self.prices.get(spec.instance_type, bundled)

    def _history(self, types: list[str]) -> Iterable[dict[str, str]]:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        for name in types:
            price = self._spot_price(f"ml.{name}")
            if price is None:
                continue
            for number, zone in enumerate(ZONES):
                yield {
                    "instanceType": name,
                    "productDescription": "Linux/UNIX",
                    "spotPrice": f"{price * (0.9 + 0.1 * number):.6f}",
                    "timestamp": stamp,
                    "availabilityZone": f"{self.region}{zone}",
                }

    def _spot_price(self, instance_type: str) -> float | None:
        if instance_type in self.spot:
            return self.spot[instance_type]
        spec = _catalog().instances.get(instance_type)
        savings, _ = _catalog().advisor.get(self.region, {}).get(instance_type, (None, None))
        price = None if spec is None else self._sagemaker_price(spec)
        return None if price is None or savings is None else price * EC2_SHARE * (1 - savings / 100)

    def _quotas(self) -> Iterable[dict[str, Any]]:
        for name in _catalog().instances:
            for market in ("spot", "on_demand"):
                yield {
                    "ServiceCode": "sagemaker",
                    "QuotaCode": f"L-{uuid.uuid5(uuid.NAMESPACE_URL, name + market).hex[:8].upper()}",
                    "QuotaName": quota_name(name, "spot" if market == "spot" else "on_demand"),
                    "Value": float(self.quotas.limit(name, market)),
                    "Adjustable": True,
                }

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        code, wanted = request.get("QuotaCode"), float(request.get("DesiredValue", 0))
        quota = next((one for one in self._quotas() if one["QuotaCode"] == code), None)
        if quota is None:
            raise ServiceError("NoSuchResourceException", f"There is no quota {code!r}.")
        if code in self.asked:
            raise ServiceError("ResourceAlreadyExistsException", "Only one open request is allowed per quota.")
        if wanted <= quota["Value"]:
            raise ServiceError("IllegalArgumentException", "The value must be greater than the current one.")
        self.asked[str(code)] = wanted
        return next(one for one in self._requests() if one["QuotaCode"] == code)

    def _requests(self) -> Iterable[dict[str, Any]]:
        named = {one["QuotaCode"]: one["QuotaName"] for one in self._quotas()}
        for code, value in self.asked.items():
            yield {
                "ServiceCode": "sagemaker",
                "QuotaCode": code,
                "QuotaName": named[code],
                "DesiredValue": value,
                "Status": "PENDING",
            }


def _catalog() -> Catalog:
    return load_catalog()


def _product(attributes: Mapping[str, str], price: float) -> dict[str, Any]:
    sku = uuid.uuid5(uuid.NAMESPACE_URL, attributes["usagetype"]).hex[:16].upper()
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": f"{price:.10f}"}, "beginRange": "0", "endRange": "Inf"}
    term = {"sku": sku, "priceDimensions": {f"{sku}.JRTCKXETXF.6YS6EN2CT7": dimension}, "termAttributes": {}}
    return {
        "product": {"sku": sku, "productFamily": "Compute Instance", "attributes": dict(attributes)},
        "serviceCode": "AmazonSageMaker",
        "terms": {"OnDemand": {f"{sku}.JRTCKXETXF": term}},
    }


def _page(key: str, items: list[Any], request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        start = int(request.get("NextToken") or 0)
    except ValueError as error:
        raise invalid("NextToken is none that was given.") from error
    answer: dict[str, Any] = {key: items[start : start + PAGE]}
    if start + PAGE < len(items):
        answer["NextToken"] = str(start + PAGE)
    return answer


def _listed(form: Mapping[str, str], name: str) -> list[str]:
    found = [(re.fullmatch(rf"{name}\.(\d+)", key), value) for key, value in form.items()]
    return [value for _, value in sorted((int(match[1]), value) for match, value in found if match)]


def _xml(action: str, key: str, items: Iterable[Mapping[str, str]]) -> str:
    rows = "".join(
        f"<item>{''.join(f'<{name}>{escape(value)}</{name}>' for name, value in item.items())}</item>" for item in items
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><{action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
        f"<requestId>{uuid.uuid4()}</requestId><{key}>{rows}</{key}></{action}Response>"
    )
