"""Templates and their conditions as CloudFormation reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ministack.services.cloudformation import engine

from spotune.deploy import templates
from spotune.local.cloudformation import in_c, joined

IS_NAMED = {"Fn::Not": [{"Fn::Equals": [{"Fn::Join": ["", {"Ref": "Tenants"}]}, ""]}]}


@pytest.mark.parametrize(("value", "text"), [("", ""), ("acme", "acme"), ("acme,globex", "acmeglobex")])
def test_a_joined_list_parameter_is_its_text(value: str, text: str) -> None:
    found = joined(IS_NAMED, {"Tenants": {"Value": value}})
    assert found == {"Fn::Not": [{"Fn::Equals": [text, ""]}]}


def test_literals_are_joined_and_the_rest_is_left_as_it_is() -> None:
    condition = {"Fn::Or": [{"Condition": "Other"}, {"Fn::Equals": [{"Fn::Join": ["-", ["a", "b"]]}, "a-b"]}]}
    assert joined(condition, {}) == {"Fn::Or": [{"Condition": "Other"}, {"Fn::Equals": ["a-b", "a-b"]}]}


@pytest.mark.parametrize("path", [templates.INSTALLATION, templates.REGION, templates.CODE], ids=lambda path: path.name)
def test_the_parser_in_c_makes_the_same_of_a_template(path: Path) -> None:
    text = path.read_text()
    assert "!GetAtt" in text or "!Sub" in text
    assert yaml.load(text, in_c(engine.CfnLoader)) == yaml.load(text, engine.CfnLoader)


def test_a_date_stays_the_text_that_it_is() -> None:
    assert yaml.load("Version: 2012-10-17", in_c(engine.CfnLoader)) == {"Version": "2012-10-17"}
