"""Looks at the training image in ECR. Only reads."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from spotune.aws.clients import client
from spotune.deploy.doctor.seen import Image
from spotune.deploy.image_name import ImageName

_INDEXES = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_CONFIG_BYTES = 4_000_000
_SECONDS = 20


def image(name: ImageName, region: str) -> Image | None:
    """The image of this name in a region's own registry: a training job pulls from where it runs. None for none.

    Raises:
        ClientError: ECR has no such image or repository, or does not show it.
    """
    registry = client("ecr", region)
    where = {"registryId": name.account, "repositoryName": name.repository}
    found = next(iter(registry.describe_images(**where, imageIds=[name.identifier])["imageDetails"]), None)
    if found is None:
        return None
    (repository,) = registry.describe_repositories(registryId=name.account, repositoryNames=[name.repository])[
        "repositories"
    ]
    return Image(
        digest=found["imageDigest"],
        bytes=int(found.get("imageSizeInBytes", 0)),
        architectures=_architectures(registry, where, found["imageDigest"]),
        tags=tuple(found.get("imageTags", ())),
        mutable_tag=not name.digest and repository.get("imageTagMutability", "MUTABLE") == "MUTABLE",
        severe=dict(found.get("imageScanFindingsSummary", {}).get("findingSeverityCounts", {})),
    )


def _architectures(registry: Any, where: dict[str, str], digest: str) -> tuple[str, ...]:
    """Processors that the image is made for, read out of its manifest and configuration; none where they do not say."""
    answer = registry.batch_get_image(
        **where, imageIds=[{"imageDigest": digest}], acceptedMediaTypes=[*_INDEXES, *_MANIFESTS]
    )
    if not answer["images"]:
        return ()
    manifest = json.loads(answer["images"][0]["imageManifest"])
    if manifest.get("mediaType") in _INDEXES or "manifests" in manifest:
        platforms = (one.get("platform", {}).get("architecture", "") for one in manifest["manifests"])
        return tuple(sorted({one for one in platforms if one not in ("", "unknown")}))
    config = manifest.get("config", {}).get("digest")
    named = _architecture(registry, where, config) if config else ""
    return (named,) if named else ()


def _architecture(registry: Any, where: dict[str, str], digest: str) -> str:
    """That of an image's configuration; empty where it cannot be fetched."""
    url = registry.get_download_url_for_layer(**where, layerDigest=digest)["downloadUrl"]
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as stream:  # noqa: S310 ECR's own presigned address
            return str(json.loads(stream.read(_CONFIG_BYTES)).get("architecture", ""))
    except (OSError, ValueError):
        return ""
