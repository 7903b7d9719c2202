"""MLflow: any server by its address, SageMaker's managed one by its ARN (through the plugin sagemaker-mlflow)."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from itertools import islice
from urllib.parse import urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from spotune.contracts.training import TrackerConfig
from training_container.trackers.tracker import Ending, Point, RunFacts, TrackerUnusable

METRICS_A_CALL, PARAMETERS_A_CALL = 1000, 100
"""Limits of MLflow's log-batch."""

PARAMETER_CHARACTERS = 500
"""What every version of the server takes."""

STATUS = {"published": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""The sender tries again by itself. A redirection would lead past the check of the server's address."""


class MLflowRun:
    """Fulfils `Tracker`. The run is found again by the tag that holds the job's id.

    MLflow keeps every point it is sent, so steps that the server has are not sent again.
    """

    def __init__(self, config: TrackerConfig, secret: str | None, facts: RunFacts) -> None:
        if config.server is None:
            raise TrackerUnusable("the config names no tracking server")
        os.environ.update(PATIENCE | _credentials(secret))
        _settle_plugin(config.server)
        self._server = config.server
        self._client = MlflowClient(tracking_uri=config.server)
        experiment = self._experiment(config.project or "spotune")
        found = self._find(experiment, facts)
        self._run = found or self._create(experiment, config, facts)
        self._id = self._run.info.run_id
        self._reached = {name: self._last_step(name) for name in self._run.data.metrics} if found else {}
        if found:
            self._client.update_run(self._id, status="RUNNING")
        self._describe(facts)

    def log(self, points: Sequence[Point]) -> None:
        """See `Tracker`."""
        metrics = iter(
            Metric(name, value, round(point.at * 1000), point.step)
            for point in points
            for name, value in point.values.items()
            if point.step > self._reached.get(name, -1)
        )
        while batch := list(islice(metrics, METRICS_A_CALL)):
            self._client.log_batch(self._id, metrics=batch)
            self._reached |= {metric.key: metric.step for metric in batch}

    def finish(self, ending: Ending) -> None:
        """See `Tracker`."""
        for name, value in ending.scores.items():
            self._client.log_metric(self._id, name, value)
        self._client.set_terminated(self._id, status=STATUS[ending.how])
        if ending.files:
            store = _artefacts(self._server, self._run.info.artifact_uri)
            for path in ending.files:
                store.log_artifact(str(path))  # type: ignore[no-untyped-call]

    def _experiment(self, name: str) -> str:
        """Its id; another run may make it at the same time."""
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _find(self, experiment: str, facts: RunFacts) -> Run | None:
        """This job's run; the first of two where an answer to its making was lost."""
        mine = f"tags.`spotune.job_id` = '{facts.config.job_id}'"
        runs = self._client.search_runs([experiment], mine, max_results=1, order_by=["attributes.start_time ASC"])
        return runs[0] if runs else None

    def _create(self, experiment: str, config: TrackerConfig, facts: RunFacts) -> Run:
        tags = facts.tags | dict.fromkeys(config.tags, "")
        return self._client.create_run(experiment, run_name=config.name or facts.config.job_id, tags=tags)

    def _describe(self, facts: RunFacts) -> None:
        """Parameters can be set once: those that are there already stay, such as an earlier process's time limit."""
        parameters = iter(
            Param(name, str(value)[:PARAMETER_CHARACTERS])
            for name, value in facts.parameters.items()
            if name not in self._run.data.params
        )
        while batch := list(islice(parameters, PARAMETERS_A_CALL)):
            self._client.log_batch(self._id, params=batch)

    def _last_step(self, metric: str) -> int:
        return max((point.step for point in self._client.get_metric_history(self._id, metric)), default=-1)


def _artefacts(server: str, address: str) -> ArtifactRepository:
    """Where the run's files go: through the server, or into the bucket of SageMaker's managed one.

    A server of a tenant's own may name any address. Written to with the training role, one in S3 could be another
    tenant's results, and one of a file this machine's; so it is asked once, and taken at its word no further.

    Raises:
        TrackerUnusable: the address is neither.
    """
    parts = urlsplit(address)
    through_the_server = parts.scheme == "mlflow-artifacts" and not parts.netloc
    if not through_the_server and not (server.startswith("arn:") and parts.scheme == "s3"):
        raise TrackerUnusable(
            f"artefacts were not sent: the server keeps them at {address}, not behind itself (mlflow-artifacts:/)"
        )
    return get_artifact_repository(address, tracking_uri=server)


def _settle_plugin(server: str) -> None:
    """SageMaker's plugin takes the server that it routes to from this global; for other servers it warns each call."""
    mlflow.set_tracking_uri(server)
    if not server.startswith("arn:"):
        logging.getLogger("mlflow.tracking.request_header.registry").setLevel(logging.ERROR)


def _credentials(secret: str | None) -> dict[str, str]:
    """A token, or a JSON object with `username` and `password`; MLflow reads either from the environment."""
    if secret is None:
        return {}
    if secret.startswith("{"):
        pair = json.loads(secret)
        return {"MLFLOW_TRACKING_USERNAME": pair["username"], "MLFLOW_TRACKING_PASSWORD": pair["password"]}
    return {"MLFLOW_TRACKING_TOKEN": secret}
