"""What every contract is built on: strict, immutable models and the units they count in."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MicroUSD = Annotated[int, Field(ge=0)]
"""Money: whole micro-dollars, so that sums are exact."""

Seconds = Annotated[int, Field(ge=0)]
Timestamp = Annotated[float, Field(ge=0)]
"""Seconds since the epoch, as every clock of the project counts."""

Fraction = Annotated[float, Field(ge=0, le=1)]

MICRO = 1_000_000


class Contract(BaseModel):
    """Base of whatever crosses a boundary: unknown fields are refused, values do not change.

    What does not validate is named by its field alone: its value may be a row of a dataset, and the message is logged.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, defer_build=True, protected_namespaces=(), hide_input_in_errors=True
    )

    def with_(self, **changes: object) -> Self:
        """A copy with these fields replaced, validated anew."""
        return type(self).model_validate({**dict(self), **changes})


class Interval(Contract):
    """An estimate with its 5 % and 95 % quantiles."""

    low: float
    mid: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.mid <= self.high:
            raise ValueError(f"an interval needs low <= mid <= high, not {self.low}, {self.mid}, {self.high}")
        return self


def dollars(amount: MicroUSD) -> str:
    """Micro-dollars as a person reads them: four decimals below a dollar, two above."""
    value = amount / MICRO
    return f"${value:,.4f}" if value < 1 else f"${value:,.2f}"
