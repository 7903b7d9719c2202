"""What the probes saw of an account, as plain values. Nothing here judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from spotune.contracts.base import Timestamp

_DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "AuthorizationError", "NotAuthorized", "UnauthorizedOperation"}
)


@dataclass(frozen=True, slots=True)
class Unseen:
    """A probe that got no answer. `code` is AWS's own; empty where AWS said nothing."""

    reason: str
    code: str = ""

    @property
    def denied(self) -> bool:
        """The caller may not ask."""
        return self.code in _DENIED


@dataclass(frozen=True, slots=True)
class Refused:
    """AWS knows the caller's credentials and takes none of them, or there are none. `code` is AWS's or boto3's own."""

    code: str
    reason: str


T = TypeVar("T")
Seen: TypeAlias = T | Unseen


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `policy_source` is the user or role behind a session, empty where it was not to be found."""

    account: str
    arn: str
    policy_source: str = ""


@dataclass(frozen=True, slots=True)
class Clocks:
    """The same moment by this machine and by AWS, seconds since the epoch."""

    ours: Timestamp
    theirs: Timestamp


@dataclass(frozen=True, slots=True)
class Quota:
    """One quota of Service Quotas; `asked` is the value of a request that AWS has not answered yet."""

    name: str
    code: str
    value: float
    asked: float | None = None


Quotas = Mapping[str, Quota]
"""By name; what Service Quotas does not list is missing."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether an action would be allowed. `organization`: it is the organization that forbids it."""

    action: str
    allowed: bool
    organization: bool = False


@dataclass(frozen=True, slots=True)
class Stack:
    """A CloudFormation stack."""

    name: str
    status: str
    reason: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Image:
    """A container image in ECR. `architectures` as `amd64`; `severe` counts findings of the scan by severity."""

    digest: str
    bytes: int
    architectures: tuple[str, ...]
    tags: tuple[str, ...] = ()
    mutable_tag: bool = False
    severe: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model's folder in the models bucket. `complete`: its marker, which is written last, is there."""

    name: str
    files: int
    bytes: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Alarm:
    """A CloudWatch alarm of the stack, by its name in the template. `actions`: it tells somebody."""

    name: str
    state: str
    reason: str
    actions: bool


@dataclass(frozen=True, slots=True)
class Subscription:
    """Who gets the alarms."""

    protocol: str
    endpoint: str
    confirmed: bool


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet that training is to run in."""

    subnet: str
    vpc: str
    zone: str


@dataclass(frozen=True, slots=True)
class Network:
    """What there is of the subnets and groups that were asked for.

    Attributes:
        subnets: those that there are.
        groups: the VPC of each security group that there is.
        endpoints: services with an endpoint in the subnets' VPCs, as `s3`.
    """

    subnets: tuple[Subnet, ...]
    groups: Mapping[str, str]
    endpoints: frozenset[str]


@dataclass(frozen=True, slots=True)
class Key:
    """A KMS key."""

    arn: str
    state: str
    rotates: bool | None


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget of AWS Budgets. `warned`: somebody is told."""

    name: str
    limit: str
    warned: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API's address answered; status 0 where there was no answer."""

    status: int
    reason: str = ""
