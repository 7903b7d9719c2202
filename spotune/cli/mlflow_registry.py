"""A model group in MLflow's registry, by its REST API: versions with their lineage, and the alias `champion`.

What is there already is found by its tag, so that showing a group again changes what has changed and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from spotune.contracts.errors import NotAuthenticated, RequestRefused, Unavailable
from spotune.contracts.registry import ModelGroupObject, ModelVersionObject

ALIAS = "champion"
MODEL_TAG = "spotune.model"
STATUS_TAG = "spotune.status"
TIMEOUT = httpx.Timeout(30, connect=5)
LONGEST_VALUE = 5000
"""MLflow's, for a tag of a model version."""


class MLflowRegistry:
    """One MLflow server. Its credentials come from MLflow's own variables: MLFLOW_TRACKING_TOKEN, or _USERNAME and
    _PASSWORD.

    Raises, from every method: `Unavailable`, `NotAuthenticated` and `RequestRefused` (code `mlflow_refused`).
    """

    def __init__(self, server: str) -> None:
        if not server.startswith(("http://", "https://")):
            raise RequestRefused(
                f"{server!r} is no address of an MLflow server.",
                code="mlflow_address_invalid",
                param="server",
                remedy="Give its https address. SageMaker's managed MLflow, named by an ARN, takes signed calls only.",
            )
        token = os.environ.get("MLFLOW_TRACKING_TOKEN", "")
        pair = os.environ.get("MLFLOW_TRACKING_USERNAME", ""), os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
        self._server = server.rstrip("/")
        self._http = httpx.Client(
            base_url=f"{self._server}/api/2.0/mlflow/",
            headers={"Authorization": f"Bearer {token}"} if token else {},
            auth=pair if pair[0] and not token else None,
            timeout=TIMEOUT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def show(self, name: str, group: ModelGroupObject, versions: Iterable[ModelVersionObject]) -> dict[str, str]:
        """Show a group's versions, oldest first, and its champion; MLflow's version of each by the model's name."""
        self._make_model(name, group)
        known = {found["model"]: found for found in self._versions(name)}
        shown: dict[str, str] = {}
        for one in sorted(versions, key=lambda version: version.version):
            found = known.get(one.id)
            if found is not None:
                shown[one.id] = found["version"]
                if found["status"] != one.status:
                    self._tag(name, found["version"], STATUS_TAG, one.status)
            elif one.status != "deleted":
                shown[one.id] = self._make_version(name, one)
        if group.champion is not None and group.champion.model in shown:
            alias = {"name": name, "alias": ALIAS, "version": shown[group.champion.model]}
            self._post("registered-models/alias", alias)
        return shown

    def _make_model(self, name: str, group: ModelGroupObject) -> None:
        body = {"name": name, "description": f"Spotune's model group {group.id}."}
        self._post("registered-models/create", body, but="RESOURCE_ALREADY_EXISTS")

    def _make_version(self, name: str, version: ModelVersionObject) -> str:
        tags = [{"key": key, "value": value[:LONGEST_VALUE]} for key, value in _tags(version).items()]
        body = {"name": name, "source": version.uri, "tags": tags, "description": version.verdict.reason}
        return str(self._post("model-versions/create", body)["model_version"]["version"])

    def _tag(self, name: str, version: str, key: str, value: str) -> None:
        self._post("model-versions/set-tag", {"name": name, "version": version, "key": key, "value": value})

    def _versions(self, name: str) -> Iterator[dict[str, str]]:
        """Number, model and status of each of our versions that the server has."""
        quoted = name.replace("'", "''")
        asked = {"filter": f"name='{quoted}'", "max_results": "200"}
        while True:
            page = self._checked(self._call("GET", "model-versions/search", params=asked))
            for one in page.get("model_versions", []):
                tags = {tag["key"]: tag["value"] for tag in one.get("tags", [])}
                if MODEL_TAG in tags:
                    yield {
                        "version": str(one["version"]),
                        "model": tags[MODEL_TAG],
                        "status": tags.get(STATUS_TAG, ""),
                    }
            if not page.get("next_page_token"):
                return
            asked["page_token"] = page["next_page_token"]

    def _post(self, path: str, body: Mapping[str, object], *, but: str = "") -> dict[str, Any]:
        return self._checked(self._call("POST", path, json=dict(body)), but=but)

    def _call(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **more)
        except httpx.TransportError as error:
            raise self._away(str(error) or type(error).__name__) from error

    def _checked(self, response: httpx.Response, *, but: str = "") -> dict[str, Any]:
        """The answer's document; an error called `but` is none."""
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise self._away(f"it answers {response.status_code} without a document of MLflow's")
        if response.is_success or (but and document.get("error_code") == but):
            return document
        if response.status_code >= 500:
            raise self._away(str(document.get("message", response.status_code)))
        kind = NotAuthenticated if response.status_code in (401, 403) else RequestRefused
        raise kind(
            f"MLflow refuses: {document.get('message', response.status_code)}.",
            code="mlflow_refused",
            remedy="See MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and _PASSWORD."
            if kind is NotAuthenticated
            else "",
        )

    def _away(self, reason: str) -> Unavailable:
        return Unavailable(
            f"The MLflow server at {self._server} does not answer as one ({reason}).",
            code="mlflow_unreachable",
            remedy="Run the command where it can be reached; what is shown already stays, and is not shown twice.",
        )


def _tags(version: ModelVersionObject) -> dict[str, str]:
    made = version.lineage
    tags = {
        MODEL_TAG: version.id,
        STATUS_TAG: version.status,
        "spotune.version": str(version.version),
        "spotune.verdict": version.verdict.decision,
        "spotune.job_id": made.job_id,
        "spotune.base": made.base,
        "spotune.base_revision": made.base_revision,
        "spotune.parent": made.parent or "",
        "spotune.data_sha256": made.data_sha256,
        "spotune.manifest": made.manifest_uri or "",
        "spotune.config_sha256": made.config_sha256,
        "spotune.code": made.code,
        "spotune.image": made.image,
        "spotune.seed": str(made.seed),
        "spotune.eval_loss": f"{version.scores.eval_loss:.6g}",
    }
    return {key: value for key, value in tags.items() if value}
