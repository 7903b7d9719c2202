"""What the API takes and answers of model groups and their versions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from spotune.contracts.base import Contract
from spotune.contracts.models import ChampionChange, Lineage, ModelFile, StatusChange, VersionStatus
from spotune.contracts.scores import Comparison, Metric, Scores
from spotune.contracts.verdict import Verdict

Why = Annotated[str, Field(max_length=500)]
Number = Annotated[int, Field(ge=1)]


class ChampionDetails(Contract):
    """A group's champion: its files lie at `uri`."""

    version: int
    model: str
    uri: str


class ModelGroupObject(Contract):
    """A group of tuned models that compete for one place."""

    id: str
    """The group's name."""
    object: Literal["model_group"] = "model_group"
    created_at: int
    champion: ChampionDetails | None
    versions: int
    """How many were registered; it is the number of the last."""
    history: tuple[ChampionChange, ...]
    """The newest 100 changes of the champion, oldest first."""


class ModelVersionObject(Contract):
    """One tuned model of a group."""

    id: str
    """The model's name, `ft:...`."""
    object: Literal["model_version"] = "model_version"
    group: str
    version: int
    status: VersionStatus
    champion: bool
    created_at: int
    uri: str
    files: tuple[ModelFile, ...]
    scores: Scores
    comparisons: tuple[Comparison, ...]
    against_champion: tuple[Comparison, ...]
    verdict: Verdict
    lineage: Lineage
    history: tuple[StatusChange, ...]
    package_arn: str | None


class VersionFile(Contract):
    """One file of a version, to be read until its URL ends."""

    id: str
    """Its name, relative to the version's folder."""
    bytes: int
    sha256: str | None
    """What it hashed to when the version was registered; None where it was too large to be read then."""
    url: str


class VersionFilesObject(Contract):
    """What a version consists of. GET each from its `url`, whole or in ranges."""

    object: Literal["model_version.files"] = "model_version.files"
    model: str
    files: tuple[VersionFile, ...]
    expires_at: int


class Judgement(Contract):
    """Why a person approves, rejects or deprecates a version."""

    why: Why = ""


class Promotion(Judgement):
    """Which version becomes champion, and why."""

    version: Number


class Rollback(Judgement):
    """Away from which champion, and why."""

    champion: Number | None = None
    """The version that is champion now: asked for twice, the second time changes nothing. None: whichever it is."""


class MetricDifference(Contract):
    """One metric of two versions. `difference` is `b` - `a`."""

    metric: Metric
    a: float
    b: float
    difference: float
    low: float | None = None
    high: float | None = None
    """95 % interval of the difference, where one of the two was judged against the other on the same rows."""
    better: Literal["a", "b"] | None
    """None where the two are equal, or the interval holds 0."""


class VersionComparison(Contract):
    """Two versions of a group, metric by metric."""

    object: Literal["model_comparison"] = "model_comparison"
    group: str
    a: str
    b: str
    same_rows: bool
    """Both were scored on the same held-out rows; where not, differences may come from the rows."""
    metrics: tuple[MetricDifference, ...]


class DeletedModelObject(Contract):
    """OpenAI's answer to the deletion of a model."""

    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True
