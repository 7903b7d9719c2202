"""Spotune's own secrets, for detect-secrets: API keys and webhooks' signing secrets, as they are issued."""

from __future__ import annotations

import re

from detect_secrets.plugins.base import RegexBasedDetector


class SpotuneKeyDetector(RegexBasedDetector):  # type: ignore[misc]  # it is installed with the scanners alone
    """Finds what opens an installation or signs for one."""

    secret_type = "Spotune key"  # noqa: S105 - the name of a kind
    denylist = (re.compile(r"sk-spotune-[A-Za-z0-9_-]{43}"), re.compile(r"whsec_[A-Za-z0-9+/]{40,}={0,2}"))
