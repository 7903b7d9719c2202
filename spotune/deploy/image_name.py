"""What the URI of an image in ECR says, which SageMaker pulls from alone."""

from __future__ import annotations

import re
from dataclasses import dataclass

REGION = r"[a-z]{2}(-[a-z]+)+-[0-9]"
"""How AWS spells a region."""

_URI = re.compile(
    rf"(?P<account>\d{{12}})\.dkr\.ecr(-fips)?\.(?P<region>{REGION})\.amazonaws\.com(\.cn)?/"
    r"(?P<repository>[a-z0-9][a-z0-9._/-]*)(:(?P<tag>[\w][\w.-]{0,127}))?(@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True, slots=True)
class ImageName:
    """An image's URI in its parts; a digest wins over a tag."""

    account: str
    region: str
    repository: str
    tag: str
    digest: str

    @classmethod
    def of(cls, uri: str) -> ImageName:
        """Of a URI.

        Raises:
            ValueError: it is none of an image in ECR.
        """
        found = _URI.fullmatch(uri)
        if found is None:
            raise ValueError(
                "SageMaker pulls images from ECR alone: <account>.dkr.ecr.<region>.amazonaws.com/<name>:<tag>"
            )
        parts = found.groupdict(default="")
        return cls(**parts | {"tag": parts["tag"] or "latest"})

    @property
    def identifier(self) -> dict[str, str]:
        """As ECR asks for it."""
        return {"imageDigest": self.digest} if self.digest else {"imageTag": self.tag}
