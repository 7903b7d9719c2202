"""The launcher with stand-ins for its processes: what it makes of their ends, and on how many hosts it runs which."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spotune.contracts.training import ExitCode, Failure
from training_container import launch as launching
from training_container.faults import TooLarge, TrainingFault
from training_container.hosts import Hosts, read_hosts
from training_container.launch import launch
from training_container.outcome import Outcome, cause
from training_container.stop import StopRequest

pytestmark = pytest.mark.torch

TWO = Hosts(names=("localhost",), current="localhost", processes=2)
STAND_IN = """
import json, os, sys, time
rank, halvings = os.environ["RANK"], int(os.environ["SPOTUNE_HALVINGS"])
def end(code, **more):
    with open(os.environ["SPOTUNE_OUTCOME"], "w") as file:
        json.dump({"code": code, "at": time.time(), **more}, file)
    sys.exit(code)
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Replaces the trainer by this code."""

    def replace(code: str) -> None:
        package = tmp_path / "training_container"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(STAND_IN + code)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr(launching, "FAREWELL_SECONDS", 0.5)

    return replace


def test_out_of_memory_on_one_rank_begins_all_again_with_half_the_micro_batch(stand_in) -> None:
    stand_in("""
if halvings < 2 and rank == "1":
    end(2, too_large=True, failure={"code": "out_of_memory", "message": "no room"})
if halvings < 2:
    time.sleep(600)
end(0)
""")
    outcome = launch(TWO, StopRequest())
    assert (outcome.code, outcome.failure) == (ExitCode.PUBLISHED, None)


def test_the_first_failure_is_the_job_s_and_those_that_hang_are_ended(stand_in) -> None:
    stand_in("""
if rank == "1":
    end(2, failure={"code": "bad_rows", "message": "row 7"})
time.sleep(600)
""")
    outcome = launch(TWO, StopRequest())
    assert outcome.code == ExitCode.USER_ERROR
    assert outcome.failure == Failure(code="bad_rows", message="row 7")


def test_a_stop_reaches_every_process_even_one_that_does_not_listen_yet(stand_in) -> None:
    stand_in("""
import signal
time.sleep(0.5)  # as long as imports take; until here the signal is held back
signal.signal(signal.SIGTERM, lambda *_: end(3))
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
time.sleep(600)
""")
    stop = StopRequest()
    stop.ask()
    assert launch(TWO, stop).code == ExitCode.STOPPED


def test_a_process_that_a_signal_killed_comes_before_those_that_speak_of_it() -> None:
    spoke = Outcome(code=ExitCode.INTERNAL, failure=Failure(code="internal", message="connection closed"), at=1.0)
    killed = Outcome.of_dead(1, -9)
    assert cause([spoke, killed]) == killed
    later = spoke.with_(at=2.0)
    assert cause([later, spoke]) == spoke


def test_a_process_that_knows_its_fault_comes_before_those_that_nccl_aborts_for_its_sake() -> None:
    full = Outcome.of_error(TooLarge("CUDA out of memory"))
    assert cause([Outcome.of_dead(0, -6), full]) == full
    unknown = Outcome.of_error(KeyError("what nobody foresaw"))
    assert cause([Outcome.of_dead(0, -6), unknown]) == unknown


def resources(folder: Path, **document: object) -> Path:
    path = folder / "resourceconfig.json"
    path.write_text(json.dumps(document))
    return path


def test_the_network_is_that_of_the_instance_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOTUNE_PROCESSES_PER_HOST", "8")
    two = {"hosts": ["algo-1", "algo-2"], "current_host": "algo-2", "network_interface_name": "eth0"}
    names = {"NCCL_SOCKET_IFNAME": "eth0", "GLOO_SOCKET_IFNAME": "eth0"}
    efa, rdma = {"FI_PROVIDER": "efa"}, {"FI_EFA_USE_DEVICE_RDMA": "1"}
    expected = {"ml.g5.12xlarge": names, "ml.g5.48xlarge": names | efa, "ml.p5en.48xlarge": names | efa | rdma}
    for kind, variables in expected.items():
        hosts = read_hosts(resources(tmp_path, current_instance_type=kind, **two), "fsdp")
        assert hosts.network() == variables
        assert (hosts.number, hosts.ranks) == (1, 16)
    alone = read_hosts(resources(tmp_path, hosts=["algo-1"], current_host="algo-1"), "fsdp")
    assert alone.network() == {}


def test_a_plan_that_shares_nothing_is_one_process_and_refused_on_two_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOTUNE_PROCESSES_PER_HOST", "8")
    assert read_hosts(tmp_path / "none.json", "none").ranks == 1
    with pytest.raises(TrainingFault, match="2 hosts"):
        read_hosts(resources(tmp_path, hosts=["algo-1", "algo-2"], current_host="algo-1"), "none")
