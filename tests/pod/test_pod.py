"""A pod does around the container what SageMaker does: seen by what the container finds, and what lies in S3 after."""

from __future__ import annotations

import errno
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import inf
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from spotune.contracts.training import ExitCode
from spotune.pod.checkpoints import CheckpointSync
from spotune.pod.faults import fault_of
from spotune.pod.host import Host, sync_if_possible
from spotune.pod.objects import PATIENT, Objects, StorageAway, StorageRefused, patiently
from spotune.pod.trainer import Trainer
from tests import factories
from tests.pod.conftest import Bucket, Pod, Pods
from tests.pod.quick import QUICK
from tests.polling import wait_for

pytestmark = pytest.mark.embedded

PUBLISHES = """
    (root / "model/deep").mkdir()
    (root / "model/deep/weights").write_text("w")
    (root / "model/report.json").write_text("{}")
    (root / "model/zoo").write_text("last by name")
"""
NEVER = "raise SystemExit('the trainer was started')"


def test_the_container_finds_what_sagemaker_would_lay_and_its_model_is_in_s3(bucket: Bucket, pods: Pods) -> None:
    rows = bucket.put("data/train.jsonl", b"rows")
    bucket.put("data/train.jsonl.bak", b"not a row")
    bucket.put("base/config.json", b"{}")
    bucket.put("base/deep/weights", b"w" * 9_000_000)
    pod = pods.start(PUBLISHES, channels={"training": rows, "model": bucket.uri("base/")})
    assert pod.end().code == ExitCode.PUBLISHED

    data = pod.root / "input/data"
    assert [path.name for path in (data / "training").iterdir()] == ["train.jsonl"], "an object, not a prefix"
    assert (data / "model/deep/weights").stat().st_size == 9_000_000
    assert pod.read("input/data/config/training.json")["job_id"] == factories.config().job_id
    assert pod.read("input/config/resourceconfig.json") == {
        "current_host": "one.run",
        "hosts": ["one.run", "localhost"],
    }
    assert bucket.names("output/model/") == [f"output/model/{name}" for name in ("deep/weights", "report.json", "zoo")]
    assert b"one.run" in bucket.read("output/pod.json")


@pytest.mark.parametrize("code", [ExitCode.INTERNAL, ExitCode.USER_ERROR, ExitCode.STOPPED])
def test_the_container_s_exit_code_is_the_pod_s_and_what_it_left_is_kept(pods: Pods, code: ExitCode) -> None:
    pod = pods.start(f"""
        (root / "checkpoints/progress.json").write_text("here")
        (root / "output/failure").write_text("why")
        (root / "model/report.json").write_text("not published")
        sys.exit({int(code)})
    """)
    assert pod.end().code == code
    assert pods.bucket.read("checkpoints/progress.json") == b"here"
    assert pods.bucket.read("output/failure") == b"why"
    assert not pods.bucket.names("output/model/")


def test_a_trainer_that_the_system_killed_ends_the_pod_as_a_shell_would_say_it(pods: Pods) -> None:
    assert pods.start("os.kill(os.getpid(), signal.SIGKILL)").end().code == 128 + signal.SIGKILL


SAVES = """
    def save(*_):
        (root / "checkpoints/last").write_text("saved")
        sys.exit(3)
    signal.signal(signal.SIGTERM, save)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    print("ready")
    time.sleep(60)
"""


def test_sigterm_reaches_the_trainer_and_its_last_checkpoint_is_in_s3(pods: Pods) -> None:
    pod = pods.start(SAVES)
    assert pod.line() == "ready"
    pod.process.terminate()
    assert pod.end().code == ExitCode.STOPPED
    assert pods.bucket.read("checkpoints/last") == b"saved"


