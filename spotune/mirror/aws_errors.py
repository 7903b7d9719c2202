"""What AWS refuses, in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

from spotune.contracts.errors import NotAllowed, NotAuthenticated, NotFound, SpotuneError, Unavailable

_CREDENTIALS = (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
_NOT_KNOWN = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_REFUSED = frozenset({"403", "AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})


@contextmanager
def aws_errors(what: str) -> Iterator[None]:
    """Around calls of boto3's clients.

    Args:
        what: is being done, as the message names it: `write s3://...`.

    Raises:
        NotAuthenticated: there are no credentials, or AWS does not know them, or not any more.
        NotAllowed: these credentials may not do this.
        NotFound: the bucket is not there.
        Unavailable: AWS does not answer, or is busy.
    """
    try:
        yield
    except ClientError as error:
        raise _refusal(error, what) from error
    except _CREDENTIALS as error:
        raise _no_credentials(what, str(error)) from error
    except BotoCoreError as error:
        raise _no_answer(what, str(error)) from error


def _refusal(error: ClientError, what: str) -> SpotuneError:
    answer = error.response.get("Error", {})
    code, said = answer.get("Code", ""), answer.get("Message", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _NOT_KNOWN:
        return _no_credentials(what, f"{code}: {said}")
    if code in _REFUSED:
        return NotAllowed(
            f"AWS does not let these credentials {what} ({code}: {said}).",
            code="aws_not_allowed",
            remedy="Use those of an administrator of the installation.",
        )
    if code == "NoSuchBucket":
        return NotFound(
            f"Cannot {what}: there is no such bucket.",
            code="models_bucket_missing",
            remedy="Deploy the installation first.",
        )
    if status >= 500 or status == 429 or code == "SlowDown":
        return _no_answer(what, f"{code}: {said}")
    return SpotuneError(f"AWS refuses to {what} ({code}: {said}).", code="aws_refused")


def _no_credentials(what: str, said: str) -> SpotuneError:
    return NotAuthenticated(
        f"Cannot {what}: AWS knows no valid credentials ({said}).",
        code="aws_credentials",
        remedy="Sign in again (`aws sso login`, or AWS_PROFILE), and run the same command: it goes on where it stands.",
    )


def _no_answer(what: str, said: str) -> SpotuneError:
    return Unavailable(
        f"Cannot {what}: AWS does not answer ({said}).",
        code="aws_unavailable",
        remedy="Run the same command again: it goes on where it stands.",
    )
