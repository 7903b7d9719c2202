"""Whose data an object is, and which objects are our own results: asked when a rule is made, when an object arrives,
and when a dataset is built."""

from __future__ import annotations

from spotune.contracts.layout import split_uri
from spotune.service.installation import Installation

OWN_FOLDERS = ("rules", "files", "copies")
"""Of a tenant's folder in the data bucket: what the service itself writes there, and what people upload for single
jobs. A rule that watched them would be fired by its own datasets."""


def own_prefixes(here: Installation, tenant: str) -> tuple[str, ...]:
    """Beginnings of the URIs of what the service itself writes: nothing below them is ever new data."""
    buckets = {bucket for place in here.places for bucket in (place.artifacts_bucket, place.models_bucket)}
    buckets.add(here.settings.mirror_bucket)
    data = {place.data_bucket for place in here.places}
    folders = (f"s3://{bucket}/{tenant}/{folder}/" for bucket in sorted(data) for folder in OWN_FOLDERS)
    return (*(f"s3://{bucket}/" for bucket in sorted(buckets)), *folders)


def may_feed(here: Installation, tenant: str, uri: str) -> bool:
    """True where an object may be new data of this tenant's: it lies in its folder of the data bucket, or in a part of
    another bucket that is opened to it, and the service has not written it itself."""
    bucket, key = split_uri(uri)
    if bucket == here.settings.data_bucket:
        return key.startswith(f"{tenant}/") and not uri.startswith(own_prefixes(here, tenant))
    ours = {name for place in here.places for name in (place.data_bucket, place.artifacts_bucket, place.models_bucket)}
    ours.add(here.settings.mirror_bucket)
    return bucket not in ours and any(one.tenant == tenant and one.holds(bucket, key) for one in here.settings.sources)
