"""Whether the machine can do what the image was built for: the first look of a run, before it reads or computes.

    python -m training_container.health      all of it, in words; exit code as of a training job

An image for CUDA that finds no GPU would train on the CPU, for the price of a GPU and until its time limit.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import torch

from spotune.contracts.training import ExitCode, HardwareConfig, TrainingConfig
from training_container.device import Machine, find_machine
from training_container.driver import count_gpus, cross, is_too_old, read_driver
from training_container.faults import TrainingFault

ACCELERATOR = "SPOTUNE_ACCELERATOR"
"""Set by the image: `cuda` or `cpu`, whichever it was built for. Elsewhere, as on a laptop, nothing is expected."""
FLASH = "flash_attn"

_REBUILD = "Build the image anew with `spotune image build` and push it; its lists pin versions that belong together."
_ANOTHER = "It is tried again on another machine. If it fails there, too, look for the driver's words in the log."
_NF4_ERROR = 0.2
"""Values between -1 and 1 come back from NF4 with at most half its widest step, 0.15."""
_ROUNDING = 0.05


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of the accelerator before it is used."""

    built_for: str
    """`cuda`, `cpu`, or nothing."""
    gpus: int
    """By their device files."""
    driver: str | None
    cuda: str | None
    """That torch was built for."""
    words: str = ""
    """torch's own, where it cannot use CUDA."""

    @classmethod
    def here(cls, number: int = 0) -> Found:
        """This machine's; `number` is the GPU that this process computes on."""
        return cls(os.environ.get(ACCELERATOR, ""), count_gpus(), read_driver(), torch.version.cuda, _words(number))

    def fault(self) -> TrainingFault | None:
        """Why a run cannot begin here; None where it can."""
        if self.built_for == "cpu" and self.gpus:
            return TrainingFault(
                "image_without_cuda",
                f"This image was built for CPUs; the machine has {self.gpus} GPUs, which it cannot use.",
                remedy="Build and push it with `--accelerator cuda`, and deploy that.",
            )
        if self.built_for != "cuda" or not self.words:
            return None
        if self.cuda is None:
            return TrainingFault(
                "image_without_cuda",
                "This image is for GPUs, but its torch was built without CUDA.",
                evidence=f"torch {torch.__version__}",
                remedy=_REBUILD,
            )
        if self.driver is not None and is_too_old(self.driver, self.cuda):
            return TrainingFault(
                "driver_too_old",
                f"The machine's driver {self.driver} is too old for the image's CUDA {self.cuda}.",
                evidence=self.words,
                remedy="Build the image on a base with NVIDIA's compatibility libraries for this CUDA, as the default "
                "base has them, or on packages for an older CUDA.",
            )
        if not self.gpus:
            return TrainingFault(
                "gpu_missing",
                "This image is for GPUs, and the container was given none.",
                evidence=self.words,
                remedy="Start it on an instance with GPUs, and elsewhere with its runtime's option for them (docker: "
                "--gpus all). For a CPU build the image with `--accelerator cpu`.",
                exit_code=ExitCode.INTERNAL,
            )
        return TrainingFault(
            "cuda_unusable",
            f"The machine has {self.gpus} GPUs and driver {self.driver}, but CUDA does not start.",
            evidence=self.words,
            remedy=_ANOTHER,
            exit_code=ExitCode.INTERNAL,
        )


def check_accelerator(number: int = 0) -> None:
    """Before a device is chosen: what the image was built for is there, and the host's GPU of this number starts.

    No other GPU is touched: CUDA keeps memory for this process on each that is, and it is another rank's.

    Raises:
        TrainingFault: it is not, or does not.
    """
    if fault := Found.here(number).fault():
        raise fault


def check_machine(machine: Machine, config: TrainingConfig) -> Machine:
    """What this run computes with gives right answers on its device; the machine, with a warning of what it leaves out.

    Raises:
        TrainingFault: the GPU computes wrongly or has no kernels here, or bitsandbytes is needed and does not work.
    """
    check_kernels(machine)
    if config.method == "qlora" or config.quantization != "none" or config.optimization.optimizer != "adamw":
        check_bitsandbytes(machine)
    missed = flash_problem(machine)
    return (
        replace(machine, warnings=(*machine.warnings, f"flash-attention was not used: {missed}")) if missed else machine
    )


def check_kernels(machine: Machine) -> None:
    """A matrix product on the device, beside the CPU's.

    Raises:
        TrainingFault: torch has no kernels for this GPU, or it fails or errs.
    """
    if machine.device.type != "cuda":
        return
    capability, built = torch.cuda.get_device_capability(machine.device), torch.cuda.get_arch_list()
    if not has_kernels(capability, built):
        raise TrainingFault(
            "gpu_not_supported",
            f"The image's torch has no kernels for {machine.name}.",
            evidence=f"its compute capability is {capability}; torch {torch.__version__} has {', '.join(built)}",
            remedy="Leave its instance types out (constraints.instance_types), or build the image with an older CUDA.",
        )
    ones = torch.arange(64.0).repeat(64, 1) / 64
    try:
        wrong = float(((ones.to(machine.device) @ ones.T.to(machine.device)).cpu() - ones @ ones.T).abs().max())
    except RuntimeError as error:
        raise _faulty(machine, str(error)) from error
    if not wrong < _ROUNDING:
        raise _faulty(machine, f"a product of 64 x 64 is wrong by {wrong:.3g}")


