"""`doctor`: what an account and an installation lack."""

from __future__ import annotations

from rich.text import Text

from spotune.cli import blocks
from spotune.cli.deploy import bundle_cache
from spotune.cli.screen import JsonOption, Screen
from spotune.cli.settings_file import DEFAULT_FILE, SettingsOption, read_settings
from spotune.deploy import bundle, wheels
from spotune.deploy.doctor.examine import examine
from spotune.deploy.doctor.findings import Finding, Status, worst
from spotune.deploy.settings import Settings
from spotune.mirror.doctor import examine_hub

LACKING = 7
"""Exit code where a check failed."""

_STYLES: dict[Status, str] = {"ok": "green", "warn": "yellow", "fail": "bold red", "unknown": "dim"}


def doctor(settings: SettingsOption = DEFAULT_FILE, json: JsonOption = False) -> int:
    """Check the AWS account and what is deployed in it: credentials, quotas, image, models, alarms; and the hub.

    Changes nothing.

    Exits 7 where a check failed; warnings and what could not be looked at do not count.
    """
    screen = Screen(machine=json)
    wanted = read_settings(settings)
    found = (*examine(wanted, code=_code(wanted)), *examine_hub())
    state = worst(found)
    screen.emit({"status": state, "checks": [one.model_dump(mode="json") for one in found]})
    listed = blocks.table("", "check", "how it stands")
    for one in found:
        blocks.add_row(listed, Text(one.status, style=_STYLES[one.status]), one.check, _words(one))
    screen.show(listed)
    screen.say(_summary(found))
    return LACKING if state == "fail" else 0


def _code(settings: Settings) -> str | None:
    """What `deploy` would call its code; None before this machine has deployed."""
    packages = wheels.packages_at_hand(bundle_cache(), settings.python, settings.architecture)
    return None if packages is None else bundle.BundleSources.installed(packages).name


def _words(finding: Finding) -> Text:
    words = Text(finding.says)
    if finding.remedy:
        words.append("\n" + finding.remedy, style="cyan")
    return words


def _summary(found: tuple[Finding, ...]) -> str:
    counts = {status: sum(one.status == status for one in found) for status in _STYLES}
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count)
