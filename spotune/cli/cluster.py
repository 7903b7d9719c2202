"""`render`: a job as manifests, for a cluster of one's own instead of SageMaker."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import yaml

from spotune.cli.client import Api
from spotune.cli.connection import find_connection
from spotune.cli.jobfile import GOLDEN_FIELD, Draft, merge, parse_assignments
from spotune.cli.jobs import SetOption, draft_of, with_uploads
from spotune.cli.planning import model_of, plan_offline
from spotune.cli.screen import JsonOption, Screen
from spotune.clusters import (
    Machine,
    Manifest,
    Placement,
    Workload,
    check_name,
    kubeflow_manifests,
    kubernetes_manifests,
    name_of,
    parse_labels,
    parse_toleration,
)
from spotune.clusters.placement import GPU_NODES
from spotune.contracts.api import DatasetPair, PlanObject
from spotune.contracts.dataset import DatasetReport, GoldenReport
from spotune.contracts.errors import NotFound, RequestRefused
from spotune.contracts.layout import split_uri

CHANNELS = {"training_file": "training", "validation_file": "validation", GOLDEN_FIELD: "golden"}
"""Of the container, by the field of the request that names its file."""


class Target(StrEnum):
    """What the cluster understands."""

    KUBERNETES = "kubernetes"
    KUBEFLOW = "kubeflow"


@dataclass(frozen=True, slots=True)
class Source:
    """A planned job, and where its data lies. `uploads` are to be done by hand first: from here, to there."""

    name: str
    answer: PlanObject
    parameters: int
    channels: dict[str, str]
    uploads: tuple[tuple[str, str], ...] = ()


def render(
    job: Annotated[str, typer.Argument(metavar="JOB", help="A job file, or a failed or cancelled job's id.")],
    target: Annotated[Target, typer.Option("--target", help="A Job, or Kubeflow Trainer's TrainJob.")],
    image: Annotated[str, typer.Option("--image", help="The training image, where the cluster pulls it from.")],
    storage: Annotated[str, typer.Option("--storage", help="An s3:// folder for checkpoints and results.")],
    assignments: SetOption = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no API; you upload the data to the storage folder yourself.")
    ] = False,
    name: Annotated[str | None, typer.Option("--name", help="Of the run; the job's id, or made of its file.")] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", help="In place of kubectl's own.")] = None,
    service_account: Annotated[
        str | None, typer.Option("--service-account", help="That may read the data and write the storage folder.")
    ] = None,
    secret: Annotated[
        str | None, typer.Option("--secret", help="A secret whose keys become environment variables, AWS's own names.")
    ] = None,
    node_selector: Annotated[
        list[str] | None,
        typer.Option("--node-selector", metavar="KEY=VALUE", help="In place of the plan's instance type; repeat it."),
    ] = None,
    toleration: Annotated[
        list[str] | None,
        typer.Option("--toleration", metavar="KEY[=VALUE]:EFFECT", help="Beside that of GPU nodes; may be repeated."),
    ] = None,
    storage_class: Annotated[
        str | None, typer.Option("--storage-class", help="For a volume of its own instead of the node's disk.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write them into this file instead of printing.")] = None,
    json: JsonOption = False,
) -> None:
    """Write the manifests that run a job on a Kubernetes cluster: the same image, the same container."""
    screen = Screen(machine=json)
    placement = Placement(
        namespace=namespace,
        service_account=service_account,
        secret=secret,
        node_selector=parse_labels(node_selector) if node_selector is not None else None,
        tolerations=(GPU_NODES, *map(parse_toleration, toleration or ())),
        storage_class=storage_class,
    )
    folder = _folder(storage)
    source = _source(job, assignments or [], folder, name, screen, offline=offline)
    run = _workload(source, image, folder)
    make = kubeflow_manifests if target is Target.KUBEFLOW else kubernetes_manifests
    manifests = make(run, placement)
    screen.emit({"apiVersion": "v1", "kind": "List", "items": manifests})
    if out is not None:
        out.write_text(as_yaml(manifests), encoding="utf-8")
    elif not json:
        sys.stdout.write(as_yaml(manifests))
    for here, there in source.uploads:
        screen.note(f"Upload first: aws s3 cp {'--recursive ' if there.endswith('/') else ''}{here} {there}")
    screen.note(f"Its model will lie in {run.folder}output/model/, its checkpoints in {run.folder}checkpoints/")


def as_yaml(manifests: list[Manifest]) -> str:
    """One document an object; texts of several lines as such."""
    return yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=False, explicit_start=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Writes out what is there twice, and texts of several lines line by line."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _folder(storage: str) -> str:
    folder = storage if storage.endswith("/") else f"{storage}/"
    try:
        split_uri(folder)
    except ValueError as error:
        raise RequestRefused(
            f"{error}.", code="uri_invalid", param="storage", remedy="Write s3://bucket/folder/."
        ) from None
    return folder


def _source(
    job: str, assignments: list[str], folder: str, name: str | None, screen: Screen, *, offline: bool
) -> Source:
    path = Path(job)
    if not (path.is_file() or path.suffix in (".yaml", ".yml", ".json")):
        return _of_job(job, assignments, name)
    draft = draft_of(path, None, None, None, None, None, assignments)
    return _offline(draft, path.stem, folder, name) if offline else _of_file(draft, path.stem, name, screen)


def _of_job(job_id: str, assignments: list[str], name: str | None) -> Source:
    """As its retry would be, which the API refuses while the job may still run elsewhere."""
    with Api(find_connection()) as api:
        answer = api.plan_retry(job_id, merge({}, parse_assignments(assignments)))
        return _of_answer(api, answer, check_name(name or job_id))


def _of_file(draft: Draft, stem: str, name: str | None, screen: Screen) -> Source:
    with Api(find_connection()) as api:
        answer = api.plan(with_uploads(api, draft, screen))
        return _of_answer(api, answer, _name(name, stem, answer))


def _of_answer(api: Api, answer: PlanObject, name: str) -> Source:
    """The base model and the champion are where the API has them."""
    models = {model.id: model.spotune for model in api.models().data}
    wanted = {"model": answer.config.model.name}
    if answer.config.champion is not None:
        wanted["champion"] = answer.config.champion.name
    for model in wanted.values():
        if model not in models:
            raise NotFound(
                f"The API has no model {model}.",
                code="model_not_found",
                param="model",
                remedy="List those that it has with `spotune models base`.",
            )
    uris = {channel: models[model].uri for channel, model in wanted.items()}
    channels = {channel: report.uri for channel, report in _reports(answer.dataset).items()}
    return Source(name, answer, models[wanted["model"]].parameters or 0, {**channels, **uris})


def _offline(draft: Draft, stem: str, folder: str, name: str | None) -> Source:
    """Everything is laid into the storage folder, under the run's name."""
    from spotune import planner

    answer = plan_offline(draft)
    named = _name(name, stem, answer)
    inputs = f"{folder}{named}/inputs/"
    files = {CHANNELS[field]: path for field, path in draft.files.items()}
    channels = {channel: f"{inputs}{channel}/{path.name}" for channel, path in files.items()}
    channels["model"] = f"{inputs}model/"
    uploads = [(str(path), channels[channel]) for channel, path in files.items()]
    config, _ = model_of(draft.request)
    uploads.append((f"<folder of {draft.request.model}>", channels["model"]))
    return Source(named, answer, planner.read_architecture(config).parameters, channels, tuple(uploads))


