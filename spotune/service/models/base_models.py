"""The base models that this installation can train: folders in the models bucket that are marked complete."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

from spotune.aws.base import ObjectMissing
from spotune.contracts import layout
from spotune.contracts.base_model import BaseModelManifest
from spotune.contracts.errors import NotFound
from spotune.contracts.job import ModelReference
from spotune.data.cutting import cut_of
from spotune.data.tokens import RowTokenizer
from spotune.service.installation import Installation


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model with what planning and checking need of it."""

    reference: ModelReference
    architecture: dict[str, object]
    """Its `config.json`."""


def base_model(here: Installation, name: str) -> BaseModel:
    """The base model of this name.

    Raises:
        NotFound: it is not in the models bucket; the message names those that are.
    """
    try:
        manifest = _manifest(here, layout.base_model_uri(here.settings.mirror_bucket, name) + layout.MODEL_MARKER)
    except ObjectMissing:
        raise _unknown(here, name) from None
    reference = _reference(here, manifest)
    return BaseModel(reference, json.loads(_read(here, reference.uri, "config.json")))


def base_models(here: Installation) -> tuple[ModelReference, ...]:
    """Every base model, by name."""
    root = layout.base_model_uri(here.settings.mirror_bucket, "").rstrip("/") + "/"
    markers = sorted(one.uri for one in here.objects.list(root) if one.uri.endswith("/" + layout.MODEL_MARKER))
    found = {uri: _manifest(here, uri) for uri in markers}
    # A revision's folder has the same manifest; whether it is in force is said where the model's name leads.
    return tuple(
        _reference(here, one) for uri, one in found.items() if uri == f"{root}{one.name}/{layout.MODEL_MARKER}"
    )


def row_tokenizer(here: Installation, model: ModelReference) -> RowTokenizer:
    """The model's own tokenizer, kept in memory by folder and revision."""
    return _tokenizer(here, model.uri, model.revision)


def check_cut(here: Installation, model: ModelReference) -> None:
    """Refuse a model whose tokenizer is not written as GGUF.

    Raises:
        RequestRefused: as `cut_of`.
    """
    cut_of(json.loads(_read(here, model.uri, "tokenizer.json")))


@lru_cache(maxsize=4)
def _tokenizer(here: Installation, folder: str, revision: str) -> RowTokenizer:
    return RowTokenizer.from_files(
        _read(here, folder, "tokenizer.json"),
        _read(here, folder, "tokenizer_config.json"),
        _read_if_there(here, folder + "chat_template.jinja"),
    )


def _read(here: Installation, folder: str, name: str) -> bytes:
    """A file that every base model has.

    Raises:
        NotFound: it is gone.
    """
    try:
        return here.objects.read(folder + name)
    except ObjectMissing:
        raise NotFound(
            f"The base model's folder {folder} has no {name}.",
            code="base_model_incomplete",
            param="model",
            remedy="Have the base model added again.",
        ) from None


def _read_if_there(here: Installation, uri: str) -> bytes | None:
    try:
        return here.objects.read(uri)
    except ObjectMissing:
        return None


def _manifest(here: Installation, uri: str) -> BaseModelManifest:
    return BaseModelManifest.model_validate_json(here.objects.read(uri))


def _reference(here: Installation, manifest: BaseModelManifest) -> ModelReference:
    return ModelReference(
        name=manifest.name,
        uri=layout.base_model_folder_uri(here.settings.mirror_bucket, manifest.name, manifest.folder),
        revision=manifest.revision,
        parameters=manifest.parameters,
        sha256=manifest.sha256,
    )


def _unknown(here: Installation, name: str) -> NotFound:
    known = ", ".join(model.name for model in base_models(here)) or "none yet"
    return NotFound(
        f"Base model {name!r} is not in the models bucket.",
        code="model_not_found",
        param="model",
        remedy=f"Use one of those that are there ({known}), or have it added: spotune models add {name}.",
    )
