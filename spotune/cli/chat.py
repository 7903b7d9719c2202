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
    system: Annotated[str | None, typer.Option("--system", help="A system message that comes first.")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Answer this and end.")] = None,
    json: JsonOption = False,
) -> int:
    """Talk to a job's tuned model. With --json: say where it lies, and its answer to --prompt."""
    screen = Screen(machine=json)
    adapter = local_adapter(job_id) or _fetch(job_id)
    base = model_folder(model or base_model_of(adapter))
    command = [sys.executable, "-m", "training_container.chat", "--model", str(base), "--adapter", str(adapter)]
    for option, value in (("--system", system), ("--prompt", prompt)):
        command += [option, value] if value is not None else []
    found = {"job": job_id, "model": str(base), "adapter": str(adapter), "command": command}
    if not json:
        screen.note(f"Adapter {adapter} on {base}.")
        return subprocess.run(command, check=False).returncode
    if prompt is None:
        screen.emit(found)
        return 0
    answered = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    screen.emit({**found, "answer": answered.stdout.strip()})
    return answered.returncode


def base_model_of(adapter: Path) -> str:
    """The base model's name, as the adapter's own configuration has it; the folder itself for a whole model."""
    configuration = adapter / "adapter_config.json"
    if not configuration.is_file():
        return str(adapter)
    return str(json_format.loads(configuration.read_bytes())["base_model_name_or_path"])


def _fetch(job_id: str) -> Path:
    with Api(find_connection()) as api:
        return fetch_adapter(api.connection, api.job(job_id))
