"""The API in this process, for the commands of the documents."""

from __future__ import annotations

from tests.cli.conftest import home, run, service

__all__ = ["home", "run", "service"]
