"""Embedded mode as a whole: up, status, down, reset. Every step may be killed; the next one cleans up after it."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from spotune.contracts.errors import Conflict, Unavailable
from spotune.deploy import bundle, templates
from spotune.local import deployment, emulator, processes, supervisor
from spotune.local.state import (
    DEFAULT_DOUBLE_PORT,
    DEFAULT_EMULATOR_PORT,
    StackState,
    default_home,
    read_state,
    state_path,
    write_state,
)
from spotune.local.supervisor import Running

TEMPLATE = templates.INSTALLATION

_LOCK_SECONDS = 120.0
_START_SECONDS = 30.0
_PORT_SECONDS = 2.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the stack. `resident_bytes` is 0 where it does not run."""

    name: str
    pid: int
    running: bool
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class Status:
    """Whether the stack answers, and if not, what is wrong with it."""

    running: bool
    state: StackState | None
    parts: tuple[Part, ...] = ()
    problem: str = ""


def up(
    home: Path | None = None,
    *,
    emulator_port: int = DEFAULT_EMULATOR_PORT,
    double_port: int = DEFAULT_DOUBLE_PORT,
    sources: bundle.BundleSources | None = None,
    guarded: bool | None = None,
    parameters: Mapping[str, str] | None = None,
) -> StackState:
    """Start the stack, or take over the one that runs, and bring what is deployed in it up to date.

    Args:
        home: where everything is kept; SPOTUNE_HOME or `~/.spotune` by default.
        emulator_port: on 127.0.0.1; the API answers there too. 0 takes a free one.
        double_port: of the SageMaker double. 0 takes a free one.
        sources: what the Lambda bundle is made of; the installed packages by default.
        guarded: check signatures and policies, as AWS does, so that everything runs under the template's own roles. A
            stack that runs the other way is ended first; None lets it be as it is, and starts one that is not.
        parameters: of the template, where they differ from this machine's usual ones.

    Raises:
        Conflict: a port is taken (`port_taken`), or another command is at work on this stack (`stack_busy`).
        Unavailable: a part did not start, or the deployment failed. Nothing is left running then.
    """
    home = home or default_home()
    with _exclusive(home):
        code = bundle.build(home / "cache" / "bundles", sources)
        taken_over = _take_over(home, guarded)
        if taken_over is not None:
            return _complete(home, taken_over, code, parameters or {})
        running = _start(home, emulator_port, double_port, bool(guarded))
        try:
            _await_answers(home, running)
            return _complete(home, running, code, parameters or {})
        except BaseException:  # whatever comes, an interrupt too, nothing is left running
            _end_all(home)
            raise


def status(home: Path | None = None) -> Status:
    """How the stack is. Starts and changes nothing."""
    home = home or default_home()
    state, running = read_state(home), supervisor.read_running(home)
    if running is None or not supervisor.is_running(home):
        return Status(False, state, problem="Start it with `spotune up`.")
    marks = {"supervisor": running.supervisor, **running.children}
    parts = tuple(
        Part(name, mark.pid, processes.alive(mark), processes.resident_bytes(mark)) for name, mark in marks.items()
    )
    if state is None:
        return Status(False, None, parts, "Its start was cut off; `spotune up` completes it.")
    silent = [name for name, where in _health(running).items() if not _answers(*where)]
    problem = f"No answer from {' and '.join(silent)}; see {home / 'logs'}." if silent else ""
    return Status(not silent, state, parts, problem)


def down(home: Path | None = None) -> bool:
    """End every process of the stack, and keep its state. False where nothing ran."""
    home = home or default_home()
    with _exclusive(home):
        return _end_all(home)


def reset(home: Path | None = None) -> None:
    """End the stack and delete its state: jobs, files, models, keys, logs. The cache stays."""
    home = home or default_home()
    with _exclusive(home):
        _end_all(home)
        for folder in ("emulator", "double", "logs"):
            shutil.rmtree(home / folder, ignore_errors=True)
        state_path(home).unlink(missing_ok=True)
        supervisor.running_path(home).unlink(missing_ok=True)


@contextlib.contextmanager
def _exclusive(home: Path) -> Iterator[None]:
    deadline = time.monotonic() + _LOCK_SECONDS
    while (lock := supervisor.take_lock(home / "stack.lock")) is None:
        if time.monotonic() > deadline:
            raise Conflict(
                f"Another command has been starting or ending the stack in {home} for two minutes.",
                code="stack_busy",
                remedy="Wait for it, or end it, then try again.",
            )
        time.sleep(_POLL_SECONDS)
    with lock:
        yield


def _take_over(home: Path, guarded: bool | None) -> Running | None:
    """The stack that runs. One that does not answer, and whatever is left of an earlier one, is ended."""
    running = supervisor.read_running(home)
    if running is not None and guarded in (None, running.guarded) and supervisor.is_running(home):
        with contextlib.suppress(Unavailable):
            _await_answers(home, running)
            return running
    _end_all(home)
    return None


