"""`data check`: what a dataset holds and what is wrong with it, without an API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spotune.cli import render
from spotune.cli.screen import JsonOption, Screen
from spotune.contracts.dataset import DatasetReport
from spotune.contracts.errors import RequestRefused
from spotune.local.state import default_home

if TYPE_CHECKING:
    from spotune.data.tokens import RowTokenizer

app = typer.Typer(help="Look into datasets.", no_args_is_help=True)

CHUNK_BYTES = 1024**2
DEFAULT_MAX_LENGTH = 2048


@app.command(epilog="Example: spotune data check train.jsonl --model HuggingFaceTB/SmolLM2-135M-Instruct")
def check(
    file: Annotated[Path, typer.Argument(help="A JSONL file.", show_default=False)],
    model: Annotated[
        str | None, typer.Option("--model", help="Count tokens as this model does: a folder, or a cached model's name.")
    ] = None,
    max_length: Annotated[int, typer.Option(min=16, help="Tokens of a row that training would keep.")] = (
        DEFAULT_MAX_LENGTH
    ),
    json: JsonOption = False,
) -> int:
    """Check a dataset: format, faults with their lines, duplicates, lengths. Exits 2 where it would be refused."""
    screen = Screen(machine=json)
    tokenizer = None if model is None else tokenizer_of(model_folder(model))
    report = check_file(file, tokenizer, max_length=max_length)
    screen.emit(report.model_dump(mode="json"))
    screen.show(render.dataset(report))
    screen.say("\nGood to train on." if report.ok else "\nRefused: mend the faults and check again.")
    return 0 if report.ok else 2


def check_file(file: Path, tokenizer: RowTokenizer | None, *, max_length: int) -> DatasetReport:
    """The report on a file of this machine.

    Raises:
        RequestRefused: it cannot be read.
    """
    from spotune.data.checks import check_dataset  # here, since most commands need no tokenizer

    try:
        with file.open("rb") as stream:
            return check_dataset(_chunks(stream.read), uri=str(file), tokenizer=tokenizer, max_length=max_length)
    except OSError as error:
        raise RequestRefused(f"Cannot read {file}: {error.strerror}.", code="file_unreadable") from None


def model_folder(model: str) -> Path:
    """A base model's folder: the path itself, else the cache of models on this machine.

    Raises:
        RequestRefused: there is neither.
    """
    for folder in (Path(model), cached_model(model)):
        if (folder / "tokenizer.json").is_file():
            return folder
    raise RequestRefused(
        f"No model {model!r} lies on this machine (looked for {cached_model(model)}).",
        code="model_not_here",
        param="model",
        remedy="Give a folder with tokenizer.json and tokenizer_config.json.",
    )


def cached_model(name: str) -> Path:
    """Where a base model is kept on this machine."""
    return default_home() / "cache" / "models" / name


def tokenizer_of(folder: Path) -> RowTokenizer:
    """The tokenizer that lies in a model's folder."""
    from spotune.data.tokens import RowTokenizer

    template = folder / "chat_template.jinja"
    return RowTokenizer.from_files(
        (folder / "tokenizer.json").read_bytes(),
        (folder / "tokenizer_config.json").read_bytes(),
        template.read_bytes() if template.is_file() else None,
    )


def _chunks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while chunk := read(CHUNK_BYTES):
        yield chunk
