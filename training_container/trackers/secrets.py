"""A tracker's key, read from Secrets Manager inside the container: the one place of the container that calls AWS."""

from __future__ import annotations

import os

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, NoCredentialsError

from spotune.contracts.training import HOME_REGION_VARIABLE
from training_container.trackers.tracker import TrackerUnusable

_PATIENCE = Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 2})
_DEFINITE = frozenset(
    {"AccessDeniedException", "ResourceNotFoundException", "InvalidRequestException", "ValidationException"}
)


def read_secret(name: str) -> str:
    """The secret's text. An ARN says itself in which region it lies.

    Raises:
        TrackerUnusable: there is none, or the training role may not read it.
        Exception: Secrets Manager does not answer now.
    """
    region = name.split(":")[3] if name.startswith("arn:") else os.environ.get(HOME_REGION_VARIABLE)
    secrets = boto3.client("secretsmanager", region_name=region, config=_PATIENCE)
    try:
        text = secrets.get_secret_value(SecretId=name).get("SecretString", "")
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _DEFINITE:
            raise TrackerUnusable(f"the secret {name} cannot be read: {code}") from None
        raise
    except NoCredentialsError:
        raise TrackerUnusable(f"the secret {name} cannot be read: the container has no credentials") from None
    if not text:
        raise TrackerUnusable(f"the secret {name} holds no text")
    return str(text).strip()
