"""`image build` and `image push`: the training image, and its place in ECR."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from spotune.cli import blocks, words
from spotune.cli.screen import JsonOption, Screen
from spotune.cli.settings_file import DEFAULT_FILE, SettingsOption, read_settings, replace_setting
from spotune.contracts.errors import RequestRefused
from spotune.deploy.account import Account
from spotune.deploy.image.builders import BuilderName, Layer, build, find_builder, local_reference
from spotune.deploy.image.context import CPU_BASE, Accelerator, ImageSpec
from spotune.deploy.image.registry import Registry, push

app = typer.Typer(help="Build the training image and put it into ECR.", no_args_is_help=True)

INSTRUCTION_WIDTH = 90

_PREFIX = re.compile(r"^(RUN )?(\|\d+ .*?(?=/bin/sh -c ))?(/bin/sh -c )?(#\(nop\) +)?(--mount=\S+ +)*")

AcceleratorOption = Annotated[Accelerator, typer.Option("--accelerator", help="What it computes on.")]
BaseOption = Annotated[
    str | None,
    typer.Option("--base", metavar="IMAGE", help=f"Stand on this image. Usual: NVIDIA's for CUDA 13; {CPU_BASE}."),
]
FlashOption = Annotated[
    str | None,
    typer.Option("--flash-attention", metavar="URL", help="A wheel to install, as https://...whl#sha256=..."),
]
BuilderOption = Annotated[
    BuilderName | None, typer.Option("--builder", help="What builds it; otherwise the first one that works here.")
]


@app.command("build", epilog="Example: spotune image build")
def build_image(
    accelerator: AcceleratorOption = "cuda",
    base: BaseOption = None,
    flash_attention: FlashOption = None,
    builder: BuilderOption = None,
    json: JsonOption = False,
) -> None:
    """Build the training image on this machine. What has not changed since the last time is not built again."""
    screen = Screen(machine=json)
    spec = ImageSpec(accelerator, base, flash_attention)
    chosen = find_builder(builder)
    reference = build(chosen, spec)
    layers = chosen.layers(reference)
    screen.emit(
        {
            "image": reference,
            "base": spec.base_reference,
            "builder": chosen.name,
            "bytes": sum(layer.bytes for layer in layers),
            "layers": [
                {"made_by": instruction(layer), "bytes": layer.bytes, "digest": layer.digest} for layer in layers
            ],
        }
    )
    listed = blocks.table("layer", "size", "made by")
    for number, layer in enumerate(layers, 1):
        blocks.add_row(listed, str(number), words.size(layer.bytes), instruction(layer)[:INSTRUCTION_WIDTH])
    total = words.size(sum(layer.bytes for layer in layers))
    screen.say(f"{reference}: {total} unpacked, built by {chosen.name}")
    screen.show(listed)
    if spec.base_digest is None:
        screen.say(tag_moves(spec.base_reference), style="yellow")
    screen.say("Send it to ECR with the same options: spotune image push")


@app.command("push", epilog="Example: spotune image push --settings staging.yaml")
def push_image(
    accelerator: AcceleratorOption = "cuda",
    base: BaseOption = None,
    flash_attention: FlashOption = None,
    builder: BuilderOption = None,
    settings: SettingsOption = DEFAULT_FILE,
    json: JsonOption = False,
) -> None:
    """Send the built image to the installation's ECR, and name it in its settings by its digest."""
    screen = Screen(machine=json)
    spec = ImageSpec(accelerator, base, flash_attention)
    told = read_settings(settings)
    chosen = find_builder(builder)
    reference = local_reference(spec)
    if not chosen.has(reference):
        raise RequestRefused(
            f"{chosen.name} has no image {reference}: it was not built here, or the code has changed since.",
            code="image_not_here",
            remedy="Build it first, with the same options: spotune image build",
        )
    pushed = push(chosen, reference, Registry(Account(told.region), key=told.kms_key_arn))
    replace_setting(settings, "image", pushed.uri)
    screen.emit({"image": pushed.uri, "sent": pushed.sent, "settings": str(settings)})
    screen.say(f"{'Sent' if pushed.sent else 'It was there already'}: {pushed.uri}")
    screen.say(f"{settings} names it; the next spotune deploy runs jobs with it.")


def tag_moves(base: str) -> str:
    """Warns of a base without a digest, and says how to pin it."""
    repository = re.sub(r":[^:/]+$", "", base)
    return (
        f"Note: the base {base} is not pinned; its tag may name another image tomorrow. To pin it, ask for its digest "
        f"(docker buildx imagetools inspect {base}) and build with --base {repository}@sha256:..."
    )


def instruction(layer: Layer) -> str:
    """What made a layer, as the Dockerfile says it: without what builders put before it."""
    return " ".join(_PREFIX.sub("", layer.made_by, count=1).split())
