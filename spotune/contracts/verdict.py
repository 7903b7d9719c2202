"""What a gate says of a tuned model: its verdict, and the table that it stands on."""

from __future__ import annotations

from typing import Literal

from spotune.contracts.base import Contract

GateDecision = Literal["promote", "hold", "reject"]
"""It replaces the champion; a person decides; it does not."""


class Condition(Contract):
    """One line of the table."""

    name: str
    """The gate's field, e.g. `better_than_champion`."""
    subject: str = ""
    """The slice or the prompt that it is about; empty: all rows."""
    wanted: str
    measured: str
    met: bool | None
    """None where a person decides: it could not be measured, it costs more than was allowed, or it asks for one."""


class Verdict(Contract):
    """The gate's verdict on one tuned model: a condition that is not met rejects; one that a person decides holds."""

    decision: GateDecision
    conditions: tuple[Condition, ...]
    champion: str | None = None
    """The model that it was compared with; None where the group had none."""
    reason: str
    """In a sentence."""
