"""`chat`: talk to a tuned model on this machine."""

from __future__ import annotations

import json as json_format
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from spotune.cli.adapters import fetch_adapter, local_adapter
from spotune.cli.client import Api
from spotune.cli.connection import find_connection
from spotune.cli.data import model_folder
from spotune.cli.jobs import JobArgument
from spotune.cli.screen import JsonOption, Screen


def chat(
    job_id: JobArgument,
    model: Annotated[str | None, typer.Option("--model", help="The base model's folder, if it is not cached.")] = None,
    json: JsonOption = False,
) -> int:
    """Talk to a job's tuned model. With --json: say where its adapter and its base model lie, and end."""
    screen = Screen(machine=json)
    adapter = local_adapter(job_id) or _fetch(job_id)
    base = model_folder(model or base_model_of(adapter))
    command = [sys.executable, "-m", "training_container.chat", "--model", str(base), "--adapter", str(adapter)]
    screen.emit({"job": job_id, "model": str(base), "adapter": str(adapter), "command": command})
    if json:
        return 0
    screen.note(f"Adapter {adapter} on {base}.")
    return subprocess.run(command, check=False).returncode


def base_model_of(adapter: Path) -> str:
    """The base model's name, as the adapter's own configuration has it; the folder itself for a whole model."""
    configuration = adapter / "adapter_config.json"
    if not configuration.is_file():
        return str(adapter)
    return str(json_format.loads(configuration.read_bytes())["base_model_name_or_path"])


def _fetch(job_id: str) -> Path:
    with Api(find_connection()) as api:
        return fetch_adapter(api.connection, api.job(job_id))
