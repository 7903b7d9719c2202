"""Where new data may land: which buckets beside the installation's own a tenant's rules may name."""

from __future__ import annotations

from spotune.contracts.base import Contract


class SourceGrant(Contract):
    """A part of a bucket that the operator has opened to a tenant's rules. An empty prefix: the whole bucket."""

    tenant: str
    bucket: str
    prefix: str = ""

    def holds(self, bucket: str, key: str) -> bool:
        """True where an object of this bucket lies in the part."""
        return bucket == self.bucket and key.startswith(self.prefix)


def parse_grants(text: str) -> tuple[SourceGrant, ...]:
    """The template's parameter `SourceTenants`: `tenant=bucket[/prefix]` with commas between; a prefix ends at a slash.

    Raises:
        ValueError: an entry that names no tenant or no bucket.
    """
    return tuple(_grant(entry.strip()) for entry in text.split(",") if entry.strip())


def _grant(entry: str) -> SourceGrant:
    tenant, _, place = entry.partition("=")
    bucket, _, prefix = place.partition("/")
    if not tenant or not bucket:
        raise ValueError(f"{entry!r} in SourceTenants is not tenant=bucket or tenant=bucket/prefix")
    # `acme=logs/a` opens logs/a/, and not logs/abc/.
    return SourceGrant(tenant=tenant, bucket=bucket, prefix=f"{prefix.rstrip('/')}/" if prefix.strip("/") else "")