def has_kernels(capability: tuple[int, int], built: list[str]) -> bool:
    """True where one of torch's architectures runs on this GPU: binary code within its generation (`sm_86` also on
    8.9), intermediate code (`compute_90`) on every later one."""
    for name in built:
        kind, _, digits = name.partition("_")
        number = int("".join(filter(str.isdigit, digits)) or 0)
        made = (number // 10, number % 10)
        if made <= capability and (kind == "compute" or made[0] == capability[0]):
            return True
    return False


def check_bitsandbytes(machine: Machine) -> None:
    """Values there and back through NF4, on the device.

    Raises:
        TrainingFault: the library does not load or compute.
    """
    values = torch.linspace(-1, 1, 4096, device=machine.device).reshape(64, 64)
    try:
        from bitsandbytes import functional

        packed, state = functional.quantize_4bit(values, quant_type="nf4")
        wrong = float((functional.dequantize_4bit(packed, state) - values).abs().max())
    except Exception as error:  # its library is loaded late, and fails in as many ways as there are machines
        raise _no_bitsandbytes(machine, f"{type(error).__name__}: {error}") from error
    if not wrong < _NF4_ERROR:
        raise _no_bitsandbytes(machine, f"NF4 gives values back that are wrong by {wrong:.3g}")


def flash_problem(machine: Machine) -> str | None:
    """Why an installed flash-attention cannot be used on this machine; None where it can, or is not installed."""
    if machine.device.type != "cuda" or find_spec(FLASH) is None:
        return None
    if torch.cuda.get_device_capability(machine.device) < (8, 0):
        return f"{machine.name} is older than its kernels (compute capability 8.0)."
    query = torch.linspace(-1, 1, 16 * 2 * 32, device=machine.device, dtype=torch.float16).reshape(1, 16, 2, 32)
    try:
        from flash_attn import flash_attn_func

        found = flash_attn_func(query, query, query, causal=True)
        heads = query.transpose(1, 2)
        known = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True).transpose(1, 2)
        wrong = float((found - known).abs().max())
    except Exception as error:  # mostly built for another torch: an ImportError of a symbol, or worse
        return f"{type(error).__name__}: {error}"
    return None if wrong < _ROUNDING else f"its answers differ from torch's own by {wrong:.2g}."


def main() -> int:
    """Say what was found and what works; 0, or the exit code of a job that would end here."""
    found = Found.here()
    print(f"image for {found.built_for or 'any machine'}; GPUs {found.gpus}; driver {found.driver or 'none'}")
    print(f"torch {torch.__version__}; CUDA {found.cuda or 'none'}")
    try:
        for line in _examined():
            print(line)
    except TrainingFault as fault:
        print(f"{fault.code}: {fault.message} {fault.evidence}\n{fault.remedy}")
        return int(fault.exit_code)
    return 0


def _examined() -> Iterator[str]:
    check_accelerator()
    machine = find_machine(HardwareConfig(micro_batch_size=1, gradient_checkpointing=False))
    checks: dict[str, Callable[[Machine], None]] = {"torch": check_kernels, "bitsandbytes": check_bitsandbytes}
    for name, check in checks.items():
        check(machine)
        yield f"{name} {version(name)}: works on {machine.name}"
    yield f"flash-attention{_flash(machine)}"


def _flash(machine: Machine) -> str:
    try:
        installed = version(FLASH)
    except PackageNotFoundError:
        return ": not installed; torch's own kernels are used"
    if machine.device.type != "cuda":
        return f" {installed}: has kernels for GPUs alone; torch's own are used"
    return f" {installed}: {flash_problem(machine) or 'works'}"


def _words(number: int) -> str:
    """Nothing where CUDA starts on this GPU, else what torch says against it."""
    try:
        torch.zeros(1, device=torch.device("cuda", number))
    except (AssertionError, RuntimeError) as error:  # a build without CUDA asserts
        return str(error) or type(error).__name__
    return ""


def _faulty(machine: Machine, evidence: str) -> TrainingFault:
    return TrainingFault(
        "gpu_faulty",
        f"{machine.name} does not compute.",
        evidence=evidence,
        remedy=_ANOTHER,
        exit_code=ExitCode.INTERNAL,
    )


def _no_bitsandbytes(machine: Machine, evidence: str) -> TrainingFault:
    return TrainingFault(
        "bitsandbytes_unusable",
        f"bitsandbytes, which this run needs, does not work on {machine.name}.",
        evidence=evidence,
        remedy=_REBUILD,
    )


if __name__ == "__main__":
    cross()  # as a run does, so that it sees what a run would see
    sys.exit(main())
