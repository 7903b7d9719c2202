"""Where things lie in S3: the one place that spells a key.

<data bucket>/<tenant>/files/<file id>/<file name>
<data bucket>/<tenant>/rules/<rule id>/hashes/<of URI and version>       of an accepted file's rows
                                      /quarantine/<of URI and version>.json   why a file is not trained on
                                      /sweep.json                        how far the search for lost events has come
                                      /frozen/<of what it is made of>/validation.jsonl, keys, manifest.json
                                      /<number>-<of its champion>/training.jsonl, manifest.json, known
                                                                        one retraining's dataset
<artifacts bucket>/<tenant>/jobs/<job id>/config/<attempt>/training.json
                                         /checkpoints/...            synced by SageMaker, both ways
                                         /output/<attempt>/output/model/...      SageMaker adds the last three
                                         /quality.json                always at home, wherever the job runs
<models bucket>/base/<model name>/<revision>/config.json, tokenizer.json, model.safetensors, ..., spotune.json
<models bucket>/base/<model name>/spotune.json                       written last: without it, no model. The same as in
                                                                     the folder of the revision that it puts in force
<models bucket>/market/<region>/latest.json, <seconds>.json          prices: the snapshot in force, and each one made

A further region has three buckets of its own, <prefix>-<region>-data, -jobs and -models. A job that runs there has its
whole folder in the second one; what it reads is copied into the other two, under the version of its source:

<data bucket>/<tenant>/copies/<of the source's URI>/<version>/<file name>        a champion's folder: its files' names
<jobs bucket>/<tenant>/jobs/<job id>/inputs.json                     written once: which copies the job reads
<models bucket>/base/<model name>/<version>/..., spotune.json        written last, as at home
"""

from __future__ import annotations

import hashlib

MODEL_MARKER = "spotune.json"
INPUTS_NAME = "inputs.json"
QUALITY_NAME = "quality.json"


def file_uri(bucket: str, tenant: str, file_id: str, filename: str) -> str:
    """An uploaded file."""
    return f"s3://{bucket}/{tenant}/files/{file_id}/{filename}"


def rule_uri(bucket: str, tenant: str, rule_id: str) -> str:
    """A rule's folder, with a trailing slash."""
    return f"s3://{bucket}/{tenant}/rules/{rule_id}/"


def hashes_uri(rule_folder: str, uri: str, version_id: str) -> str:
    """The hash file of one object version."""
    return f"{rule_folder}hashes/{_of_version(uri, version_id)}"


def listing_uri(rule_folder: str, uri: str, version_id: str) -> str:
    """Which objects one version of a `.dvc` file stands for."""
    return f"{rule_folder}listings/{_of_version(uri, version_id)}.json"


def quarantine_uri(rule_folder: str, uri: str, version_id: str) -> str:
    """The report on one object version that is not trained on."""
    return f"{rule_folder}quarantine/{_of_version(uri, version_id)}.json"


def sweep_uri(rule_folder: str) -> str:
    """How far the search of a rule's source for lost events has come."""
    return f"{rule_folder}sweep.json"


def frozen_uri(rule_folder: str, digest: str) -> str:
    """The folder of a rule's evaluation set, by what it is made of."""
    return f"{rule_folder}frozen/{digest}/"


def retraining_uri(rule_folder: str, number: int, known_uri: str | None) -> str:
    """The folder of one retraining's dataset: another one where it is chosen anew against another champion.

    Args:
        known_uri: the key file of what the champion was trained on; None where nothing is known of it.
    """
    against = "" if known_uri is None else "-" + hashlib.sha256(known_uri.encode()).hexdigest()[:12]
    return f"{rule_folder}{number}{against}/"


def manifest_uri(folder: str) -> str:
    """What a dataset is made of, beside it."""
    return f"{folder}manifest.json"


def known_of_job_uri(rule_folder: str, job_id: str) -> str:
    """The key file of the rows of a job that no rule has started."""
    return f"{rule_folder}known/{job_id}"


def known_uri(folder: str) -> str:
    """The key file of the rows that a model knows once it was trained on a retraining's dataset."""
    return f"{folder}known"


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


def quality_uri(job_folder: str) -> str:
    """The quality of the job's files."""
    return f"{job_folder}{QUALITY_NAME}"


def output_uri(job_folder: str) -> str:
    """SageMaker's S3OutputPath for every attempt of the job."""
    return f"{job_folder}output/"


def model_output_uri(job_folder: str, attempt_name: str) -> str:
    """Where SageMaker lays `/opt/ml/model` of one attempt (uncompressed)."""
    return f"{output_uri(job_folder)}{attempt_name}/output/model/"


def base_model_uri(bucket: str, name: str) -> str:
    """A base model's folder."""
    return f"s3://{bucket}/base/{name}/"


def base_model_folder_uri(bucket: str, name: str, folder: str) -> str:
    """Where a base model's files lie. `folder` is as its manifest says: that of one revision, or empty."""
    return f"{base_model_uri(bucket, name)}{folder}"


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


def folder_copy_uri(bucket: str, tenant: str, source_uri: str, version: str) -> str:
    """The copy of one version of a folder."""
    return f"{copies_uri(bucket, tenant, source_uri)}{version}/"


def base_model_copy_uri(bucket: str, name: str, version: str) -> str:
    """The folder of one version of a base model in a further region's models bucket."""
    return f"{base_model_uri(bucket, name)}{version}/"


def _of_version(uri: str, version_id: str) -> str:
    """A key may be as long as S3 takes, so that no longer one can be made of it."""
    return hashlib.sha256(f"{uri}#{version_id}".encode()).hexdigest()[:32]


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
