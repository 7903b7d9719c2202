"""What an installation allows, whatever a request asks for. AWS holds to it too: see docs/permissions.md."""

from __future__ import annotations

from spotune.contracts.base import Contract, Seconds
from spotune.contracts.money import LONGEST_RUNTIME


class Bounds(Contract):
    """Of every training job."""

    instance_types: tuple[str, ...] = ()
    """All of the catalog where none is named."""
    longest: Seconds = LONGEST_RUNTIME
    """That one may run."""


UNBOUNDED = Bounds()
