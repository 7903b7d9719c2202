"""The templates: where they lie, and what stands in them, read as CloudFormation reads YAML."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Literal

import yaml

import infra

_FOLDER = Path(infra.__file__).parent
INSTALLATION = _FOLDER / "template.yaml"
REGION = _FOLDER / "region.yaml"
CODE = _FOLDER / "code.yaml"

Policy = Literal["DeletionPolicy", "UpdateReplacePolicy"]

_WORD = re.compile(r"\w+")
_OTHER = re.compile(r"[^A-Za-z0-9]")


class _Loader(yaml.CSafeLoader):
    """YAML with CloudFormation's short forms (`!Ref x`), which become the long ones (`{"Ref": "x"}`)."""


def _long_form(loader: yaml.CSafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    match node:
        case yaml.ScalarNode():
            value: Any = loader.construct_scalar(node)
            return {name: value.split(".", 1) if suffix == "GetAtt" else value}
        case yaml.SequenceNode():
            return {name: loader.construct_sequence(node, deep=True)}
        case yaml.MappingNode():
            return {name: loader.construct_mapping(node, deep=True)}
    raise TypeError(f"a YAML node of kind {type(node).__name__}")


_Loader.add_multi_constructor("!", _long_form)


def read(path: Path) -> dict[str, Any]:
    """A template as a document of plain values."""
    return parsed(path.read_text())


def parsed(text: str) -> dict[str, Any]:
    """A template's text, YAML or JSON, as a document of plain values."""
    return dict(yaml.load(text, _Loader))  # noqa: S506 - a SafeLoader with short forms


def keeps(template: Mapping[str, Any], name: str, policy: Policy) -> bool:
    """True where what this resource holds outlives it: nobody can make it again."""
    return template.get("Resources", {}).get(name, {}).get(policy) in ("Retain", "RetainExceptOnCreate")


def types(template: Mapping[str, Any], parameters: Mapping[str, str]) -> dict[str, str]:
    """The type of each resource by its name, those that its loops make of these parameters among them."""
    found: dict[str, str] = {}
    for name, entry in template["Resources"].items():
        if name.startswith("Fn::ForEach::"):
            found |= _made_by(entry, parameters)
        else:
            found[name] = entry["Type"]
    return found


def _made_by(loop: Sequence[Any], parameters: Mapping[str, str]) -> dict[str, str]:
    """A name takes letters and digits alone of what stands for the loop's variable, as CloudFormation has it."""
    variable, over, body = loop
    given = filter(None, parameters[over["Ref"]].split(","))
    return {
        name.replace(f"&{{{variable}}}", _OTHER.sub("", value)): entry["Type"]
        for value in given
        for name, entry in body.items()
    }


def name_of(path: Path) -> str:
    """What a template is called in the code bucket: other contents have another name."""
    return f"{path.stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}{path.suffix}"


def taking_over(template: Mapping[str, Any], names: Collection[str]) -> str:
    """The part of a template that an import may hold: these resources alone, with what they need, as JSON.

    A property that names any other resource is left out; the update that follows puts it there.
    """
    strangers = template["Resources"].keys() - set(names)
    resources = {name: _without(strangers, template["Resources"][name]) for name in names}
    kept = {key: template[key] for key in ("AWSTemplateFormatVersion", "Parameters", "Conditions") if key in template}
    return json.dumps(kept | {"Resources": resources})


def _without(strangers: Set[str], resource: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in resource.items() if key not in ("DependsOn", "Properties")}
    properties = resource.get("Properties", {})
    known = {key: value for key, value in properties.items() if not strangers & set(_WORD.findall(json.dumps(value)))}
    return kept | {"Properties": known}
