import csv

import pytest
import torch

from benchmarks import gpu_memory
from benchmarks.gpu_memory import grid, keep, name_of, row_of
from benchmarks.gpu_point import Measured, Point, measure, save_random
from benchmarks.measured import read_runs
from spotune.contracts.training import HardwareConfig
from tests.tiny_model import CONFIG
from training_container.device import find_machine

pytestmark = pytest.mark.torch

SMOLLM = "HuggingFaceTB/SmolLM2-135M"
MEASURED = Measured(
    allocated=4_000_000_000,
    reserved=5_000_000_000,
    paged=1_000_000_000,
    tokens_per_second=1234.56,
    precision="bf16",
    attention="sdpa",
)


class CountedMeter:
    """Stands in for the GPU's counters, which this machine lacks: what was counted between which steps."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def begin(self) -> None:
        self.calls.append("begin")

    def wait(self) -> None:
        self.calls.append("wait")

    def peaks(self) -> tuple[int, int]:
        self.calls.append("peaks")
        return 10, 20


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("random")
    save_random(CONFIG, folder)
    return folder


@pytest.mark.parametrize("method", ["full", "lora", "dora", "rslora", "ia3", "prefix"])
def test_every_method_is_trained_for_real_and_metered_from_after_loading(method, model_folder):
    point = Point(SMOLLM, method, sequence_length=32, micro_batch=2, checkpointing=False)
    meter = CountedMeter()
    machine = find_machine(HardwareConfig(micro_batch_size=2, gradient_checkpointing=False))
    measured = measure(point, model_folder, machine, meter)
    assert meter.calls == ["begin", "wait", "wait", "peaks"]
    assert (measured.allocated, measured.reserved, measured.paged) == (10, 20, 0)
    assert measured.tokens_per_second > 0


def test_a_point_beyond_the_models_context_or_that_peft_refuses_is_not_in_the_grid():
    points = grid("meta-llama/Llama-2-7b-hf")
    assert {point.sequence_length for point in points} == {512, 2048}
    assert not any(point.method == "prefix" and point.checkpointing for point in points)
    assert {point.method for point in points} == set(gpu_memory.METHODS)
    assert len(points) == len(set(points))


@pytest.mark.parametrize(
    ("card", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100-80"),
        ("NVIDIA A100-SXM4-40GB", "A100-40"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA L40S", "L40S"),
        ("Tesla V100-SXM2-16GB", "V100-16"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA Something New", "NVIDIA-Something-New"),
    ],
)
def test_a_card_has_its_name_in_the_catalog(card, name):
    assert name_of(card) == name


def test_a_measured_row_is_read_back_with_the_paged_states_in_its_peak(tmp_path):
    point = Point(SMOLLM, "qlora", sequence_length=512, micro_batch=4, checkpointing=True)
    path = tmp_path / "measured_A10G.csv"
    keep(row_of(point, MEASURED, "NVIDIA A10G", "A10G"), path)
    (run,), unmapped = read_runs(path)
    assert unmapped == []
    assert run.peak == 6_000_000_000
    assert run.speed == 1234.6
    assert run.layout.checkpointing
    assert (run.work.method, run.layout.micro_batch) == ("qlora", 4)


def test_a_point_measured_again_takes_the_place_of_its_row(tmp_path):
    path = tmp_path / "measured_A10G.csv"
    for method, speed in [("lora", 1.0), ("qlora", 2.0), ("lora", 3.0)]:
        point = Point(SMOLLM, method, sequence_length=512, micro_batch=4, checkpointing=True)
        measured = Measured(1, 2, 0, speed, "bf16", "sdpa")
        keep(row_of(point, measured, "NVIDIA A10G", "A10G"), path)
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["method"], row["tokens_per_second"]) for row in rows] == [("lora", "3.0"), ("qlora", "2.0")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so(capsys):
    gpu_memory.main()
    assert capsys.readouterr().out == "This machine has no CUDA GPU: nothing was measured.\n"
