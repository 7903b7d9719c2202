"""Two real processes train what one does, however the step is spread; and end together, with one reason."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from spotune.contracts.request import Method
from spotune.contracts.training import ExitCode, TrainingConfig
from tests.ports import free_port
from tests.training_container.building import CONFIG, ROOT, failure_of, make_root, report_of, wait_for_step, write_rows
from tests.training_container.reigning import make_job as make_reigning
from tests.training_container.test_objectives import PREFERENCES
from training_container.device import find_machine
from training_container.faults import TrainingFault
from training_container.folders import Folders
from training_container.inputs import read_inputs
from training_container.job import run
from training_container.sharding import World, make_engine
from training_container.sharding.engine import Setting
from training_container.stop import StopRequest

pytestmark = pytest.mark.torch

DEADLINE = 400
STEPS = {"epochs": 7, "global_batch_size": 3, "learning_rate": 0.003}
"""Three sequences a step over two ranks, one of which has none in the last round; 21 steps."""
FEW = {**STEPS, "epochs": 2}
QUIET = {"evaluation": {"generation_examples": 0}}
PLAIN = {"adapter": {"dropout": 0.0}}
JOBS: dict[str, dict[str, Any]] = {
    "lora": {**PLAIN, "optimization": STEPS},
    "full": {"method": "full", "adapter": None, "optimization": FEW, **QUIET},
    "qlora": {"method": "qlora", "quantization": "nf4", **PLAIN, "optimization": FEW, **QUIET},
    "dora": {"method": "dora", **PLAIN, "optimization": FEW, **QUIET},
    "pissa": {"method": "pissa", **PLAIN, "optimization": FEW, **QUIET},
    "ia3": {"method": "ia3", "optimization": FEW, **QUIET},
    "bottleneck": {"method": "bottleneck", **PLAIN, "optimization": FEW, **QUIET},
    "freeze": {"method": "freeze", "adapter": {"trained_layers": 1}, "optimization": FEW, **QUIET},
    "prefix": {"method": "prefix", "data": {"packing": False}, "optimization": FEW, **QUIET},
    "dpo": {"objective": {"type": "dpo"}, "data": {"packing": False}, **PLAIN, "optimization": FEW, **QUIET},
}
SHARDINGS = ("ddp", "zero1", "zero2", "zero3", "fsdp")
WHERE = {
    "lora": SHARDINGS,
    "full": SHARDINGS,
    "qlora": SHARDINGS,
    "dora": ("ddp", "fsdp"),
    "pissa": ("ddp", "zero2", "zero3", "fsdp"),
    "ia3": ("fsdp",),
    "bottleneck": ("ddp", "zero3", "fsdp"),
    "freeze": ("zero2", "fsdp"),
    "prefix": ("ddp",),
    "dpo": ("zero2", "fsdp"),
}
RESUMED = ("ddp", "zero3", "fsdp")
OFFLOADED = (("zero2", "lora"), ("zero3", "full"), ("fsdp", "lora"))
REIGNING: dict[str, tuple[Method, Method, bool]] = {
    "guest": ("full", "lora", False),
    "warm": ("lora", "lora", True),
    "whole": ("full", "full", True),
}
"""By what the champion was trained, by what the job is, and whether it goes on from there."""
BESIDE = [
    *((sharding, "guest") for sharding in ("ddp", "zero3", "fsdp")),
    *((sharding, "warm") for sharding in ("ddp", "zero2", "fsdp")),
    ("zero3", "whole"),
]
LOOKS = 21
"""At its request, after which the second rank asks to stop: about the tenth step."""


def cases() -> Iterator[Any]:
    """Each with the mark that says what it proves."""
    for job, shardings in WHERE.items():
        said: dict[str, Any] = {"objective": "dpo", "method": "lora"} if job == "dpo" else {"method": job}
        said |= {"quantization": "nf4"} if job == "qlora" else {}
        for sharding in shardings:
            yield pytest.param(sharding, job, marks=pytest.mark.proves(sharding=sharding, **said))


def environment(root: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "SPOTUNE_ML_ROOT": str(root),
        "SPOTUNE_PROCESSES_PER_HOST": "2",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        **more,
    }


CONTAINER = ("-m", "training_container")


def begin(root: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """The container, which starts two processes, all of them in a group of their own."""
    return subprocess.Popen(
        [sys.executable, *(arguments or CONTAINER)],
        env=environment(root, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=root,
        start_new_session=True,
    )


def ends(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=DEADLINE)
    return process.returncode


def losses(printed: str) -> list[float]:
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return [line["train_loss"] for line in lines if "train_loss" in line]


def published(root: Path) -> dict[str, torch.Tensor]:
    (path,) = (root / "model").glob("*model.safetensors")
    return load_file(path)


def make_job(folder: Path, model: Path, job: str, sharding: str, **hardware: Any) -> Path:
    root = make_root(folder, model, hardware={"sharding": sharding, **hardware}, **JOBS[job])
    if job == "dpo":
        write_rows(root / "input/data/training/train.jsonl", PREFERENCES)
    return root


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A folder of finished jobs, one for each case, all trained by the same two processes under torchrun."""
    folder = tmp_path_factory.mktemp("spread")
    listed = [(sharding, job) for job, shardings in WHERE.items() for sharding in shardings]
    roots = [make_job(folder / f"{sharding}-{job}", model, job, sharding) for sharding, job in listed]
    roots += [
        make_job(folder / f"{sharding}-{job}-offloaded", model, job, sharding, offload=True)
        for sharding, job in OFFLOADED
    ]
    for sharding in RESUMED:
        roots.append(make_job(folder / f"{sharding}-resumed", model, "lora", sharding))
        (roots[-1] / "looks").write_text(str(LOOKS))
    roots += [reigning(folder, model, sharding, name) for sharding, name in BESIDE]
    script = str(ROOT / "tests" / "training_container" / "ranks.py")
    arguments = ["--standalone", "--nproc-per-node", "2", script, str(folder / "fallen.json"), *map(str, roots)]
    command = [sys.executable, "-m", "torch.distributed.run", *arguments]
    ended = subprocess.run(
        command, env=environment(folder), capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return folder


def reigning(folder: Path, model: Path, sharding: str, name: str) -> Path:
    """A job with a champion, which one process trains first."""
    before, method, start = REIGNING[name]
    champion = folder.with_name(f"champion-{before}")
    if not champion.exists():
        alone_job(make_reigning(champion, model, before))
    hardware = {"sharding": sharding}
    return make_reigning(folder / f"{sharding}-{name}", model, method, champion, start=start, hardware=hardware)


def alone_job(root: Path) -> list[float]:
    """Train in this process; returns its losses."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert run(read_inputs(Folders(root)), StopRequest()) == ExitCode.PUBLISHED
    return losses(printed.getvalue())


@pytest.fixture(scope="module")
def alone(
    tmp_path_factory: pytest.TempPathFactory, model: Path
) -> Callable[[str], tuple[list[float], dict[str, torch.Tensor]]]:
    """The losses and weights of one process, by job."""
    folder = tmp_path_factory.mktemp("alone")
    known: dict[str, tuple[list[float], dict[str, torch.Tensor]]] = {}

    def of(job: str) -> tuple[list[float], dict[str, torch.Tensor]]:
        if job not in known:
            root = make_job(folder / job, model, job, "none")
            known[job] = alone_job(root), published(root)
        return known[job]

    return of


def codes(root: Path) -> list[list[int]]:
    """Of each rank, of each run."""
    return [json.loads((root / f"code-{rank}").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize(("sharding", "job"), list(cases()))
def test_two_processes_train_what_one_does(spread: Path, alone: Any, sharding: str, job: str) -> None:
    check_same(spread / f"{sharding}-{job}", *alone(job))


@pytest.mark.parametrize(("sharding", "job"), OFFLOADED)
def test_offloaded_states_train_the_same(spread: Path, alone: Any, sharding: str, job: str) -> None:
    check_same(spread / f"{sharding}-{job}-offloaded", *alone(job))


@pytest.mark.parametrize(("sharding", "name"), BESIDE)
def test_a_champion_is_measured_and_gone_on_from_however_the_step_is_spread(
    spread: Path, sharding: str, name: str
) -> None:
    root = spread / f"{sharding}-{name}"
    assert codes(root) == [[ExitCode.PUBLISHED], [ExitCode.PUBLISHED]]
    report, champion = report_of(root), report_of(spread.with_name(f"champion-{REIGNING[name][0]}"))
    assert report.champion is not None
    assert report.champion.eval_loss == pytest.approx(champion.tuned.eval_loss, rel=1e-5)
    assert report.base.eval_loss == pytest.approx(champion.base.eval_loss, rel=1e-5)
    assert report.champion.exact_match == champion.tuned.exact_match
    assert len(report.golden) == 2
    assert [each.champion for each in report.golden] == [each.tuned for each in champion.golden]
    if REIGNING[name][2]:
        assert report.tuned.eval_loss < report.champion.eval_loss


def check_same(root: Path, expected: list[float], weights: dict[str, torch.Tensor]) -> None:
    """Both ranks ended well, and the first one's losses and weights are these."""
    assert codes(root) == [[ExitCode.PUBLISHED], [ExitCode.PUBLISHED]]
    found = losses((root / "stdout-0").read_text())
    assert len(found) == len(expected) >= 6
    assert max(abs(one - other) for one, other in zip(found, expected, strict=True)) < 1e-3
    ours = published(root)
    assert ours.keys() == weights.keys()
    assert all(torch.allclose(ours[name].float(), weights[name].float(), atol=1e-3) for name in weights)
    assert not losses((root / "stdout-1").read_text())


@pytest.mark.parametrize("sharding", RESUMED)
def test_a_run_that_one_rank_stopped_ends_with_the_weights_of_one_that_went_through(
    spread: Path, sharding: str
) -> None:
    root = spread / f"{sharding}-resumed"
    assert codes(root) == [[ExitCode.STOPPED, ExitCode.PUBLISHED]] * 2
    report = report_of(root)
    assert [0 < one.step < report.total_steps for one in report.resumes] == [True]
    whole, found = published(spread / f"{sharding}-lora"), published(root)
    assert all(torch.equal(found[name], whole[name]) for name in whole)


def test_a_wrapper_that_is_another_than_was_asked_for_is_an_error(spread: Path) -> None:
    said = json.loads((spread / "fallen.json").read_text())
    assert "wrapped as PeftModel" in said["ddp"]
    assert "zero2 was asked for, but DeepSpeedEngine runs stage 1" in said["zero2"]
    assert "no block of the model is sharded" in said["fsdp"]
    assert said["unequal"] == "rank 1 would begin with other weights than the first rank"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"method": "qlora", "quantization": "int8"}, "quantization_not_sharded"),
        ({"method": "prompt"}, "method_not_sharded"),
    ],
)
def test_what_fsdp_does_not_spread_is_refused_before_anything_is_wrapped(change: dict[str, Any], code: str) -> None:
    config = TrainingConfig.model_validate({**CONFIG, **change, "hardware": {**CONFIG["hardware"], "sharding": "fsdp"}})
    with pytest.raises(TrainingFault) as refused:
        make_engine(Setting(torch.nn.Module(), config, find_machine(config.hardware), World.from_environment()))
    assert refused.value.code == code


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of the launcher's children, by rank."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return sorted(int(child) for child in children)


