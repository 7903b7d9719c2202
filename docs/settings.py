"""Writes docs/settings.md from the code: every setting of an installation, its default and its meaning.

python docs/settings.py            write it
python docs/settings.py --check    exit 1 where it is out of date
"""

from __future__ import annotations

import json
import sys

from pages import keep

from spotune.deploy.settings import FILE, Setting, settings_listed

HEAD = f"""# Settings of an installation

Made from the code by `python docs/settings.py`; `make check` refuses a page that is out of date. They stand in
`{FILE}`, which `spotune deploy --init` writes ([deploying](deploying.md)). An unknown or wrong one is refused
with its line. A name with a dot is a field of a group. The last column is the parameter of `infra/template.yaml` that
it becomes.

| setting | default | meaning | parameter |
|---|---|---|---|
"""


def page() -> str:
    """The page's text."""
    return HEAD + "".join(f"{_row(setting)}\n" for setting in settings_listed())


def _row(setting: Setting) -> str:
    meaning = setting.description.replace("|", "\\|")
    parameter = f"`{setting.parameter}`" if setting.parameter else ""
    return f"| `{setting.name}` | {_default(setting)} | {meaning} | {parameter} |"


def _default(setting: Setting) -> str:
    if setting.group:
        return ""
    if setting.required:
        return "required"
    return "none" if setting.default is None else f"`{json.dumps(setting.default)}`"


if __name__ == "__main__":
    sys.exit(keep(__file__, page()))
