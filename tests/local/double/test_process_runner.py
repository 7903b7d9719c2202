"""Jobs that run for real, seen through boto3."""

from __future__ import annotations

import json

from tests.local.double.conftest import BUCKET, Site, channel, training_job


def test_a_job_gets_its_channels_runs_and_leaves_its_model_uncompressed_in_s3(site: Site) -> None:
    site.put("first/config/training.json", b'{"seed": 7}')
    site.entry_point("""
        config = json.loads((root / "input/data/config/training.json").read_text())
        hyperparameters = json.loads((root / "input/config/hyperparameters.json").read_text())
        (root / "model/deep").mkdir()
        (root / "model/report.json").write_text(json.dumps([config, hyperparameters, os.environ["TRAINING_JOB_NAME"]]))
        (root / "model/deep/weights").write_bytes(b"w")
    """)

    site.sagemaker.create_training_job(
        **training_job(
            "first-1",
            InputDataConfig=[channel("config", f"s3://{BUCKET}/first/config/")],
            HyperParameters={"a": "1"},
        )
    )
    done = site.end("first-1")

    assert done["TrainingJobStatus"] == "Completed", done
    assert done["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{BUCKET}/first-1/output/first-1/output/model/"
    assert json.loads(site.read("first-1/output/first-1/output/model/report.json")) == [
        {"seed": 7},
        {"a": "1"},
        "first-1",
    ]
    assert site.read("first-1/output/first-1/output/model/deep/weights") == b"w"
    assert [entry["Status"] for entry in done["SecondaryStatusTransitions"]] == [
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    assert 0 < done["BillableTimeInSeconds"] <= done["TrainingTimeInSeconds"]
    assert done["TrainingStartTime"] <= done["TrainingEndTime"]
