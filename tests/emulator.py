"""A private AWS emulator for tests that need real conditions, transactions and multipart uploads."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from spotune.local import emulator
from tests.polling import wait_for
from tests.ports import free_port

START_SECONDS = 60


@contextmanager
def running_emulator(folder: Path, services: str) -> Iterator[str]:
    """The address of an emulator of these services (comma-separated), alive within the context. Logs go to `folder`."""
    port = free_port()
    environment = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": "127.0.0.1",
        "SERVICES": services,
        "TMPDIR": str(folder),
        "LOG_LEVEL": "WARNING",
    }
    with _running(folder, [sys.executable, "-m", "ministack"], environment, port) as url:
        yield url


@contextmanager
def running_own_emulator(folder: Path) -> Iterator[str]:
    """The same of embedded mode's emulator, which judges a template's conditions and limits the Lambdas' processes."""
    port = free_port()
    with _running(folder, emulator.command(), emulator.environment(folder, port), port) as url:
        yield url


@contextmanager
def _running(folder: Path, command: list[str], environment: dict[str, str], port: int) -> Iterator[str]:
    url = f"http://127.0.0.1:{port}"
    with (folder / "emulator.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until_up(url, process, folder / "emulator.log")
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def credentials(url: str) -> dict[str, str]:
    """What boto3 needs to talk to the emulator."""
    return {
        "endpoint_url": url,
        "region_name": "us-east-1",
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
    }


def wait_until_up(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for an emulator's first answer.

    Raises:
        RuntimeError: it has ended.
        AssertionError: it does not answer in time.
    """

    def up() -> bool | None:
        if process.poll() is not None:
            raise RuntimeError(f"the emulator did not start:\n{log.read_text()[-2000:]}")
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{url}/_ministack/health", timeout=2).is_success or None
        return None

    wait_for(up, f"the emulator; its log is {log}", START_SECONDS, pause=0.05)
