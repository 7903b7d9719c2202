"""What a started stack is: addresses, key, buckets, processes. Kept in `stack.json`, readable by its owner alone."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from spotune.contracts.base import Contract, Timestamp

REGION = "us-east-1"
ACCOUNT = "000000000000"
ACCESS_KEY = "test"
EVENT_SOURCE = "spotune.double"
DEFAULT_EMULATOR_PORT = 4570
DEFAULT_DOUBLE_PORT = 4571

_DOUBLED_SERVICES = ("SAGEMAKER", "PRICING", "SERVICE_QUOTAS", "EC2")


class ProcessMark(Contract):
    """A process by its id and its start, so that a later process under the same id is not taken for it."""

    pid: int
    started: str


class StackState(Contract):
    """An embedded installation. It survives `down`: the key and the addresses are the same at the next `up`."""

    api_url: str
    """Base address of the API, without `/v1`."""
    api_key: str
    emulator_url: str
    double_url: str
    home: Path
    data_bucket: str
    artifacts_bucket: str
    models_bucket: str
    table: str
    queue_url: str
    supervisor: ProcessMark
    started_at: Timestamp
    deployed: str
    """Fingerprint of the template, its parameters and the bundle that were deployed."""


def default_home() -> Path:
    """SPOTUNE_HOME, else `~/.spotune`."""
    return Path(os.environ.get("SPOTUNE_HOME") or Path.home() / ".spotune").expanduser().absolute()


def state_path(home: Path) -> Path:
    """The file that `read_state` reads."""
    return home / "stack.json"


def read_state(home: Path) -> StackState | None:
    """The stack last started in this home, running or not; None where there is none, or its file is of no use."""
    try:
        return StackState.model_validate_json(state_path(home).read_bytes())
    except (OSError, ValidationError):
        return None


def write_state(state: StackState) -> None:
    """Keep the state, in one step, mode 0600."""
    write_private(state_path(state.home), state.model_dump_json(indent=2))


def write_private(path: Path, text: str) -> None:
    """Write a file in one step, so that a kill leaves the old one or the new one, readable by its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    unfinished.replace(path)


def environment(state: StackState) -> dict[str, str]:
    """AWS settings for clients and subprocesses that are to meet this stack and nothing else."""
    return aws_environment(state.emulator_url, state.double_url)


def aws_environment(emulator_url: str, double_url: str) -> dict[str, str]:
    """Endpoints and dummy credentials; whatever profile the person has is kept out of it."""
    return {
        "AWS_ENDPOINT_URL": emulator_url,
        **{f"AWS_ENDPOINT_URL_{service}": double_url for service in _DOUBLED_SERVICES},
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": ACCESS_KEY,
        "AWS_SESSION_TOKEN": "",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
