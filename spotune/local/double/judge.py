"""Asks the guarded emulator, which knows every role and policy, what a caller of the double may do."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from spotune.local.double.faults import ServiceError, invalid
from spotune.local.double.permissions import SAGEMAKER, TagsOf, checks_of, service_of
from spotune.local.double.settings import Settings
from spotune.local.guard import ASSUME_PATH, CHECK_PATH

_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Signed:
    """A request as it arrived: all that its signature covers."""

    method: str
    path: str
    headers: Sequence[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        """The value of a header, empty where it is not there."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


@dataclass(frozen=True)
class Credentials:
    """Of a role, for a while."""

    access_key: str
    secret_key: str
    token: str


class Judge:
    """The policies of one guarded emulator."""

    def __init__(self, settings: Settings) -> None:
        self._address = urlsplit(settings.emulator_url).netloc
        self._account = settings.account

    def check(self, region: str, target: str, request: Signed, tags_of: TagsOf) -> None:
        """Refuse a request that its signer may not make.

        Args:
            region: that it is signed for.
            target: its X-Amz-Target.
            request: with its signature.
            tags_of: what the region holds is tagged how.

        Raises:
            ServiceError: AccessDeniedException, or what is wrong with the signature.
        """
        answer = self._ask(
            CHECK_PATH,
            method=request.method,
            path=request.path,
            headers=[list(header) for header in request.headers],
            body=request.body.decode("latin-1"),
            service=service_of(target),
            region=region,
            checks=[asdict(check) for check in checks_of(target, request.body, region, self._account, tags_of)],
        )
        if (denied := answer["denied"]) is not None:
            raise _refusal(target, denied["code"], denied["message"])

    def assume(self, role: str) -> Credentials:
        """The credentials that SageMaker works with for a training job.

        Raises:
            ServiceError: ValidationException where the role does not let it.
        """
        answer = self._ask(ASSUME_PATH, role=role, service=SAGEMAKER)
        if "denied" in answer:
            raise invalid(
                f"Could not assume role {role}. Please ensure that the role exists and allows principal "
                f"'{SAGEMAKER}' to assume the role."
            )
        return Credentials(**answer)

    def _ask(self, door: str, **document: object) -> Any:
        """Raises ServiceError: ServiceUnavailable where the emulator does not answer."""
        try:
            with closing(http.client.HTTPConnection(self._address, timeout=_TIMEOUT_SECONDS)) as connection:
                connection.request("POST", door, json.dumps(document), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServiceError("ServiceUnavailable", f"The emulator does not answer {door}: {error}", 503) from error
        if answer.status != 200:
            raise ServiceError("InternalFailure", f"The emulator answered {answer.status} to {door}.", 500)
        return json.loads(body)


def _refusal(target: str, code: str, message: str) -> ServiceError:
    if code != "AccessDenied":
        return ServiceError(code, message)
    return ServiceError("AccessDeniedException" if target else "UnauthorizedOperation", message, 400 if target else 403)
