"""Integrations of a request, as the container is told of them."""

from __future__ import annotations

from spotune.contracts.request import Integration, JobRequest
from spotune.contracts.training import TrackerConfig


def tracker_configs(request: JobRequest) -> tuple[TrackerConfig, ...]:
    """One for each integration, in the same order. Secrets stay names."""
    return tuple(map(_tracker_config, request.integrations or ()))


def isolation_reason(trackers: tuple[TrackerConfig, ...]) -> str:
    """Why the container runs without network isolation; empty where it runs with it."""
    online = sorted({tracker.type for tracker in trackers if tracker.online})
    return f"{' and '.join(online)} cannot be reached from an isolated container" if online else ""


def _tracker_config(integration: Integration) -> TrackerConfig:
    if integration.wandb is not None:
        chosen = integration.wandb
        return TrackerConfig(
            type="wandb",
            server=chosen.server,
            project=chosen.project,
            entity=chosen.entity,
            name=chosen.name,
            tags=chosen.tags,
            secret=chosen.secret,
        )
    if integration.mlflow is not None:
        server = integration.mlflow
        return TrackerConfig(
            type="mlflow",
            server=server.tracking_uri,
            project=server.experiment,
            name=server.name,
            tags=server.tags,
            secret=server.secret,
        )
    return TrackerConfig(type="tensorboard")