def _start(home: Path, emulator_port: int, double_port: int, guarded: bool) -> Running:
    ports = [_usable_port(emulator_port, "--port"), _usable_port(double_port, "--double-port")]
    process = processes.start(
        supervisor.command(home, *ports, guarded=guarded),
        environment=supervisor.environment(),
        log=home / "logs" / "supervisor.log",
        with_parent=False,
    )
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        running = supervisor.read_running(home)
        if running is not None and running.supervisor.pid == process.pid:
            return running
        if process.poll() is not None:
            break
        time.sleep(_POLL_SECONDS)
    raise _not_started(home, "supervisor")


def _complete(home: Path, running: Running, code: Path, parameters: Mapping[str, str]) -> StackState:
    """Deploy what is not deployed yet, and keep how to reach it."""
    before = read_state(home)
    wanted = deployment.Deployment(
        bundle=code,
        template=TEMPLATE,
        advisor_url=f"{running.double_url}/_double/spot-advisor-data.json",
        others=parameters,
    )
    outputs = deployment.deployed_outputs(running.emulator_url)
    key = before.api_key if before is not None and outputs is not None else None
    if outputs is None or before is None or before.deployed != wanted.fingerprint:
        outputs = deployment.deploy(wanted, running.emulator_url)
        deployment.refresh_market(outputs, running.emulator_url)
        _call("POST", running.emulator_port, emulator.SAVE_PATH, timeout=30)
    state = StackState(
        api_url=f"{running.emulator_url}/_aws/execute-api/{outputs['ApiId']}/$default",
        api_key=key or deployment.issue_key(outputs, running.emulator_url),
        emulator_url=running.emulator_url,
        double_url=running.double_url,
        home=home,
        data_bucket=outputs["DataBucket"],
        artifacts_bucket=outputs["ArtifactsBucket"],
        models_bucket=outputs["ModelsBucket"],
        table=outputs["Table"],
        queue_url=outputs["QueueUrl"],
        supervisor=running.supervisor,
        started_at=time.time() if before is None or before.supervisor != running.supervisor else before.started_at,
        deployed=wanted.fingerprint,
    )
    write_state(state)
    return state


def _end_all(home: Path) -> bool:
    running = supervisor.read_running(home)
    if running is None:
        return False
    was_running = processes.alive(running.supervisor)
    processes.end(running.supervisor, grace_seconds=supervisor.GRACE_SECONDS)
    # Read again: it may have started its last child after the first look.
    children = (supervisor.read_running(home) or running).children
    for name in ("double", "emulator"):
        if name in children:
            processes.end(children[name], grace_seconds=supervisor.EMULATOR_GRACE_SECONDS)
    supervisor.running_path(home).unlink(missing_ok=True)
    return was_running


def _usable_port(port: int, option: str) -> int:
    """The port, or a free one for 0. One that a killed process still holds is waited for."""
    deadline = time.monotonic() + _PORT_SECONDS
    while True:
        try:
            return _bind(port)
        except OSError as error:
            if time.monotonic() > deadline:
                raise Conflict(
                    f"Port {port} on 127.0.0.1 cannot be used: {error.strerror}.",
                    code="port_taken",
                    param=option,
                    remedy=f"End the program that holds it, or choose another port with {option}.",
                ) from error
        time.sleep(_POLL_SECONDS)


def _bind(port: int) -> int:
    with socket.socket() as probe:
        # As the servers do: connections of an earlier run that still linger do not keep the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])


def _await_answers(home: Path, running: Running) -> None:
    deadline = time.monotonic() + _START_SECONDS
    for name, where in _health(running).items():
        while not _answers(*where):
            if time.monotonic() > deadline or not processes.alive(running.supervisor):
                raise _not_started(home, name)
            time.sleep(_POLL_SECONDS)


def _health(running: Running) -> dict[str, tuple[int, str]]:
    """Port and path of each part's health."""
    return {
        "emulator": (running.emulator_port, emulator.HEALTH_PATH),
        "double": (running.double_port, "/_double/health"),
    }


def _answers(port: int, path: str) -> bool:
    try:
        _call("GET", port, path, timeout=2)
    except (OSError, http.client.HTTPException):
        return False
    return True


def _call(method: str, port: int, path: str, *, timeout: float) -> None:
    """One request on loopback, past any proxy and without TLS, whose set-up alone costs more than the rest."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        if answer.status >= 300:
            raise http.client.HTTPException(f"{method} {path}: {answer.status}")


def _not_started(home: Path, name: str) -> Unavailable:
    log = home / "logs" / f"{name}.log"
    lines = log.read_text(errors="replace").strip().splitlines()[-5:] if log.exists() else []
    return Unavailable(
        f"The {name} did not start. Its log ends with: {' | '.join(lines) or '(nothing)'}",
        code="stack_not_started",
        remedy=f"See {log}; `spotune reset` starts from nothing.",
    )