def _name(name: str | None, stem: str, answer: PlanObject) -> str:
    reports = _reports(answer.dataset)
    return check_name(name or name_of(stem, answer.config, {key: one.sha256 for key, one in reports.items()}))


def _reports(dataset: DatasetPair) -> dict[str, DatasetReport | GoldenReport]:
    reports = {"training": dataset.training, "validation": dataset.validation, "golden": dataset.golden}
    return {channel: report for channel, report in reports.items() if report is not None}


def _workload(source: Source, image: str, folder: str) -> Workload:
    """The chosen machines, whatever market they were planned in."""
    from spotune import planner

    answer, chosen = source.answer, source.answer.plan.chosen
    spec = planner.load_catalog().instances[chosen.instance_type]
    files = sum(report.bytes for report in _reports(answer.dataset).values())
    champion = 2 * source.parameters if answer.config.champion is not None else 0
    return Workload(
        name=source.name,
        config=answer.config.with_(job_id=source.name),
        channels=source.channels,
        storage=folder,
        image=image,
        hosts=chosen.instance_count,
        machine=Machine(
            instance_type=chosen.instance_type.removeprefix("ml."),
            gpus=chosen.gpus // chosen.instance_count,
            cpus=spec.vcpus,
            memory_gib=spec.ram_gib,
            disk_gb=planner.disk_gb(answer.config, source.parameters, files, champion),
        ),
        interruptions=chosen.interruptions,
    )
