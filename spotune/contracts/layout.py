"""Where things lie in S3: the one place that spells a key.

<data bucket>/<tenant>/files/<file id>/<file name>
<artifacts bucket>/<tenant>/jobs/<job id>/config/<attempt>/training.json
                                         /checkpoints/...            synced by SageMaker, both ways
                                         /output/<attempt>/output/model/...      SageMaker adds the last three
<models bucket>/base/<model name>/config.json, tokenizer.json, model.safetensors, ...
<models bucket>/base/<model name>/spotune.json                       written last: without it, no model
<models bucket>/market/<region>/latest.json, <seconds>.json          prices: the snapshot in force, and each one made

A further region has three buckets of its own, <prefix>-<region>-data, -jobs and -models. A job that runs there has its
whole folder in the second one; what it reads is copied into the other two, under the version of its source:

<data bucket>/<tenant>/copies/<of the source's URI>/<version>/<file name>
<jobs bucket>/<tenant>/jobs/<job id>/inputs.json                     written once: which copies the job reads
<models bucket>/base/<model name>/<version>/..., spotune.json        written last, as at home
"""

from __future__ import annotations

import hashlib

MODEL_MARKER = "spotune.json"
INPUTS_NAME = "inputs.json"


def file_uri(bucket: str, tenant: str, file_id: str, filename: str) -> str:
    """An uploaded file."""
    return f"s3://{bucket}/{tenant}/files/{file_id}/{filename}"


def job_uri(bucket: str, tenant: str, job_id: str) -> str:
    """A job's folder, with a trailing slash."""
    return f"s3://{bucket}/{tenant}/jobs/{job_id}/"


def config_uri(job_folder: str, attempt_name: str) -> str:
    """The folder that becomes the `config` channel of one attempt: limits differ between attempts."""
    return f"{job_folder}config/{attempt_name}/"


def checkpoints_uri(job_folder: str) -> str:
    """The folder that SageMaker syncs with `/opt/ml/checkpoints`."""
    return f"{job_folder}checkpoints/"


def checkpoint_uri(job_folder: str, step: int) -> str:
    """One checkpoint's folder."""
    return f"{checkpoints_uri(job_folder)}checkpoint-{step}/"


def output_uri(job_folder: str) -> str:
    """SageMaker's S3OutputPath for every attempt of the job."""
    return f"{job_folder}output/"


def model_output_uri(job_folder: str, attempt_name: str) -> str:
    """Where SageMaker lays `/opt/ml/model` of one attempt (uncompressed)."""
    return f"{output_uri(job_folder)}{attempt_name}/output/model/"


def base_model_uri(bucket: str, name: str) -> str:
    """A base model's folder."""
    return f"s3://{bucket}/base/{name}/"


def market_uri(bucket: str, region: str, name: str) -> str:
    """A market snapshot; `latest` is the one in force."""
    return f"s3://{bucket}/market/{region}/{name}.json"


def region_bucket(prefix: str, region: str, what: str) -> str:
    """A bucket of a further region; `infra/region.yaml` gives it the same name.

    Args:
        prefix: the installation's, with its stage and account.
        what: `data`, `jobs` or `models`.
    """
    return f"{prefix}-{region}-{what}"


def inputs_uri(job_folder: str) -> str:
    """Which copies a job in a further region reads: decided before the first byte is copied."""
    return f"{job_folder}{INPUTS_NAME}"


def copies_uri(bucket: str, tenant: str, source_uri: str) -> str:
    """The folder of all copies of one of a tenant's files in a further region's data bucket."""
    return f"s3://{bucket}/{tenant}/copies/{hashlib.sha256(source_uri.encode()).hexdigest()[:24]}/"


def file_copy_uri(bucket: str, tenant: str, source_uri: str, version: str) -> str:
    """The copy of one version of a file, alone in its folder: SageMaker's channels are prefixes."""
    return f"{copies_uri(bucket, tenant, source_uri)}{version}/{source_uri.rpartition('/')[2]}"


def base_model_copy_uri(bucket: str, name: str, version: str) -> str:
    """The folder of one version of a base model in a further region's models bucket."""
    return f"{base_model_uri(bucket, name)}{version}/"


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of an `s3://` URI.

    Raises:
        ValueError: it is none.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ValueError(f"not an s3:// URI: {uri!r}")
    return bucket, key
