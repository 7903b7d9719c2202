"""A job's file that a `.dvc` file stands for: the repository lies in the tenant's folder, as `aws s3 sync` laid it."""

from __future__ import annotations

from spotune.aws.base import ObjectMissing
from spotune.contracts.errors import NotFound, RequestRefused
from spotune.contracts.layout import split_uri
from spotune.data.dvc import MAX_FILE_BYTES, parse_dvc, remote_url
from spotune.service.installation import Installation


def tracked_object(here: Installation, tenant: str, uri: str, param: str) -> str:
    """The URI of the one object that a `.dvc` file of the tenant's stands for. Whether it is what it was is known when
    it is read.

    Raises:
        NotFound: there is no such file.
        RequestRefused: it cannot be read, stands for other than one file, or no repository around it has a remote.
    """
    name = uri.rpartition("/")[2]
    found = parse_dvc(_read(here, uri, param), name)
    if len(found) != 1 or found[0].folder:
        raise RequestRefused(
            f"{name} stands for {len(found)} outputs, or for a folder; a job reads one file.",
            code="dvc_not_one_file",
            param=param,
            remedy="Track the file by itself (dvc add FILE); a rule with source.dvc_remote takes folders too.",
        )
    url = remote_url(_config(here, tenant, uri, param), found[0].remote, name)
    if not url.startswith("s3://"):
        raise RequestRefused(
            f"The remote of {name} is {url[:80]}, which is not in S3.",
            code="dvc_remote_not_allowed",
            param=param,
            remedy=f"Push to a remote at s3://{here.settings.data_bucket}/{tenant}/.",
        )
    return f"{url}/{found[0].key}"


def _config(here: Installation, tenant: str, uri: str, param: str) -> bytes:
    """The nearest `.dvc/config`, from the file's folder upwards, never beyond the tenant's."""
    bucket, key = split_uri(uri)
    folders = key.split("/")[:-1]
    for depth in range(len(folders), 0, -1):
        config = f"s3://{bucket}/{'/'.join(folders[:depth])}/.dvc/config"
        if here.objects.head(config) is not None:
            return _read(here, config, param)
    raise RequestRefused(
        f"No .dvc/config lies beside {uri} or above it.",
        code="dvc_config_missing",
        param=param,
        remedy=f"Copy the repository's .dvc/config to s3://{here.settings.data_bucket}/{tenant}/ with the .dvc file.",
    )


def _read(here: Installation, uri: str, param: str) -> bytes:
    info = here.objects.head(uri)
    if info is None:
        raise NotFound(f"No object at {uri}.", code="file_not_found", param=param, remedy="Upload it again.")
    if info.bytes > MAX_FILE_BYTES:
        raise RequestRefused(
            f"{uri} has {info.bytes:,} bytes; DVC writes {MAX_FILE_BYTES:,} at most.",
            code="dvc_file_refused",
            param=param,
        )
    try:
        return here.objects.read(uri)
    except ObjectMissing:
        raise NotFound(f"No object at {uri}.", code="file_not_found", param=param, remedy="Upload it again.") from None
