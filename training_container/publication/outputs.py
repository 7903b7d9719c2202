"""What follows when the model folder is complete: everything is loaded anew and compared, and the extras are made.

Nothing here can cost the adapter: where time, memory or disk end, the extra is left out and the report says so. Only
an adapter that does not load as it was trained takes everything back.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError

from spotune.contracts.outputs import check_mergeable
from spotune.contracts.training import PublishedOutput, TrainingReport
from training_container.device import Machine
from training_container.faults import Stopped, TrainingFault
from training_container.inputs import Inputs
from training_container.loading import load_base
from training_container.memory import forget
from training_container.methods import has_adapter
from training_container.methods.published import load_adapter
from training_container.progress import Reporter
from training_container.publication.folder import copy_tokenizer, describe, empty
from training_container.publication.gguf_file import check_convertible, load_gguf, write_gguf
from training_container.publication.merged import sixteen_bit, unquantized, write_merged
from training_container.publication.plot import draw
from training_container.publication.probe import EIGHT_BITS, ROUNDED, SAME, Mismatch, Probe
from training_container.stop import StopRequest

T = TypeVar("T")

MARGIN_SECONDS = 5.0
"""Before the time limit everything is written."""
PICTURE_SECONDS = 5.0
WHOLE_FACTOR = 3.0
"""Merging, or writing GGUF, is expected to take at most this many times what loading the model takes."""
MERGED, GGUF = "merged", "gguf"


VOCABULARY_SECONDS = 20.0
"""transformers' reader of GGUF takes about this for SmolLM2's 49,152 tokens, whatever the weights (one idle core)."""


class _OutOfTime(Exception):
    """The time limit comes before the end of what was begun."""


@dataclass(slots=True)
class Extras:
    """Makes them one after the other. `loading_seconds`: what loading the model took at the start."""

    inputs: Inputs
    probe: Probe
    reporter: Reporter
    stop: StopRequest
    loading_seconds: float

    def add_to(self, report: TrainingReport) -> TrainingReport:
        """Check and complete the model folder; returns the report as it stands there.

        Raises:
            Mismatch: what was published does not load as it was trained; the folder is empty again.
        """
        made: list[PublishedOutput] = []
        warnings: list[str] = []
        for name, seconds, make in self._steps(report):
            why = self._try(make, seconds, made)
            if why is not None:
                warnings.append(f"{name} was left out: {why}")
        report = report.with_(outputs=tuple(made), warnings=(*report.warnings, *warnings))
        describe(self._folder, self.inputs.config, report)
        return report

    @property
    def _folder(self) -> Path:
        return self.inputs.folders.model

    @property
    def _whole(self) -> bool:
        return not has_adapter(self.inputs.config.method)

    def _steps(self, report: TrainingReport) -> Iterator[tuple[str, float, Callable[[], PublishedOutput | None]]]:
        """Name, expected seconds and work of each."""
        wanted = self.inputs.config.outputs
        yield "Loading what was published again", self.loading_seconds, self._read_back
        yield "The plot", PICTURE_SECONDS, lambda: self._plot(report)
        if wanted.merged and not self._whole:
            yield "The merged model", WHOLE_FACTOR * self.loading_seconds, self._merged
        if wanted.gguf is not None:
            yield "The GGUF file", VOCABULARY_SECONDS + 2 * WHOLE_FACTOR * self.loading_seconds, self._gguf

    def _try(
        self, make: Callable[[], PublishedOutput | None], seconds: float, made: list[PublishedOutput]
    ) -> str | None:
        """Make one; returns why it is left out, if it is."""
        try:
            with self.stop.at_once():
                self._check(seconds)
                output = make()
            made += [output] if output is not None else []
            return None
        except Stopped:
            return "the run was asked to stop."
        except _OutOfTime:
            return "the time limit comes first."
        except ImportError as error:
            return f"{error.name} is not installed."
        except TrainingFault as fault:
            return fault.message
        except Mismatch as mismatch:
            if make == self._read_back:
                empty(self._folder)
                raise
            return f"{mismatch}."
        except Exception as error:  # of whatever library: what is optional costs the adapter nothing
            if make == self._read_back and not isinstance(error, OSError | SafetensorError | torch.OutOfMemoryError):
                raise
            return f"{type(error).__name__}: {error}"
        finally:
            shutil.rmtree(self.inputs.folders.scratch, ignore_errors=True)

    def _check(self, seconds: float = 0.0) -> None:
        self.stop.check()
        if self.reporter.counted + seconds > self.inputs.config.limits.max_runtime_seconds - MARGIN_SECONDS:
            raise _OutOfTime

    def _read_back(self) -> PublishedOutput:
        """The adapter over a base model that is loaded again, or the whole model; where the GPU is full, on the CPU."""
        machine = self.probe.machine
        bound = ROUNDED if self._whole or machine.precision != "fp32" else SAME
        what = "What was published, loaded again,"
        error = _on(machine, lambda place: self.probe.on(place).check(self._load(place), bound, what))
        pattern = "*.safetensors"
        size = sum(path.stat().st_size for path in self._folder.glob(pattern))
        return PublishedOutput(name="model" if self._whole else "adapter", path=".", bytes=size, difference=error)

    def _load(self, machine: Machine) -> Any:
        config = self.inputs.config
        if self._whole:
            return load_base(self._folder, unquantized(config), machine)
        return load_adapter(load_base(self.inputs.model, config, machine), self._folder)

    def _plot(self, report: TrainingReport) -> None:
        draw(self.reporter.metrics.points(), report.best_step, self._folder)

    def _merged(self) -> PublishedOutput:
        made = self.inputs.folders.scratch / MERGED
        error = self._merge_into(made)[1]
        size = _bytes(made)
        shutil.move(made, self._folder / MERGED)
        return PublishedOutput(name=MERGED, path=MERGED, bytes=size, difference=error)

    def _merge_into(self, made: Path) -> tuple[Probe, float]:
        """Merge, load again and compare; returns what the merged model is to say, and how near it comes."""
        expected = _on(self.probe.machine, lambda place: self._write_merged(made, place))
        copy_tokenizer(self.inputs.model, made)
        forget()
        machine = sixteen_bit(self.inputs.model, self.probe.machine)
        return expected, _on(machine, lambda place: self._check_merged(made, expected, place))

    def _write_merged(self, made: Path, place: Machine) -> Probe:
        """16 bits take up to four times what a quantized model was trained in."""
        config, probe = self.inputs.config, self.probe.on(place)
        return write_merged(
            made, adapter=self._folder, base=self.inputs.model, config=config, probe=probe, check=self._check
        )

    def _check_merged(self, made: Path, expected: Probe, place: Machine) -> float:
        model = load_base(made, unquantized(self.inputs.config), place)
        return expected.on(place).check(model, ROUNDED, "The merged model")

    def _gguf(self) -> PublishedOutput:
        kind = self.inputs.config.outputs.gguf
        if kind is None:
            raise ValueError("no type was asked for")
        scratch = self.inputs.folders.scratch
        source, expected = self._folder, self.probe
        if not self._whole:
            source = scratch / MERGED
            expected, _ = self._merge_into(source)
            forget()
        # In a folder of its own: beside an adapter's config transformers would read that instead.
        made = scratch / GGUF / f"{self.inputs.config.job_id}-{kind}.gguf"
        made.parent.mkdir(parents=True)
        write_gguf(made, source, kind, self.inputs.config.model.name.rpartition("/")[2], self._check)
        error = _on(self.probe.machine, lambda place: self._check_gguf(made, expected, place))
        size = made.stat().st_size
        shutil.move(made.parent, self._folder / GGUF)
        return PublishedOutput(name=GGUF, path=f"{GGUF}/{made.name}", bytes=size, difference=error)

    def _check_gguf(self, made: Path, expected: Probe, place: Machine) -> float:
        bound = EIGHT_BITS if self.inputs.config.outputs.gguf == "q8_0" else ROUNDED
        return expected.on(place).check(load_gguf(made, place.dtype, place.device), bound, "The GGUF file")


def check_outputs(inputs: Inputs) -> None:
    """Refuse outputs that cannot be made, before anything is trained.

    Raises:
        RequestRefused: the method cannot be merged, or the tokenizer is not written as GGUF.
        TrainingFault: the base model is not.
    """
    config, wanted = inputs.config, inputs.config.outputs
    check_mergeable(config.method, merged=wanted.merged, gguf=wanted.gguf)
    if wanted.gguf is not None:
        check_convertible(inputs.model)


def _on(machine: Machine, work: Callable[[Machine], T]) -> T:
    """`work` on the machine, or on its CPU where the GPU's memory does not suffice."""
    try:
        return work(machine)
    except torch.OutOfMemoryError:
        pass  # outside the handler: the exception holds the memory of what failed
    forget()
    return work(replace(machine, device=torch.device("cpu")))


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
