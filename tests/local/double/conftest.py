"""A real S3 and EventBridge (the emulator as a process), a double in this process, and an unchanged boto3 client."""

from __future__ import annotations

import json
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from spotune.local.double.server import DoubleServer
from spotune.local.double.settings import Settings, Timing
from tests.emulator import running_emulator
from tests.polling import wait_for

BUCKET = "artifacts"
ROLE = "arn:aws:iam::000000000000:role/training"
QUICK = Timing(starting=0.05, capacity_retry=0.1, capacity_patience=1.0, stop_grace=5.0, sync=0.2, storage_patience=2.0)


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for a real process until the condition holds; its value."""
    return wait_for(lambda: condition() or None, "the double and its jobs", seconds, pause=0.02)


def training_job(name: str, **changes: Any) -> dict[str, Any]:
    """A CreateTrainingJob request such as the product makes, spot by default."""
    request: dict[str, Any] = {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "AlgorithmSpecification": {
            "TrainingImage": "000000000000.dkr.ecr.us-east-1.amazonaws.com/t:1",
            "TrainingInputMode": "File",
        },
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/{name}/output/", "CompressionType": "NONE"},
        "CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/{name}/checkpoints/"},
        "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 50},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200},
        "EnableManagedSpotTraining": True,
    }
    merged = {**request, **changes}
    return {key: value for key, value in merged.items() if value is not None}


def on_demand(name: str, **changes: Any) -> dict[str, Any]:
    """The same without spot."""
    return training_job(
        name, **{"EnableManagedSpotTraining": None, "StoppingCondition": {"MaxRuntimeInSeconds": 3600}, **changes}
    )


def channel(name: str, uri: str, **source: str) -> dict[str, Any]:
    """One entry of InputDataConfig."""
    return {
        "ChannelName": name,
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri, **source}},
    }


class Site:
    """One home: the double on it, the clients around it, and the script that stands in for the image."""

    def __init__(self, home: Path, emulator_url: str, timing: Timing = QUICK) -> None:
        self.home = home
        self.script = home / "entry.py"
        self.settings = Settings(
            home=home, emulator_url=emulator_url, entry_point=(sys.executable, str(self.script)), timing=timing
        )
        self.server = DoubleServer(self.settings)
        self.s3 = aws("s3", emulator_url)
        self.sagemaker: Any = None

    def entry_point(self, body: str) -> None:
        """What jobs run: `root` is the ML root."""
        head = "import json, os, pathlib, signal, sys, time\nroot = pathlib.Path(os.environ['SPOTUNE_ML_ROOT'])\n"
        self.script.write_text(head + textwrap.dedent(body))

    def enough(self) -> None:
        """Tells a script that goes on without end that it may finish."""
        self.script.with_name("enough").touch()

    def start(self) -> None:
        self.server = DoubleServer(self.settings)
        self.server.start()
        self.sagemaker = aws("sagemaker", self.server.url)

    def describe(self, name: str) -> dict[str, Any]:
        description: dict[str, Any] = self.sagemaker.describe_training_job(TrainingJobName=name)
        return description

    def until(self, name: str, *statuses: str, seconds: float = 20.0) -> dict[str, Any]:
        """The description, once status or secondary status is one of these."""

        def reached() -> dict[str, Any] | None:
            found = self.describe(name)
            return found if {found["TrainingJobStatus"], found["SecondaryStatus"]} & set(statuses) else None

        found: dict[str, Any] = until(reached, seconds)
        return found

    def end(self, name: str) -> dict[str, Any]:
        """The description, once final."""
        return self.until(name, "Completed", "Failed", "Stopped")

    def keys(self, prefix: str) -> list[str]:
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for entry in found.get("Contents", [])]

    def put(self, key: str, body: bytes) -> str:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        return f"s3://{BUCKET}/{key}"

    def read(self, key: str) -> bytes:
        body: bytes = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return body


def aws(service: str, url: str, region: str = "us-east-1") -> Any:
    """An unchanged boto3 client."""
    return boto3.client(
        service, endpoint_url=url, region_name=region, aws_access_key_id="test", aws_secret_access_key="test"
    )


def control(site: Site, route: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One request to the control door."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{site.server.url}/_double/{route}", data, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="session")
def emulator_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_emulator(tmp_path_factory.mktemp("emulator"), "s3,events,sqs") as url:
        aws("s3", url).create_bucket(Bucket=BUCKET)
        yield url


@pytest.fixture
def site(tmp_path: Path, emulator_url: str) -> Iterator[Site]:
    site = Site(tmp_path, emulator_url)
    site.start()
    yield site
    site.server.stop()
