"""A real S3 (the emulator as a process), and pods as processes whose trainer is a script."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import boto3
import pytest

from spotune.contracts.pod import PodConfig
from spotune.contracts.training import Failure
from tests import factories
from tests.emulator import running_emulator

ROOT = Path(__file__).parents[2]
BUCKET = "runs"


@pytest.fixture(scope="session")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_emulator(tmp_path_factory.mktemp("emulator"), "s3") as url:
        yield url


def credentials(url: str) -> dict[str, str]:
    """What a secret would bring."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class Bucket:
    """One run's folder in S3."""

    def __init__(self, url: str, folder: str) -> None:
        self.url = url
        self.s3: Any = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        self.s3.create_bucket(Bucket=BUCKET)
        self.folder = folder

    def uri(self, name: str) -> str:
        return f"s3://{BUCKET}/{self.folder}/{name}"

    def put(self, name: str, body: bytes) -> str:
        self.s3.put_object(Bucket=BUCKET, Key=f"{self.folder}/{name}", Body=body)
        return self.uri(name)

    def put_folder(self, name: str, folder: Path) -> str:
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return self.uri(f"{name}/")

    def read(self, name: str) -> bytes:
        body: bytes = self.s3.get_object(Bucket=BUCKET, Key=f"{self.folder}/{name}")["Body"].read()
        return body

    def names(self, prefix: str = "") -> list[str]:
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.folder}/{prefix}")
        return [entry["Key"].removeprefix(f"{self.folder}/") for entry in found.get("Contents", [])]


@pytest.fixture
def bucket(s3_url: str, tmp_path: Path) -> Bucket:
    return Bucket(s3_url, tmp_path.name)


@dataclass(frozen=True)
class Ended:
    """How a pod ended."""

    code: int
    err: str

    @property
    def failure(self) -> Failure:
        return Failure.model_validate_json(self.err.strip().splitlines()[-1])


class Pod:
    """A pod's folder, and its process."""

    def __init__(self, folder: Path, config: PodConfig, script: str, environment: dict[str, str]) -> None:
        self.root = folder / "ml"
        told = folder / "etc"
        told.mkdir(parents=True)
        (told / "pod.json").write_text(config.model_dump_json())
        (told / "training.json").write_text(factories.config().model_dump_json())
        entry = folder / "entry.py"
        head = "import json, os, pathlib, signal, sys, time\nroot = pathlib.Path(os.environ['SPOTUNE_ML_ROOT'])\n"
        entry.write_text(head + textwrap.dedent(script))
        self._errors = folder / "stderr"
        inherited = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.pod.quick", str(told), str(entry)],
                env={**inherited, "SPOTUNE_ML_ROOT": str(self.root), "PYTHONUNBUFFERED": "1", **environment},
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> Ended:
        code = self.process.wait(60)
        return Ended(code, self._errors.read_text())

    def kill(self) -> None:
        """With all that it started, as a container ends."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def read(self, name: str) -> Any:
        return json.loads((self.root / name).read_text())


class Pods:
    """Makes pods of one run; whatever of them is left at the end is killed."""

    def __init__(self, bucket: Bucket, folder: Path) -> None:
        self.bucket = bucket
        self._folder = folder
        self._made: list[Pod] = []

    def config(self, **changes: Any) -> PodConfig:
        values: dict[str, Any] = {
            "channels": {},
            "checkpoints_uri": self.bucket.uri("checkpoints/"),
            "output_uri": self.bucket.uri("output/"),
            "hosts": ("one.run", "localhost"),
        }
        return PodConfig.model_validate({**values, **changes})

    def start(
        self,
        script: str,
        *,
        host: int = 0,
        url: str | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
        **changes: Any,
    ) -> Pod:
        """With an empty disk of its own, as after every restart."""
        variables = {**credentials(url or self.bucket.url), "JOB_COMPLETION_INDEX": str(host), **environment}
        made = Pod(self._folder / f"pod-{len(self._made)}", self.config(**changes), script, variables)
        self._made.append(made)
        return made

    def kill(self) -> None:
        for pod in self._made:
            pod.kill()


@pytest.fixture
def pods(bucket: Bucket, tmp_path: Path) -> Iterator[Pods]:
    made = Pods(bucket, tmp_path)
    yield made
    made.kill()
