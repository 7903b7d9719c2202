"""The API's calls about model groups."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from spotune.cli.client import Api, read_answer
from spotune.contracts.api import ListObject
from spotune.contracts.registry import (
    DeletedModelObject,
    Judgement,
    ModelGroupObject,
    ModelVersionObject,
    Promotion,
    Rollback,
    VersionComparison,
    VersionFilesObject,
)

GROUPS = "model_groups"


class ModelApi(Api):
    """One connection to the API. What is asked for is a state, not a step, so that each call may be sent again."""

    def groups(self) -> Iterator[ModelGroupObject]:
        """All groups, by name."""
        after: str | None = None
        while True:
            asked: dict[str, str | int] = {"limit": 100, **({"after": after} if after else {})}
            page = read_answer(ListObject[ModelGroupObject], self._get(GROUPS, asked))
            yield from page.data
            if not page.has_more:
                return
            after = page.last_id

    def group(self, group: str) -> ModelGroupObject:
        """One group with its champion."""
        return read_answer(ModelGroupObject, self._get(_path(group)))

    def versions(self, group: str) -> Iterator[ModelVersionObject]:
        """All versions of a group, newest first."""
        after: str | None = None
        while True:
            asked: dict[str, str | int] = {"limit": 100, **({"after": after} if after else {})}
            page = read_answer(ListObject[ModelVersionObject], self._get(f"{_path(group)}/versions", asked))
            yield from page.data
            if not page.has_more:
                return
            after = page.last_id

    def version(self, group: str, number: int) -> ModelVersionObject:
        """One version."""
        return read_answer(ModelVersionObject, self._get(f"{_path(group)}/versions/{number}"))

    def files(self, group: str, number: int) -> VersionFilesObject:
        """A version's files, with URLs to read them from."""
        return read_answer(VersionFilesObject, self._get(f"{_path(group)}/versions/{number}/files"))

    def compare(self, group: str, a: int, b: int) -> VersionComparison:
        """Two versions, metric by metric."""
        return read_answer(VersionComparison, self._get(f"{_path(group)}/compare", {"a": a, "b": b}))

    def promote(self, group: str, request: Promotion) -> ModelGroupObject:
        """Make a version the champion."""
        body = request.model_dump(mode="json")
        return read_answer(ModelGroupObject, self._send(self._post(f"{_path(group)}/promote", body), repeat=True))

    def roll_back(self, group: str, request: Rollback) -> ModelGroupObject:
        """Go back to the champion before the one that the request names."""
        request_ = self._post(f"{_path(group)}/rollback", request.model_dump(mode="json"))
        return read_answer(ModelGroupObject, self._send(request_, repeat=request.champion is not None))

    def judge(self, group: str, number: int, what: str, request: Judgement) -> ModelVersionObject:
        """`approve`, `reject` or `deprecate` a version."""
        path, body = f"{_path(group)}/versions/{number}/{what}", request.model_dump(mode="json")
        return read_answer(ModelVersionObject, self._send(self._post(path, body), repeat=True))

    def delete_model(self, model: str) -> DeletedModelObject:
        """Delete a registered model's files."""
        request = self._http.build_request("DELETE", f"models/{quote(model, safe=':/')}")
        return read_answer(DeletedModelObject, self._send(request))


def _path(group: str) -> str:
    return f"{GROUPS}/{quote(group, safe='')}"
