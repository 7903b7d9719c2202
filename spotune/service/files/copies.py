"""What further regions hold of a tenant's files."""

from __future__ import annotations

from spotune.contracts import layout
from spotune.service.installation import Installation


def delete_copies(here: Installation, tenant: str, uri: str) -> None:
    """Delete what further regions hold of a tenant's file."""
    for place in here.further:
        for copy in tuple(here.objects.list(layout.copies_uri(place.data_bucket, tenant, uri))):
            here.objects.delete(copy.uri)
