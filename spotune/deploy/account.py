"""The account that is deployed into: whose it is, its services' clients, and what it means where they refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)

from spotune.aws.base import AwsRefused
from spotune.aws.clients import call as call_client
from spotune.contracts.errors import NotAllowed, NotAuthenticated, RequestRefused, SpotuneError, Unavailable

_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 5}, read_timeout=120)
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_UNKNOWN = frozenset(
    {"InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
)
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedException"})


class AwsSaysNo(RequestRefused):
    """AWS answered no, and it is neither about who asks nor about what they may do.

    Attributes:
        aws_code: its own code.
        reason: its own words.
    """

    def __init__(self, aws_code: str, reason: str) -> None:
        super().__init__(
            f"AWS refuses ({aws_code}): {reason}", code="aws_refused", remedy="Correct what it names, then try again."
        )
        self.aws_code = aws_code
        self.reason = reason


@dataclass(frozen=True)
class Account:
    """Credentials and a home region.

    Attributes:
        region: of every client that no other region is named for.
        session: where credentials come from; the environment's by default.
        config: of every client.
        endpoint: of every service; AWS's own, or the environment's, where it is None.
    """

    region: str
    session: Any = field(default_factory=lambda: _session())
    config: Config = _CONFIG
    endpoint: str | None = None

    def client(self, service: str, region: str | None = None) -> Any:
        """A client of a service.

        Raises:
            RequestRefused: the environment or AWS's configuration file names an endpoint that is no address.
        """
        try:
            return self.session.client(
                service, region_name=region or self.region, config=self.config, endpoint_url=self.endpoint
            )
        except ValueError as error:
            raise RequestRefused(
                f"There is no way to {service}: {error}.",
                code="aws_endpoint_invalid",
                remedy="Correct region, AWS_ENDPOINT_URL and endpoint_url of the AWS configuration.",
            ) from error

    @cached_property
    def id(self) -> str:
        """Number of the account that the credentials belong to.

        Raises:
            NotAuthenticated: there are no credentials, or they open nothing.
        """
        return str(call(lambda: self.client("sts").get_caller_identity())["Account"])


def default_region() -> str | None:
    """The region that this machine's AWS configuration names."""
    try:
        return boto3.Session().region_name or None
    except BotoCoreError:
        return None


def call(operation: Callable[..., dict[str, Any]], **arguments: object) -> dict[str, Any]:
    """Call one of a client's operations.

    Raises:
        NotAuthenticated: there are no credentials, or they are wrong or expired.
        NotAllowed: the credentials may not do this; AWS says what is missing.
        Unavailable: AWS does not answer.
        AwsSaysNo: any other no; whoever calls may know what it means.
    """
    try:
        return call_client(operation, **arguments)
    except AwsRefused as refused:
        raise _meaning(refused) from refused
    except Unavailable as unanswered:
        if isinstance(unanswered.__cause__, ClientError):
            raise  # it did answer: it is busy
        raise _not_reached(unanswered.__cause__) from unanswered
    except BotoCoreError as error:
        raise _not_asked(error) from error


def pages(client: Any, operation: str, **arguments: object) -> Iterator[dict[str, Any]]:
    """Every page of a list. Raises as `call`."""
    listed = iter(client.get_paginator(operation).paginate(**arguments))
    while page := call(lambda: next(listed, {})):
        yield page


def _session() -> Any:
    """That of the environment.

    Raises:
        NotAuthenticated: the environment names a profile that is not there.
        Unavailable: AWS's configuration file cannot be read.
    """
    try:
        return boto3.Session()
    except BotoCoreError as error:
        raise _not_asked(error) from error


def _not_asked(error: BotoCoreError) -> NotAuthenticated | Unavailable:
    if isinstance(error, NoCredentialsError | PartialCredentialsError | ProfileNotFound):
        return NotAuthenticated(
            f"There are no AWS credentials: {str(error).rstrip('.')}.",
            code="aws_credentials_missing",
            remedy="Sign in as you do for the AWS CLI: aws configure, aws sso login, or AWS_PROFILE.",
        )
    return _not_reached(error)


def _not_reached(error: BaseException | None) -> Unavailable:
    return Unavailable(
        f"AWS was not reached ({type(error).__name__}: {error}).",
        code="aws_unavailable",
        remedy="Check the name of the region, the endpoint and the network of this machine, then try again.",
    )


def _meaning(refused: AwsRefused) -> SpotuneError:
    if refused.code in _EXPIRED:
        return NotAuthenticated(
            "The AWS credentials have expired. What CloudFormation has begun goes on without them.",
            code="aws_credentials_expired",
            remedy="Sign in anew, then run the same command again: it takes up what is there.",
        )
    if refused.code in _UNKNOWN:
        return NotAuthenticated(
            f"AWS does not know the credentials: {refused.message}",
            code="aws_credentials_unknown",
            remedy="Check AWS_PROFILE or AWS_ACCESS_KEY_ID and the account's state.",
        )
    if refused.code in _DENIED:
        return NotAllowed(
            f"AWS does not allow this to your credentials: {refused.message}",
            code="aws_denied",
            remedy="docs/deploying.md lists what a deployment needs to be allowed.",
        )
    return AwsSaysNo(refused.code, refused.message)
