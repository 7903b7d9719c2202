"""Conditions of a template as CloudFormation reads them."""

from __future__ import annotations

import pytest

from spotune.local.conditions import joined

IS_NAMED = {"Fn::Not": [{"Fn::Equals": [{"Fn::Join": ["", {"Ref": "Tenants"}]}, ""]}]}


@pytest.mark.parametrize(("value", "text"), [("", ""), ("acme", "acme"), ("acme,globex", "acmeglobex")])
def test_a_joined_list_parameter_is_its_text(value: str, text: str) -> None:
    found = joined(IS_NAMED, {"Tenants": {"Value": value}})
    assert found == {"Fn::Not": [{"Fn::Equals": [text, ""]}]}


def test_literals_are_joined_and_the_rest_is_left_as_it_is() -> None:
    condition = {"Fn::Or": [{"Condition": "Other"}, {"Fn::Equals": [{"Fn::Join": ["-", ["a", "b"]]}, "a-b"]}]}
    assert joined(condition, {}) == {"Fn::Or": [{"Condition": "Other"}, {"Fn::Equals": ["a-b", "a-b"]}]}
