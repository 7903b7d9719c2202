"""`data check` and `data preview`: what a dataset holds, what is wrong with it and what is learned, without an API."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, TypeVar, get_args

import typer

from spotune.cli import pull, render
from spotune.cli.client import Api
from spotune.cli.connection import find_connection
from spotune.cli.screen import JsonOption, Screen
from spotune.contracts.dataset import DatasetReport, GoldenReport
from spotune.contracts.errors import DatasetRefused, RequestRefused
from spotune.contracts.request import LossOn, Objective
from spotune.local.state import default_home

if TYPE_CHECKING:
    from spotune.data.quality import QualityCheck
    from spotune.data.tokens import RowTokenizer

app = typer.Typer(help="Look into datasets.", no_args_is_help=True)

app.command(epilog="Example: spotune data pull ftjob-... --out dataset")(pull.pull)

CHUNK_BYTES = 1024**2
DEFAULT_MAX_LENGTH = 2048

Word = TypeVar("Word", bound=str)
_OBJECTIVES: dict[str, Objective] = {word: word for word in get_args(Objective)}
_LOSS_ON: dict[str, LossOn] = {word: word for word in get_args(LossOn)}


ObjectiveOption = Annotated[str, typer.Option("--objective", help=", ".join(get_args(Objective)))]
LossOnOption = Annotated[str, typer.Option("--loss-on", help=f"Of chats: {', '.join(get_args(LossOn))}.")]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="OUT", help="Write the quality report as one HTML page.")
]
LengthOption = Annotated[int, typer.Option("--max-length", min=16, help="Tokens of a row that training would keep.")]


@app.command(epilog="Example: spotune data check train.jsonl --model HuggingFaceTB/SmolLM2-135M-Instruct")
def check(
    file: Annotated[Path, typer.Argument(help="A JSONL file.", show_default=False)],
    model: Annotated[
        str | None, typer.Option("--model", help="Count tokens as this model does: a folder, or a cached model's name.")
    ] = None,
    max_length: LengthOption = DEFAULT_MAX_LENGTH,
    objective: ObjectiveOption = "supervised",
    loss_on: LossOnOption = "assistant",
    validation: Annotated[
        Path | None, typer.Option("--validation", help="A file to evaluate on: what it shares with FILE is noticed.")
    ] = None,
    html: HtmlOption = None,
    toxic: Annotated[bool, typer.Option("--toxic", help="Look for toxic words as well (English).")] = False,
    json: JsonOption = False,
) -> int:
    """Check a dataset: faults with their lines, and its quality. Exits 2 where it would be refused.

    What is noticed of its quality (duplicates, leaks, damage, personal data and secrets, ...) refuses nothing.
    """
    from spotune.cli.quality import quality, write_page
    from spotune.data.quality import QualityCheck

    screen = Screen(machine=json)
    check_one = partial(
        check_file,
        tokenizer=None if model is None else tokenizer_of(model_folder(model)),
        max_length=max_length,
        objective=_one_of("--objective", objective, _OBJECTIVES),
        loss_on=_one_of("--loss-on", loss_on, _LOSS_ON),
    )
    looks = [QualityCheck(toxic=toxic)]
    reports = [check_one(file, quality=looks[0])]
    if validation is not None:
        looks.append(QualityCheck(toxic=toxic, training=looks[0]))
        reports.append(check_one(validation, quality=looks[1]))
    if html is not None:
        write_page(html, [look.report for look in looks])
    shown = [
        one.model_dump(mode="json") | {"quality": look.report.model_dump(mode="json")}
        for one, look in zip(reports, looks, strict=True)
    ]
    screen.emit(shown[0] if validation is None else shown[0] | {"validation": shown[1]})
    for report, look in zip(reports, looks, strict=True):
        screen.show(render.dataset(report))
        screen.show(quality(look.report))
    good = all(report.ok for report in reports)
    screen.say(f"\n{_verdict(good=good, noticed=any(look.report.issues for look in looks))}")
    return 0 if good else 2


def _verdict(*, good: bool, noticed: bool) -> str:
    if not good:
        return "Refused: mend the faults and check again."
    return "A job would take it. Look at what was noticed first." if noticed else "Good to train on."


@app.command(epilog="Example: spotune data preview train.jsonl --model HuggingFaceTB/SmolLM2-135M-Instruct")
def preview(
    file: Annotated[Path, typer.Argument(help="A JSONL file.", show_default=False)],
    model: Annotated[str, typer.Option("--model", help="A base model's folder, or a cached model's name.")],
    rows: Annotated[int, typer.Option(min=1, max=1000, help="How many rows, from the first.")] = 3,
    loss_on: LossOnOption = "assistant",
    max_length: LengthOption = DEFAULT_MAX_LENGTH,
    json: JsonOption = False,
) -> int:
    """Show rows as the model would read them, with the tokens that it would learn marked. Exits 2 for bad rows."""
    from spotune.cli import preview as views
    from spotune.data import preview as pure
    from spotune.data.faults import FaultList
    from spotune.data.formats import read_examples

    screen = Screen(machine=json)
    learned = _one_of("--loss-on", loss_on, _LOSS_ON)
    tokenizer, faults = tokenizer_of(model_folder(model)), FaultList()
    with _opened(file) as stream:
        examples = list(islice(read_examples(_chunks(stream.read), faults), rows))
    shown: list[pure.Shown] = []
    for row in examples:
        try:
            shown += pure.preview(row, tokenizer, max_length=max_length, loss_on=learned)
        except DatasetRefused as refused:
            faults.note(row.number, refused)
    screen.emit({"rows": [asdict(one) for one in shown], "faults": [one.model_dump() for one in faults.faults]})
    screen.show(views.shown(shown, colours=screen.colours))
    if faults.faults:
        screen.show(render.faults(faults.faults))
    return 2 if faults.count else 0


@app.command("quality", epilog="Example: spotune data quality ftjob-... --html report.html")
def quality_of_job(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.", show_default=False)],
    html: HtmlOption = None,
    json: JsonOption = False,
) -> None:
    """Show what was noticed of a job's files when they were checked."""
    from spotune.cli.quality import quality, write_page

    screen = Screen(machine=json)
    with Api(find_connection()) as api:
        answer = api.quality(job_id)
    reports = [answer.training, *([answer.validation] if answer.validation is not None else [])]
    if html is not None:
        write_page(html, reports)
    screen.emit(answer.model_dump(mode="json"))
    for report in reports:
        screen.show(quality(report))


