"""`plan`: what a job would take, from the API where there is one, else worked out on this machine."""

from __future__ import annotations

import json as json_format
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spotune.cli import render
from spotune.cli.client import Api
from spotune.cli.connection import find_connection
from spotune.cli.data import check_file, check_golden_file, model_folder, tokenizer_of
from spotune.cli.explanation import explain as explain_type
from spotune.cli.explanation import lines
from spotune.cli.jobfile import GOLDEN_FIELD, Draft
from spotune.cli.jobs import (
    BudgetOption,
    FileArgument,
    HoursOption,
    ModelOption,
    SetOption,
    TrainingOption,
    ValidationOption,
    draft_of,
    with_uploads,
)
from spotune.cli.plot import check_target, write_plot
from spotune.cli.screen import JsonOption, Screen
from spotune.contracts.api import DatasetPair, PlanObject
from spotune.contracts.base import MICRO, MicroUSD
from spotune.contracts.dataset import DatasetReport, GoldenReport
from spotune.contracts.errors import DatasetRefused, RequestRefused, Unavailable
from spotune.contracts.job import ModelReference
from spotune.contracts.request import JobRequest

if TYPE_CHECKING:
    from spotune.data.tokens import RowTokenizer

DEFAULT_BUDGET_USD = 25.0
"""As the template's: the cap of a job that names none."""


def plan(
    file: FileArgument = None,
    model: ModelOption = None,
    training_file: TrainingOption = None,
    validation_file: ValidationOption = None,
    budget: BudgetOption = None,
    within_hours: HoursOption = None,
    assignments: SetOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the API; upload nothing.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw cost against time into this .png, .svg or .html.")
    ] = None,
    explain: Annotated[
        str | None, typer.Option("--explain", metavar="TYPE", help="Say why this instance type was not chosen.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say what a job would take: machines, hours, dollars, with intervals. Nothing is started."""
    screen = Screen(machine=json)
    if plot is not None:
        check_target(plot)
    draft = draft_of(file, model, training_file, validation_file, budget, within_hours, assignments)
    ask = plan_offline if offline else partial(_plan, screen=screen)
    answer = ask(draft)
    if explain is not None:
        explanation = explain_type(explain, answer, draft, ask)
        screen.emit(explanation.model_dump(mode="json"))
        screen.say("\n".join(lines(explanation)))
        return
    screen.emit(answer.model_dump(mode="json"))
    screen.show(render.plan(answer, now=time.time()))
    if plot is not None:
        write_plot(answer.plan, f"{draft.request.model}: cost against time", plot)
        screen.note(f"Drawn into {plot}.")


def plan_offline(draft: Draft) -> PlanObject:
    """The plan by this machine's catalog; tokens are counted where the model's tokenizer lies here, else estimated.

    Raises:
        RequestRefused: the dataset is not on this machine, or the model is not known on it.
        DatasetRefused: the dataset has faults.
        PlanRefused: nothing meets the constraints.
    """
    from spotune import planner

    request = draft.request
    config, tokenizer = model_of(request)
    architecture = planner.read_architecture(config)
    limit = planner.sequence_limit(request, architecture)
    datasets = {name: path for name, path in draft.files.items() if name != GOLDEN_FIELD}
    reports = {name: _checked(name, path, tokenizer, limit, request) for name, path in datasets.items()}
    if "training_file" not in reports:
        raise RequestRefused(
            f"{request.training_file} is not on this machine.",
            code="file_not_here",
            param="training_file",
            remedy="Give a path, or plan through the API.",
        )
    training, validation = reports["training_file"], reports.get("validation_file")
    golden = _golden(draft, tokenizer, architecture.context)
    prepared = planner.prepare(
        request,
        job_id="ftjob-plan",
        model=ModelReference(name=request.model, uri="", parameters=architecture.parameters),
        architecture_config=config,
        training=training,
        validation=validation,
        cap=request.constraints.budget or _default_budget(),
        now=time.time(),
        judged=planner.Judged(golden=golden),
    )
    return PlanObject(
        plan=prepared.plan,
        settings=prepared.settings,
        dataset=DatasetPair(training=training, validation=validation, golden=golden),
        config=prepared.config,
    )


def _plan(draft: Draft, *, screen: Screen) -> PlanObject:
    try:
        with Api(find_connection()) as api:
            return api.plan(with_uploads(api, draft, screen))
    except Unavailable as error:
        if error.code not in ("api_not_configured", "api_unreachable"):
            raise
        screen.note(f"{error}\nPlanned on this machine instead.")
        return plan_offline(draft)


def model_of(request: JobRequest) -> tuple[dict[str, object], RowTokenizer | None]:
    """The model's `config.json` and tokenizer, from its folder on this machine, else the bundled facts alone."""
    from spotune import planner

    try:
        folder = model_folder(request.model)
    except RequestRefused:
        config = planner.known_config(request.model)
        if config is None:
            raise
        return config, None
    return json_format.loads((folder / "config.json").read_bytes()), tokenizer_of(folder)


def _checked(name: str, path: Path, tokenizer: RowTokenizer | None, limit: int, request: JobRequest) -> DatasetReport:
    report = check_file(
        path, tokenizer, max_length=limit, objective=request.objective, loss_on=request.training.loss_on
    )
    if not report.ok:
        raise _faulty(name, path, report, f"See them with `spotune data check {path}`.")
    return report


def _golden(draft: Draft, tokenizer: RowTokenizer | None, context: int) -> GoldenReport | None:
    path = draft.files.get(GOLDEN_FIELD)
    if path is None:
        return None
    report = check_golden_file(path, tokenizer, max_length=context)
    if not report.ok:
        first = report.faults[0]
        raise _faulty(GOLDEN_FIELD, path, report, f"The first, line {first.line}: {first.message}. {first.remedy}")
    return report


def _faulty(name: str, path: Path, report: DatasetReport | GoldenReport, remedy: str) -> DatasetRefused:
    return DatasetRefused(
        f"{path} has {report.fault_count} faults.",
        code="dataset_refused",
        param=name,
        remedy=remedy,
        details={"reports": {name: report.model_dump(mode="json", include={"fault_count", "rows", "faults"})}},
    )


def _default_budget() -> MicroUSD:
    return round(float(os.environ.get("SPOTUNE_DEFAULT_BUDGET_USD", DEFAULT_BUDGET_USD)) * MICRO)