def test_one_process_killed_ends_all_with_its_own_reason(tmp_path: Path, model: Path) -> None:
    root = make_root(tmp_path / "ml", model, hardware={"sharding": "ddp"}, optimization={"epochs": 500})
    process = begin(root)
    wait_for_step(process, 1)
    workers = workers_of(process)
    os.kill(workers[1], signal.SIGKILL)
    assert ends(process) == ExitCode.INTERNAL
    failure = failure_of(root)
    assert failure.code == "process_died"
    assert "rank 1 was killed by SIGKILL" in failure.message
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_a_launcher_that_is_killed_leaves_nobody_behind(tmp_path: Path, model: Path) -> None:
    root = make_root(tmp_path / "ml", model, hardware={"sharding": "ddp"}, optimization={"epochs": 500})
    process = begin(root)
    wait_for_step(process, 1)
    pipe = process.stdout
    process.kill()
    assert pipe is not None
    pipe.read()  # ends when the last process that writes to it has ended


def two_hosts(folder: Path, model: Path, **groups: Any) -> tuple[Path, Path]:
    """Two hosts' folders of one job, each with its own checkpoints."""
    roots = tuple(make_root(folder / name, model, **groups) for name in ("algo-1", "algo-2"))
    for root in roots:
        description = {"current_host": root.name, "hosts": ["algo-1", "algo-2"], "network_interface_name": "lo"}
        Folders(root).resources.parent.mkdir(parents=True)
        Folders(root).resources.write_text(json.dumps(description))
    return roots[0], roots[1]


