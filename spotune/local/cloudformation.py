"""Two things that ministack's CloudFormation has mended here, in the process that it runs in.

It takes every condition that asks whether a list parameter is empty for true: CloudFormation's way to ask is
`Fn::Join`, which ministack does not evaluate there. Embedded mode would deploy what is only there for further regions,
tenants, subnets and buckets that nobody named.

And it reads templates with the YAML parser that is written in Python, which took half of its time in a deployment.
"""

from __future__ import annotations

from typing import Any

import yaml


def mend() -> None:
    """Let conditions join lists, and templates be read by the parser in C."""
    from ministack.services.cloudformation import changesets, engine, handlers, stacks

    evaluate = engine._evaluate_conditions

    def evaluated(template: dict[str, Any], params: dict[str, Any]) -> dict[str, bool]:
        conditions = joined(template.get("Conditions", {}), params)
        found: dict[str, bool] = evaluate({**template, "Conditions": conditions}, params)
        return found

    for module in (changesets, engine, handlers, stacks):
        module._evaluate_conditions = evaluated
    engine.CfnLoader = in_c(engine.CfnLoader)


def in_c(loader: type[yaml.SafeLoader]) -> type[yaml.CSafeLoader]:
    """The parser in C that makes of YAML what this one does."""
    constructors = {"yaml_constructors": loader.yaml_constructors}
    return type(f"C{loader.__name__}", (yaml.CSafeLoader,), constructors)


def joined(value: Any, params: dict[str, Any]) -> Any:
    """A condition with the text in the place of each `Fn::Join` of a list parameter, or of literals."""
    if isinstance(value, list):
        return [joined(one, params) for one in value]
    if not isinstance(value, dict):
        return value
    if "Fn::Join" not in value:
        return {key: joined(one, params) for key, one in value.items()}
    delimiter, members = value["Fn::Join"]
    if isinstance(members, dict) and "Ref" in members:
        members = params[members["Ref"]]["Value"].split(",")
    return str(delimiter).join(members)
