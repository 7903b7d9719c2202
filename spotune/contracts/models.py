"""The registry: groups of tuned models, their versions, and which of them is the champion."""

from __future__ import annotations

from typing import Literal

from spotune.contracts.base import Contract, MicroUSD, Timestamp
from spotune.contracts.request import Method
from spotune.contracts.scores import Comparison, Scores
from spotune.contracts.verdict import Verdict

VersionStatus = Literal["awaiting_approval", "champion", "former", "passed", "rejected", "deprecated", "deleted"]
"""`passed`: its gate would have let it in, but another was champion by then, or it was not promoted.
`former`: it was champion. A rejected version is kept for its table, and can be promoted by nobody.
`deprecated`: a rollback passes it over; a person may still promote it. `deleted`: only its record is left."""


class Lineage(Contract):
    """Where a version comes from: what is needed to make it again."""

    job_id: str
    base: str
    base_revision: str
    parent: str | None = None
    """The version whose adapter it went on from, by its model name."""
    data_sha256: str
    evaluation_sha256: str
    """Of what the held-out rows were: two versions that agree in it were scored on the same rows."""
    manifest_uri: str | None = None
    """Of a retraining: the object versions that its dataset was made of."""
    config_sha256: str
    code: str
    """The service's own code that made it: the key of its bundle, which carries the content's hash."""
    image: str
    """The training image, by digest where the installation names one."""
    seed: int
    method: Method
    cost: MicroUSD
    trained_at: Timestamp


class ModelFile(Contract):
    """One file of a version as it was when the version was registered."""

    name: str
    """Relative to the version's folder."""
    bytes: int
    etag: str
    sha256: str | None = None
    """None where the files were too large to be read then."""


class StatusChange(Contract):
    """One step of a version's history."""

    sequence: int
    """From 1, without a gap."""
    status: VersionStatus
    at: Timestamp
    by: str
    """`gate`, or who asked: a key's id."""
    why: str = ""
    rollback: bool = False
    """It became champion again by going back."""


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
    files: tuple[ModelFile, ...] = ()
    scores: Scores
    comparisons: tuple[Comparison, ...] = ()
    """With the base."""
    against_champion: tuple[Comparison, ...] = ()
    """With the champion that its verdict names."""
    verdict: Verdict
    lineage: Lineage
    created_at: Timestamp
    history: tuple[StatusChange, ...] = ()
    """The newest 100 changes, oldest first."""
    told: int = 0
    """The outside was told of the changes up to this sequence."""
    mirrored: bool = False
    """SageMaker's registry shows it as it is."""
    package_arn: str | None = None
    """Its model package in SageMaker's registry, once it is mirrored there."""

    @property
    def changed_at(self) -> Timestamp:
        """When its status last changed."""
        return self.history[-1].at if self.history else self.created_at

    @property
    def settled(self) -> bool:
        """False where the outside is still to be told of a change."""
        return self.mirrored and self.told == (self.history[-1].sequence if self.history else 0)


class ChampionChange(Contract):
    """One change of a group's champion, the first to have none before it."""

    number: int
    before: int | None
    at: Timestamp
    by: str
    why: str = ""
    rollback: bool = False
    """It went back to an earlier champion, so that the next one goes further back from there."""


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