def start_hosts(roots: tuple[Path, Path], port: int, *arguments: str) -> list[subprocess.Popen[str]]:
    more = {"SPOTUNE_PROCESSES_PER_HOST": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [begin(root, *arguments, **more) for root in roots]


def synced(roots: tuple[Path, Path]) -> None:
    """What S3 makes of both hosts' checkpoints, and gives both of them at the next start."""
    for source, target in (roots, roots[::-1]):
        for path in (source / "checkpoints").glob("checkpoint-*/*"):
            place = target / path.relative_to(source)
            place.parent.mkdir(exist_ok=True)
            shutil.copy(path, place)


def test_two_hosts_stop_together_and_go_on_from_what_both_carried_to_s3(
    spread: Path, tmp_path: Path, model: Path
) -> None:
    port = free_port()
    roots = two_hosts(tmp_path, model, **JOBS["lora"], hardware={"sharding": "zero2"})
    hosts = start_hosts(roots, port)
    wait_for_step(hosts[0], 4)
    hosts[1].send_signal(signal.SIGTERM)  # at one host alone
    assert [ends(host) for host in hosts] == [ExitCode.STOPPED, ExitCode.STOPPED]
    parts = [{path.name for path in (root / "checkpoints").glob("checkpoint-*/*")} for root in roots]
    assert parts[0] >= {"manifest.json", "weights.safetensors", "optimizer.zero2.rank-0-of-2.pt"}
    assert parts[1] == {"optimizer.zero2.rank-1-of-2.pt"}
    synced(roots)
    assert [ends(host) for host in start_hosts(roots, port)] == [ExitCode.PUBLISHED, ExitCode.PUBLISHED]
    whole = published(spread / "zero2-lora")
    found = published(roots[0])
    # To the last bit but one: the run that was not interrupted shared its processes with others.
    assert all(torch.allclose(found[name], whole[name], rtol=0, atol=1e-7) for name in whole)
    assert not list((roots[1] / "model").glob("*"))
    assert report_of(roots[0]).lost_steps == 0


IMPATIENT = """
import sys
from training_container import cluster
from training_container.__main__ import main
cluster.LOST_SECONDS = 3.0
sys.exit(main())
"""
"""The container, which does not wait a minute for a host's next sign of life."""


@pytest.mark.parametrize("lost", [0, 1])
def test_a_host_that_is_gone_ends_the_other_which_names_it(tmp_path: Path, model: Path, lost: int) -> None:
    roots = two_hosts(tmp_path, model, hardware={"sharding": "ddp"}, optimization={"epochs": 500}, **QUIET)
    hosts = start_hosts(roots, free_port(), "-c", IMPATIENT)
    wait_for_step(hosts[0], 2)
    os.killpg(hosts[lost].pid, signal.SIGKILL)
    left = 1 - lost
    assert ends(hosts[left]) == ExitCode.INTERNAL
    failure = failure_of(roots[left])
    assert failure.code == "host_lost"
    assert roots[lost].name in failure.message
