"""A private AWS emulator for tests that need real conditions, transactions and multipart uploads."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from spotune.local import emulator

START_SECONDS = 60


@contextmanager
def running_emulator(folder: Path, services: str) -> Iterator[str]:
    """The address of an emulator of these services (comma-separated), alive within the context. Logs go to `folder`."""
    port = _free_port()
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
    port = _free_port()
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
        _wait_until_up(url, process, folder / "emulator.log")
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


def _wait_until_up(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/_ministack/health", timeout=2).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError(f"the emulator did not start:\n{log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
