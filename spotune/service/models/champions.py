"""The champion of a job's group: what the tuned model competes with and, where that is asked for, goes on from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spotune.aws.base import ObjectMissing
from spotune.contracts.errors import RequestRefused
from spotune.contracts.job import ChampionReference, JobRecord, ModelReference, ResolvedSetting
from spotune.contracts.models import ModelVersion
from spotune.contracts.request import AdapterChoice, JobRequest
from spotune.contracts.rules import DataManifest
from spotune.contracts.training import ChampionConfig, TrainingConfig
from spotune.planner import METHOD_FIELDS
from spotune.service.installation import Installation
from spotune.service.models.files import fault_of

SHAPE = frozenset({"rank", "alpha", "target_modules", "virtual_tokens", "trained_layers"})
"""Fields of an adapter that decide what its weights mean."""


@dataclass(frozen=True, slots=True)
class Start:
    """A job's request with what its champion decides, and what was decided so."""

    request: JobRequest
    settings: tuple[ResolvedSetting, ...] = ()


def champion_of(
    here: Installation, tenant: str, request: JobRequest, model: ModelReference
) -> ChampionReference | None:
    """The champion of the request's group as it is now; None where it names no group, or the group has none.

    Raises:
        RequestRefused: training is to go on from it, and cannot; each field that differs is named.
    """
    version = _champion(here, tenant, request.registry.group)
    if version is None:
        return None
    start = request.registry.start_from == "champion"
    obstacle = _obstacle(here, request, model, version)
    if start:
        _check_start(request, model, version, _config_of(here, version, version.name), obstacle)
    return ChampionReference(
        name=version.name,
        number=version.number,
        uri=version.uri,
        start=start,
        bytes=sum(file.bytes for file in version.files),
        method=version.lineage.method,
        obstacle="" if start else obstacle,
    )


def started(here: Installation, job: JobRecord) -> Start:
    """The job's request as it is planned: it runs where its champion's files are, and takes its adapter's shape.

    Raises:
        RequestRefused: the champion that it was to go on from is not known any more, or its region is gone.
    """
    champion, request, settings = job.champion, job.request, []
    if champion is None or champion.obstacle:
        return Start(request)
    region = _region_of(here, champion.uri)
    if not region:
        raise _out_of_reach(champion.name, "its files lie in no region of this installation any more")
    if region != here.settings.region:
        settings.append(ResolvedSetting(name="regions", value=region, reason=f"the files of {champion.name} lie there"))
        request = request.with_(constraints=request.constraints.with_(regions=(region,)))
    if champion.start:
        version = here.store.find_version(job.tenant, champion.name)
        adapter = _adapter_of(_config_of(here, version, champion.name))
        taken = {name: value for name, value in adapter.items() if getattr(request.adapter, name) != value}
        request = request.with_(adapter=request.adapter.with_(**taken))
        settings += [
            ResolvedSetting(name=f"adapter.{name}", value=str(value), reason=f"that of {champion.name}")
            for name, value in taken.items()
        ]
    return Start(request, tuple(settings))


def champion_config(here: Installation, job: JobRecord) -> ChampionConfig | None:
    """What the container is told of the champion; None where it is not to be measured."""
    champion = job.champion
    if champion is None or champion.obstacle:
        return None
    return ChampionConfig(name=champion.name, start=champion.start, replayed_rows=_replayed_rows(here, job))


def _champion(here: Installation, tenant: str, name: str | None) -> ModelVersion | None:
    group = None if name is None else here.store.get_group(tenant, name)
    if group is None or group.champion is None:
        return None
    return here.store.get_version(tenant, group.name, group.champion)


def _obstacle(here: Installation, request: JobRequest, model: ModelReference, version: ModelVersion) -> str:
    """Why it cannot be measured beside the tuned model, in words; empty where it can."""
    lineage = version.lineage
    if (lineage.base, lineage.base_revision) != (model.name, model.revision):
        return f"it was trained from {_named(lineage.base, lineage.base_revision)}"
    region, allowed = _region_of(here, version.uri), request.constraints.regions
    if not region:
        return "its files lie in no region of this installation"
    if lineage.method == "dora" and request.adapter.quantization == "int8":
        return "it is a DoRA adapter, which is not computed over a base model in int8"
    if region != here.settings.region and allowed is not None and region not in allowed:
        return f"its files lie in {region}, where the job may not run"
    return fault_of(here, version)


def _region_of(here: Installation, uri: str) -> str:
    """Where a job's folder lies; empty for a region that was taken away."""
    found = (place.region for place in here.places if uri.startswith(f"s3://{place.artifacts_bucket}/"))
    return next(found, "")


def _named(base: str, revision: str) -> str:
    return f"{base} at {revision}" if revision else base


def _config_of(here: Installation, version: ModelVersion | None, name: str) -> TrainingConfig:
    """What the champion was trained with."""
    job = None if version is None else here.store.get_job(version.tenant, version.lineage.job_id)
    if job is None or job.config is None:
        raise RequestRefused(
            f"Nothing is known any more of how {name} was trained, so training cannot go on from it.",
            code="champion_unknown",
            param="registry.start_from",
            remedy="Set registry.start_from to base.",
        )
    return job.config


def _check_start(
    request: JobRequest, model: ModelReference, version: ModelVersion, config: TrainingConfig, obstacle: str
) -> None:
    differing = dict(_differences(request, model, config))
    if differing:
        said = "; ".join(f"{field}: {words}" for field, words in differing.items())
        raise RequestRefused(
            f"Training cannot go on from {version.name}, the champion of group {version.group}: {said}.",
            code="champion_differs",
            param=next(iter(differing)),
            remedy="Leave these fields out, or set registry.start_from to base.",
            details={"differences": differing},
        )
    if obstacle:
        raise _out_of_reach(version.name, obstacle)


def _out_of_reach(name: str, why: str) -> RequestRefused:
    return RequestRefused(
        f"Training cannot go on from {name}: {why}.",
        code="champion_out_of_reach",
        param="registry.start_from",
        remedy="Promote another version of its group, or set registry.start_from to base.",
    )


def _differences(request: JobRequest, model: ModelReference, config: TrainingConfig) -> Iterator[tuple[str, str]]:
    """By field: what it has, and what is asked for. What has its default in the request is not asked for."""
    if (config.model.name, config.model.revision) != (model.name, model.revision):
        base, other = _named(config.model.name, config.model.revision), _named(model.name, model.revision)
        yield "model", f"it has {base}, not {other}"
    default = AdapterChoice()
    for name, has in _adapter_of(config).items():
        asked_for = getattr(request.adapter, name)
        if asked_for not in (getattr(default, name), has):
            yield f"adapter.{name}", f"it has {_shown(has)}, not {_shown(asked_for)}"


def _adapter_of(config: TrainingConfig) -> dict[str, object]:
    """The champion's adapter in the request's words."""
    found: dict[str, object] = {"type": config.method, "quantization": config.quantization}
    for name in sorted(METHOD_FIELDS[config.method] & SHAPE):
        found[name] = getattr(config.adapter, name)
    return found


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _replayed_rows(here: Installation, job: JobRecord) -> int | None:
    """Of a retraining's dataset, as its manifest counts them."""
    rule_id, _, number = job.retraining.partition("/")
    retraining = here.store.get_retraining(job.tenant, rule_id, int(number)) if number.isdecimal() else None
    if retraining is None or retraining.manifest_uri is None:
        return None
    try:
        return DataManifest.model_validate_json(here.objects.read(retraining.manifest_uri)).replayed_rows
    except ObjectMissing:
        return None
