"""From the word of the config to an open run. A tracker's library is imported here, and only where it is named."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from spotune.contracts.addresses import ANYWHERE, forbidden
from spotune.contracts.training import TrackerConfig
from training_container.trackers.tracker import RunFacts, Tracker, TrackerUnusable


def secret_of(config: TrackerConfig) -> str | None:
    """The tracker's key; None where the config names none.

    Raises:
        TrackerUnusable: it cannot be read.
        Exception: Secrets Manager does not answer now.
    """
    if config.secret is None:
        return None
    from training_container.trackers.secrets import read_secret

    return read_secret(config.secret)


def connect(config: TrackerConfig, secret: str | None, facts: RunFacts) -> Tracker:
    """Open the run, a new one or the one that an earlier process of this job began.

    Raises:
        TrackerUnusable: its library is not in this image, or the config lacks what it needs.
        Exception: whatever the tracker raises.
    """
    _check_address(config.server)
    try:
        match config.type:
            case "mlflow":
                from training_container.trackers.mlflow import MLflowRun

                return MLflowRun(config, secret, facts)
            case "wandb":
                from training_container.trackers.wandb import WandbRun

                return WandbRun(config, secret, facts)
            case "tensorboard":
                from training_container.trackers.tensorboard import TensorBoardRun

                return TensorBoardRun(facts)
    except ModuleNotFoundError as error:
        raise TrackerUnusable(f"the image has no {error.name}") from error


def _check_address(server: str | None) -> None:
    """Never call the metadata services, whatever name they hide behind: an answer's words end up in the report."""
    host = urlsplit(server or "").hostname
    if host is None:
        return
    for *_, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
        if reason := forbidden(str(address[0]), ANYWHERE):
            raise TrackerUnusable(f"the address of {host} is {reason}")
