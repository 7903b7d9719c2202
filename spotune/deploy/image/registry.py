"""The image's repository in ECR: made if it is missing, signed in to, and asked what it holds."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from spotune.contracts.errors import SpotuneError, Unavailable
from spotune.deploy.account import Account, AwsSaysNo, call
from spotune.deploy.image.builders import NAME, Builder


@dataclass(frozen=True, slots=True)
class Pushed:
    """An image in the registry.

    Attributes:
        uri: by its digest, as SageMaker and the settings take it.
        sent: False where it was there already.
    """

    uri: str
    sent: bool


class Registry:
    """The ECR of an account's home region.

    Args:
        key: ARN of the KMS key that a new repository is encrypted with; nothing for AWS's own key.

    Every method raises as `spotune.deploy.account.call`.
    """

    def __init__(self, account: Account, *, key: str = "") -> None:
        self._ecr: Any = account.client("ecr")
        self._key = key

    def repository(self) -> str:
        """The repository's address, without a scheme; made where there is none: scanned on push, tags never moved."""
        found = self._described()
        if found is None:
            kind = {"encryptionType": "KMS", "kmsKey": self._key} if self._key else {"encryptionType": "AES256"}
            try:
                made = call(
                    self._ecr.create_repository,
                    repositoryName=NAME,
                    imageTagMutability="IMMUTABLE",
                    imageScanningConfiguration={"scanOnPush": True},
                    encryptionConfiguration=kind,
                )
                found = str(made["repository"]["repositoryUri"])
            except AwsSaysNo as no:
                found = self._described() if no.aws_code == "RepositoryAlreadyExistsException" else None
                if found is None:
                    raise
        return found

    def digest(self, tag: str) -> str | None:
        """`sha256:...` of the image that has this tag; None where none has."""
        try:
            found = call(self._ecr.describe_images, repositoryName=NAME, imageIds=[{"imageTag": tag}])
        except AwsSaysNo as no:
            if no.aws_code == "ImageNotFoundException":
                return None
            raise
        return str(found["imageDetails"][0]["imageDigest"])

    def password(self) -> str:
        """For the user AWS, good for twelve hours."""
        (data,) = call(self._ecr.get_authorization_token)["authorizationData"]
        return base64.b64decode(data["authorizationToken"]).decode().partition(":")[2]

    def _described(self) -> str | None:
        try:
            (found,) = call(self._ecr.describe_repositories, repositoryNames=[NAME])["repositories"]
        except AwsSaysNo as no:
            if no.aws_code == "RepositoryNotFoundException":
                return None
            raise
        return str(found["repositoryUri"])


def push(builder: Builder, reference: str, registry: Registry, *, secure: bool = True) -> Pushed:
    """Send a built image to the registry under its own tag, unless it is there.

    The digest is asked of the registry: it alone says what SageMaker will pull.

    Args:
        reference: the image's name on this machine; its tag is the tag there, too.

    Raises:
        SpotuneError: ECR or the builder refuses.
    """
    tag = reference.rpartition(":")[2]
    address = registry.repository()
    digest = registry.digest(tag)
    if digest is not None:
        return Pushed(f"{address}@{digest}", sent=False)
    try:
        builder.push(reference, f"{address}:{tag}", address.partition("/")[0], registry.password(), secure=secure)
    except SpotuneError:
        # Tags never move: whoever pushed the same one at the same time was first.
        if (digest := registry.digest(tag)) is None:
            raise
        return Pushed(f"{address}@{digest}", sent=False)
    digest = registry.digest(tag)
    if digest is None:
        raise Unavailable(
            f"{address} does not show the image {tag} that was sent to it.",
            code="image_not_found",
            remedy="Push again; what has arrived is not sent twice.",
        )
    return Pushed(f"{address}@{digest}", sent=True)
