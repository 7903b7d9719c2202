"""Whether a list parameter of a template is empty: ministack takes every such condition for true.

CloudFormation's way to ask is `Fn::Join` in a condition, which ministack does not evaluate. Without this, embedded mode
would deploy what is only there for further regions, tenants, subnets and buckets that nobody named.
"""

from __future__ import annotations

from typing import Any


def mend_conditions() -> None:
    """Let conditions join lists, in this process's ministack."""
    from ministack.services.cloudformation import changesets, engine, handlers, stacks

    evaluate = engine._evaluate_conditions

    def evaluated(template: dict[str, Any], params: dict[str, Any]) -> dict[str, bool]:
        conditions = joined(template.get("Conditions", {}), params)
        found: dict[str, bool] = evaluate({**template, "Conditions": conditions}, params)
        return found

    for module in (changesets, engine, handlers, stacks):
        module._evaluate_conditions = evaluated


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
