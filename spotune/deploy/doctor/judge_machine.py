"""Judges this machine: what a deployment from here needs. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from spotune.deploy.doctor.findings import Finding, ok, warn


def judge_endpoints(environment: Mapping[str, str]) -> Finding:
    """Whether it is AWS that answers: `AWS_ENDPOINT_URL` leads elsewhere."""
    set_ = sorted(name for name in environment if name.startswith("AWS_ENDPOINT_URL") and environment[name])
    if not set_ or environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return ok("endpoints", "AWS's own.")
    led = ", ".join(f"{name}={environment[name]}" for name in set_)
    return warn("endpoints", f"What follows is said of something else than AWS: {led}", f"`unset {' '.join(set_)}`")


def judge_installer(found: bool) -> Finding:
    """Whether the Lambda bundle can be made here, of what is built for Lambda's Python and processor."""
    if found:
        return ok("bundle", "pip or uv is there to fetch what runs in Lambda.")
    return warn("bundle", "There is neither pip nor uv to fetch what runs in Lambda.", "`python -m ensurepip`")
