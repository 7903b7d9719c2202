"""Where things lie in S3: the one place that spells a key.

<data bucket>/<tenant>/files/<file id>/<file name>
<artifacts bucket>/<tenant>/jobs/<job id>/config/<attempt>/training.json
                                         /checkpoints/...            synced by SageMaker, both ways
                                         /output/<attempt>/output/model/...      SageMaker adds the last three
<models bucket>/base/<model name>/config.json, tokenizer.json, model.safetensors, ...
<models bucket>/base/<model name>/spotune.json                       written last: without it, no model
<models bucket>/market/<region>/latest.json, <seconds>.json          prices: the snapshot in force, and each one made
"""

from __future__ import annotations

MODEL_MARKER = "spotune.json"


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
