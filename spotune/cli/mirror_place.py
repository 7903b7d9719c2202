"""Which models bucket the commands are about: that of the settings file, else of embedded mode on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spotune.cli.settings_file import DEFAULT_FILE, read_settings
from spotune.contracts.errors import NotFound, Unavailable
from spotune.deploy.account import Account, call
from spotune.deploy.installation import Installation
from spotune.local.deployment import client
from spotune.local.state import StackState, default_home, read_state
from spotune.mirror.bucket import ModelsBucket


@dataclass(frozen=True, slots=True)
class Place:
    """An installation, as whoever keeps its base models sees it."""

    name: str
    bucket: ModelsBucket
    sagemaker: Any
    """boto3's client."""
    sts: Any
    """boto3's client."""

    @property
    def caller(self) -> str:
        """The ARN that AWS knows these credentials by.

        Raises:
            NotAuthenticated: it knows none.
        """
        return str(call(self.sts.get_caller_identity)["Arn"])


def find_place(settings: Path) -> Place:
    """The installation that the settings file is of; embedded mode where the default file is not there.

    Raises:
        NotFound: the file is not there, or what it is of is not deployed.
        Unavailable: there is no embedded mode either.
    """
    if settings == DEFAULT_FILE and not settings.exists():
        state = read_state(default_home())
        if state is None:
            raise Unavailable(
                f"There is no {DEFAULT_FILE} here, and embedded mode was never started.",
                code="installation_not_found",
                remedy="Name the settings of an installation with --settings, or start embedded mode: spotune up",
            )
        return _embedded(state)
    return _deployed(settings)


def _embedded(state: StackState) -> Place:
    return Place(
        name="embedded mode",
        bucket=ModelsBucket(client("s3", state.emulator_url), state.models_bucket),
        sagemaker=client("sagemaker", state.double_url),
        sts=client("sts", state.emulator_url),
    )


def _deployed(path: Path) -> Place:
    settings = read_settings(path)
    account = Account(settings.region)
    installation = Installation(account, settings)
    bucket = installation.home.outputs().get("MirrorBucket")
    if bucket is None:
        raise NotFound(
            f"{installation.stage} is not deployed in {settings.region}.",
            code="not_deployed",
            remedy="Run `spotune deploy` first.",
        )
    return Place(
        name=f"{installation.stage} in {settings.region}",
        bucket=ModelsBucket(account.client("s3"), bucket),
        sagemaker=account.client("sagemaker"),
        sts=account.client("sts"),
    )
