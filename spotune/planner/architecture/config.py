"""`config.json`, with the checks that make a wrong one a refusal instead of a wrong plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spotune.contracts.errors import RequestRefused

LARGEST = 10**9
"""No size in a config is larger; a wrong one would only make wrong plans."""


@dataclass(frozen=True, slots=True)
class Config:
    """The facts of one model."""

    family: str
    values: Mapping[str, object]

    def count(self, *keys: str, default: int | None = None) -> int:
        """A positive whole number under the first of these keys that is present."""
        for key in keys:
            value = self.values.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
                raise self.refusal(f"has {key} = {value!r}, which must be a whole number above zero")
            return value
        if default is None:
            raise self.refusal(f"lacks `{keys[0]}`")
        return default

    def flag(self, key: str, *, default: bool) -> bool:
        """A boolean, as the family defaults it."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refusal(f"has {key} = {value!r}, which must be true or false")
        return value

    def numbers(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers, empty where it is missing."""
        value = self.values.get(key) or []
        if not isinstance(value, (list, tuple)) or not all(isinstance(one, int) for one in value):
            raise self.refusal(f"has {key} = {value!r}, which must be a list of whole numbers")
        return tuple(value)

    def part(self, key: str) -> Config:
        """The config of a part of the model, such as the language model of one that sees."""
        value = self.values.get(key)
        if not isinstance(value, Mapping) or not value:
            raise self.refusal(f"lacks the object `{key}`")
        return Config(self.family, value)

    def refusal(self, what: str) -> RequestRefused:
        """The error of a config that cannot be counted."""
        return RequestRefused(
            f"The model's config.json ({self.family}) {what}: its parameters cannot be counted.",
            code="unknown_architecture",
            param="model",
            remedy="Take the config.json that came with the weights.",
        )