def check_file(
    file: Path,
    tokenizer: RowTokenizer | None,
    *,
    max_length: int,
    objective: Objective = "supervised",
    loss_on: LossOn = "assistant",
    quality: QualityCheck | None = None,
) -> DatasetReport:
    """The report on a file of this machine; `quality` looks at its rows meanwhile.

    Raises:
        RequestRefused: it cannot be read.
    """
    from spotune.data.checks import check_dataset  # here, since most commands need no tokenizer

    with _opened(file) as stream:
        return check_dataset(
            _chunks(stream.read),
            uri=str(file),
            tokenizer=tokenizer,
            max_length=max_length,
            objective=objective,
            loss_on=loss_on,
            quality=quality,
        )


def check_golden_file(file: Path, tokenizer: RowTokenizer | None, *, max_length: int) -> GoldenReport:
    """The report on a golden file of this machine.

    Raises:
        RequestRefused: it cannot be read.
    """
    from spotune.data.golden_checks import check_golden  # as above

    with _opened(file) as stream:
        return check_golden(_chunks(stream.read), uri=str(file), tokenizer=tokenizer, max_length=max_length)


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
        remedy="Give a folder with tokenizer.json and tokenizer_config.json; of a model on the hub: "
        f"hf download {model} --local-dir {cached_model(model)}",
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


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    try:
        with file.open("rb") as stream:
            yield stream
    except OSError as error:
        raise RequestRefused(f"Cannot read {file}: {error.strerror}.", code="file_unreadable") from None


def _one_of(option: str, given: str, words: Mapping[str, Word]) -> Word:
    """An option's value as one of the contract's words."""
    if given in words:
        return words[given]
    raise RequestRefused(
        f"{option} is {given!r}, not one of {', '.join(words)}.",
        code="invalid_value",
        param=option.strip("-").replace("-", "_"),
    )


def _chunks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while chunk := read(CHUNK_BYTES):
        yield chunk
