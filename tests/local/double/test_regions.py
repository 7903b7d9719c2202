"""One double, several regions: each has its own training jobs, market, buckets and events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spotune.local.double.faults import ServiceError
from spotune.local.double.market import Market
from spotune.local.double.quotas import Quotas
from spotune.local.double.regions import Region, Regions, state_folder


def make(name: str) -> Region:
    double: Any = type("Fake", (), {"jobs": lambda self: [type("Job", (), {"name": f"job-of-{name}"})()]})()
    return Region(name, double, Market(name, Quotas()))


def signed(region: str) -> str:
    return f"AWS4-HMAC-SHA256 Credential=test/20261125/{region}/sagemaker/aws4_request, SignedHeaders=host, Signature=0"


def test_a_request_is_answered_in_the_region_that_it_is_signed_for(tmp_path: Path) -> None:
    regions = Regions("us-east-1", make, tmp_path)
    assert regions.of(signed("eu-west-1")).name == "eu-west-1"
    assert regions.of(signed("eu-west-1")) is regions.named("eu-west-1")
    assert regions.of("").name == regions.of("Bearer x").name == "us-east-1"
    assert [one.name for one in regions] == ["us-east-1", "eu-west-1"]


def test_a_job_is_found_in_whatever_region_it_is(tmp_path: Path) -> None:
    regions = Regions("us-east-1", make, tmp_path)
    regions.named("eu-west-1")
    assert regions.with_job("job-of-eu-west-1").name == "eu-west-1"
    assert regions.with_job("nobodys").name == "us-east-1"


def test_regions_that_hold_jobs_are_taken_up_again(tmp_path: Path) -> None:
    for region in ("us-east-1", "ap-south-1"):
        state_folder(tmp_path, "us-east-1", region).mkdir()
    assert [one.name for one in Regions("us-east-1", make, tmp_path)] == ["us-east-1", "ap-south-1"]


@pytest.mark.parametrize("name", ["../../etc", "mars", "", "us-east-1/x"])
def test_what_is_no_region_makes_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(ServiceError):
        Regions("us-east-1", make, tmp_path).named(name)