def test_sigterm_while_the_model_goes_up_does_not_cost_it(pods: Pods) -> None:
    publishes = "(root / 'model/report.json').write_text('{}')\n"
    pod = pods.start(f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{publishes}os.kill(os.getppid(), signal.SIGTERM)")
    assert pod.end().code == ExitCode.PUBLISHED
    assert pods.bucket.names("output/model/") == ["output/model/report.json"]


@pytest.mark.parametrize("script", ["pass", "(root / 'model/weights').write_text('w')"])
def test_a_trainer_that_says_it_has_published_and_left_no_report_is_tried_again(pods: Pods, script: str) -> None:
    ended = pods.start(script).end()
    assert (ended.code, ended.failure.code) == (ExitCode.INTERNAL, "model_missing")
    assert not pods.bucket.names("output/model/")


def test_sigterm_while_s3_is_silent_ends_the_pod_at_once_as_stopped(pods: Pods) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        pod = pods.start(NEVER, url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        silent.accept()
        pod.process.terminate()
        assert pod.end().code == ExitCode.STOPPED


def test_a_run_whose_model_is_there_is_not_done_again(bucket: Bucket, pods: Pods) -> None:
    bucket.put("output/model/report.json", b"{}")
    pod = pods.start(NEVER, channels={"training": bucket.uri("gone")})
    assert "nothing to do" in pod.line()
    assert pod.end().code == ExitCode.PUBLISHED


def test_another_host_ends_well_only_when_the_first_one_has_published(bucket: Bucket, pods: Pods) -> None:
    ended = pods.start("pass", host=1, hosts=("localhost", "two.run")).end()
    assert (ended.code, ended.failure.code) == (ExitCode.INTERNAL, "not_published")

    second = pods.start("print('done')", host=1, hosts=("localhost", "two.run"))
    assert second.line() == "done"
    bucket.put("output/model/report.json", b"{}")
    assert second.end().code == ExitCode.PUBLISHED
    assert not bucket.names("output/pod.json"), "which the first host writes"


@pytest.fixture
def second(bucket: Bucket, pods: Pods) -> Pod:
    """The second host, whose trainer is done, while the first one publishes."""
    bucket.put("output/pod.json", b"{}")
    made = pods.start("(root / 'checkpoints/last').write_text('w')", host=1, hosts=("localhost", "two.run"))
    wait_for(lambda: bucket.names("checkpoints/") or None, "its last checkpoint in S3", pause=0.02)
    return made


def test_another_host_that_is_asked_to_end_does_not_wait_for_the_model(second: Pod) -> None:
    second.process.terminate()
    assert second.end().code == ExitCode.STOPPED


def test_another_host_begins_anew_with_the_first_one(bucket: Bucket, second: Pod) -> None:
    """S3 tells a write's time to the second: the first host begins until it is seen."""

    def begin() -> bool | None:
        bucket.put("output/pod.json", b"{}")
        return True if second.process.poll() is not None else None

    wait_for(begin, "the second host's end")
    ended = second.end()
    assert (ended.code, ended.failure.code) == (ExitCode.INTERNAL, "first_host_lost")


def test_a_host_does_not_start_the_trainer_before_the_first_one_has_an_address(pods: Pods) -> None:
    ended = pods.start(NEVER, host=1, hosts=("nowhere.invalid", "two.run")).end()
    assert (ended.code, ended.failure.code) == (ExitCode.INTERNAL, "host_missing")
    assert "nowhere.invalid" in ended.failure.message


def test_nothing_at_a_channel_s_address_is_final_and_says_which(bucket: Bucket, pods: Pods) -> None:
    for uri in (bucket.uri("none.jsonl"), bucket.uri("none/")):
        ended = pods.start(NEVER, channels={"training": uri}).end()
        assert (ended.code, ended.failure.code) == (ExitCode.USER_ERROR, "channel_missing")
        assert uri in ended.failure.message


def test_a_folder_that_may_not_be_written_is_found_out_before_the_training(pods: Pods) -> None:
    ended = pods.start(NEVER, output_uri="s3://nobodys-bucket/output/").end()
    assert (ended.code, ended.failure.code) == (ExitCode.USER_ERROR, "storage_refused")


def test_s3_away_is_tried_again_by_another_pod(pods: Pods) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    ended = pods.start(NEVER, url=f"http://127.0.0.1:{port}").end()
    assert (ended.code, ended.failure.code) == (ExitCode.INTERNAL, "storage_away")


NOTHING = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
Answers = Callable[..., str]


@pytest.fixture
def read_only() -> Iterator[Answers]:
    """Makes an S3 that shows nothing and answers so many writes in this way, then takes them; its address."""
    servers: list[ThreadingHTTPServer] = []

    def make(status: int, code: str, times: float = inf) -> str:
        class Handler(BaseHTTPRequestHandler):
            written = 0

            def do_GET(self) -> None:
                self._send(200, NOTHING)

            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                Handler.written += 1
                if Handler.written > times:
                    self._send(200, b"")
                else:
                    self._send(status, f"<Error><Code>{code}</Code></Error>".encode())

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}"

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "code", "ends", "fault"),
    [
        (403, "AccessDenied", ExitCode.USER_ERROR, "storage_refused"),
        (503, "SlowDown", ExitCode.INTERNAL, "storage_away"),
    ],
)
def test_what_s3_answers_to_a_write_decides_whether_another_pod_tries_again(
    pods: Pods, read_only: Answers, status: int, code: str, ends: ExitCode, fault: str
) -> None:
    ended = pods.start(NEVER, url=read_only(status, code)).end()
    assert (ended.code, ended.failure.code) == (ends, fault)
    assert code in ended.failure.evidence


def storage(url: str) -> Objects:
    """As a pod has it, with a single try a call."""
    own = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    once = PATIENT.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}))
    return Objects(boto3.client("s3", endpoint_url=url, config=once, **own))


