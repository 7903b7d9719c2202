"""The registry: groups of tuned models, their versions, and which of them is the champion."""

from __future__ import annotations

from typing import Literal

from spotune.contracts.base import Contract, MicroUSD, Timestamp
from spotune.contracts.request import Method
from spotune.contracts.scores import Comparison, Scores
from spotune.contracts.verdict import Verdict

VersionStatus = Literal["awaiting_approval", "champion", "former", "passed", "rejected", "deprecated"]
"""`passed`: its gate would have let it in, but another was champion by then, or it was not promoted.
`former`: it was champion. A rejected version is kept for its table, and can be promoted by nobody."""


class Lineage(Contract):
    """Where a version comes from: what is needed to make it again."""

    job_id: str
    base: str
    base_revision: str
    parent: str | None = None
    """The version whose adapter it went on from, by its model name."""
    data_sha256: str
    manifest_uri: str | None = None
    """Of a retraining: the object versions that its dataset was made of."""
    config_sha256: str
    code: str
    """Version of the package that planned it."""
    image: str
    """The training image, by digest where the installation names one."""
    seed: int
    method: Method
    cost: MicroUSD
    trained_at: Timestamp


class StatusChange(Contract):
    """One step of a version's history."""

    status: VersionStatus
    at: Timestamp
    by: str
    """`gate`, or who asked: a key's id."""
    why: str = ""


class ModelVersion(Contract):
    """One tuned model of a group. `version` guards every change of the record."""

    group: str
    tenant: str
    number: int
    version: int = 0
    name: str
    """`ft:...`, as the API names it."""
    status: VersionStatus
    uri: str
    """Its files: the adapter, or the weights."""
    scores: Scores
    comparisons: tuple[Comparison, ...] = ()
    verdict: Verdict
    lineage: Lineage
    created_at: Timestamp
    history: tuple[StatusChange, ...] = ()
    package_arn: str | None = None
    """Its model package in SageMaker's registry, once it is mirrored there."""


class ChampionChange(Contract):
    """One change of a group's champion, the first to have none before it."""

    number: int
    before: int | None
    at: Timestamp
    by: str
    why: str


class ModelGroup(Contract):
    """A group: its versions compete for one place. `version` guards the champion."""

    name: str
    tenant: str
    version: int = 0
    created_at: Timestamp
    champion: int | None = None
    versions: int = 0
    """How many there were: the number of the last."""
    history: tuple[ChampionChange, ...] = ()
    """The newest 100 changes, oldest first."""