REFUSED = [(301, "PermanentRedirect"), (400, "ExpiredToken"), (400, "InvalidRequest"), (404, "NoSuchBucket")]
PASSING = [
    (400, "RequestTimeout"),
    (400, "ThrottlingException"),
    (408, "RequestTimeout"),
    (409, "OperationAborted"),
    (429, "TooManyRequests"),
    (500, "InternalError"),
    (503, "SlowDown"),
]


@pytest.mark.parametrize(("status", "code"), REFUSED)
def test_what_s3_refuses_is_asked_for_once_and_is_final(
    tmp_path: Path, read_only: Answers, status: int, code: str
) -> None:
    (tmp_path / "file").write_text("f")
    put = partial(storage(read_only(status, code, times=1)).put, tmp_path / "file", "s3://runs/file")
    with pytest.raises(StorageRefused, match=code) as refused:
        patiently(put, 60, threading.Event())
    fault = fault_of(refused.value)
    assert (fault.code, fault.exit_code) == ("storage_refused", ExitCode.USER_ERROR)
    put()  # which the store takes from the second time on


@pytest.mark.parametrize(("status", "code"), PASSING)
def test_what_passes_is_asked_for_again_and_another_pod_asks_in_the_end(
    tmp_path: Path, read_only: Answers, status: int, code: str
) -> None:
    (tmp_path / "file").write_text("f")
    patiently(
        partial(storage(read_only(status, code, times=2)).put, tmp_path / "file", "s3://runs/file"),
        60,
        threading.Event(),
    )
    with pytest.raises(StorageAway, match=code) as away:
        patiently(
            partial(storage(read_only(status, code)).put, tmp_path / "file", "s3://runs/file"), 0, threading.Event()
        )
    fault = fault_of(away.value)
    assert (fault.code, fault.exit_code) == ("storage_away", ExitCode.INTERNAL)


def test_patience_with_s3_begins_when_it_is_first_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restore of an hour is not given up for the first error at its end."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def restore() -> str:
        if now[0]:
            return "restored"
        now[0] = 3600.0
        raise EndpointConnectionError(endpoint_url="s3")

    assert patiently(restore, 300, threading.Event()) == "restored"


def test_a_pod_without_credentials_says_so_at_once(pods: Pods) -> None:
    ended = pods.start(NEVER, environment={"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}).end()
    assert (ended.code, ended.failure.code) == (ExitCode.USER_ERROR, "storage_without_credentials")


def test_checkpoints_that_do_not_go_up_this_time_do_not_stop_the_trainer(tmp_path: Path) -> None:
    script = "import time, sys; time.sleep(0.5); sys.exit(3)"
    pushed: list[int] = []

    class Away(CheckpointSync):
        def push(self, *, final: bool = False) -> int:
            pushed.append(1)
            raise EndpointConnectionError(endpoint_url="s3")

    sync = Away(Objects(None), "s3://b/p", tmp_path, settle=0)
    assert Trainer([sys.executable, "-c", script]).run(0.05, partial(sync_if_possible, sync)) == ExitCode.STOPPED
    assert len(pushed) > 1


class FullBucket(Objects):
    """Takes everything but a model's weights."""

    def put(self, path: Path, uri: str) -> None:
        if uri.endswith("/model/weights"):
            raise ClientError({"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "PutObject")
        super().put(path, uri)


def test_a_model_that_does_not_go_up_is_a_failure_that_another_pod_mends(
    bucket: Bucket, pods: Pods, tmp_path: Path
) -> None:
    class Publishes(Trainer):
        def run(self, every: float, meanwhile: Callable[[], None]) -> int:
            for name in ("report.json", "weights"):
                (tmp_path / "ml/model" / name).write_text("{}")
            return ExitCode.PUBLISHED

    host = Host(
        config=pods.config(),
        training=factories.config().model_dump_json().encode(),
        number=0,
        root=tmp_path / "ml",
        objects=FullBucket(bucket.s3),
        pace=QUICK,
    )
    with pytest.raises(Exception, match="SlowDown") as failed:
        host.run(Publishes([]))
    assert fault_of(failed.value).exit_code == ExitCode.INTERNAL
    assert not bucket.names("output/model/report.json"), "by which the other hosts and the next pod take it for done"


def test_what_a_person_has_to_mend_is_final_and_what_time_mends_is_not() -> None:
    full = fault_of(OSError(errno.ENOSPC, "No space left on device"))
    assert (full.failure.code, full.exit_code) == ("pod_disk_full", ExitCode.USER_ERROR)
    strange = fault_of(ValueError("no such thing"))
    assert (strange.message, strange.exit_code) == ("ValueError: no such thing", ExitCode.INTERNAL)
