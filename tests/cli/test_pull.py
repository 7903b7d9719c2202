"""`spotune data pull`: the same bytes or none, over connections that break and objects that are gone."""

from __future__ import annotations

import json
from hashlib import md5, sha256
from pathlib import Path

import httpx
import pytest

from spotune.cli import download
from spotune.data.assembly.copying import CHUNK_BYTES
from tests.cli.conftest import Run, Service
from tests.handlers.test_jobs import JOBS, body_for
from tests.in_process import Client
from tests.retrained import FOLDER, Retrained, retrained
from tests.tiny_model import chat_rows

TRAINING, VALIDATION = chat_rows(400), chat_rows(30)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)


@pytest.fixture
def client(service: Service) -> Client:
    return Client(service.key)


@pytest.fixture
def job_id(client: Client) -> str:
    files = {"validation_file": client.upload(VALIDATION)}
    return str(client.call("POST", JOBS, body_for(client.upload(TRAINING), **files)).body["id"])


@pytest.fixture
def made(service: Service, client: Client) -> Retrained:
    rows = chat_rows(90).splitlines(keepends=True)
    return retrained(service.world, client, b"".join(rows[:60]), b"".join(rows[30:]))


def uri_of(service: Service, body: bytes) -> str:
    objects = service.world.objects
    return next(info.uri for info in objects.list("s3://data/acme/files/") if objects.read(info.uri) == body)


def gets(service: Service) -> list[str]:
    return [path for method, path in service.calls if path.startswith("/objects")]


def test_a_job_s_files_are_here_as_they_were(service: Service, run: Run, job_id: str, tmp_path: Path) -> None:
    ran = run("data", "pull", job_id, "--out", tmp_path / "set", "--json")
    assert ran.code == 0, ran.err
    assert (tmp_path / "set/training.jsonl").read_bytes() == TRAINING
    assert (tmp_path / "set/validation.jsonl").read_bytes() == VALIDATION
    told = ran.json["files"]
    assert [one["how"] for one in told] == ["was downloaded"] * 2
    assert told[0]["sha256"] == sha256(TRAINING).hexdigest()
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["training.jsonl", "validation.jsonl"]


def test_the_folder_is_called_like_the_job(
    service: Service, run: Run, job_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("data", "pull", job_id).code == 0
    assert (tmp_path / job_id / "training.jsonl").read_bytes() == TRAINING


def test_what_is_here_already_is_not_brought_again(service: Service, run: Run, job_id: str, tmp_path: Path) -> None:
    run("data", "pull", job_id, "--out", tmp_path)
    service.calls.clear()
    ran = run("data", "pull", job_id, "--out", tmp_path)
    assert ran.out.count("was here already") == 2
    assert gets(service) == []


def test_another_file_of_that_name_is_never_written_over(
    service: Service, run: Run, job_id: str, tmp_path: Path
) -> None:
    (tmp_path / "training.jsonl").write_text("mine")
    ran = run("data", "pull", job_id, "--out", tmp_path, "--json")
    assert (ran.code, ran.error["code"]) == (2, "target_exists")
    assert (tmp_path / "training.jsonl").read_text() == "mine"


def test_a_connection_that_breaks_is_taken_up_where_it_broke(
    service: Service, run: Run, job_id: str, tmp_path: Path
) -> None:
    service.carry = lambda uri: 5000
    assert run("data", "pull", job_id, "--out", tmp_path).code == 0
    assert (tmp_path / "training.jsonl").read_bytes() == TRAINING
    assert len(gets(service)) > 5


def test_a_pull_that_was_cut_off_goes_on_where_it_stood(
    service: Service, run: Run, job_id: str, tmp_path: Path
) -> None:
    left = [7000]
    service.carry = lambda uri: left.pop() if left else 0
    cut = run("data", "pull", job_id, "--out", tmp_path, "--json")
    assert (cut.code, cut.error["code"]) == (5, "download_interrupted")
    assert not (tmp_path / "training.jsonl").exists()
    assert (tmp_path / ".training.jsonl.part").read_bytes() == TRAINING[:7000]
    sent: list[str] = []
    service.carry = lambda uri: sent.append(uri)
    assert run("data", "pull", job_id, "--out", tmp_path).code == 0
    assert (tmp_path / "training.jsonl").read_bytes() == TRAINING
    assert not (tmp_path / ".training.jsonl.part").exists()


@pytest.mark.parametrize("rest", [b"x" * 7000, TRAINING + b"more", TRAINING])
def test_what_an_earlier_pull_left_is_kept_only_where_it_is_a_beginning(
    service: Service, run: Run, job_id: str, tmp_path: Path, rest: bytes
) -> None:
    (tmp_path / ".training.jsonl.part").write_bytes(rest)
    codes = [run("data", "pull", job_id, "--out", tmp_path).code for _ in range(2)]
    assert codes == ([2, 0] if rest.startswith(b"x") else [0, 0])
    assert (tmp_path / "training.jsonl").read_bytes() == TRAINING


def test_a_url_that_has_ended_is_asked_for_again(service: Service, run: Run, job_id: str, tmp_path: Path) -> None:
    refused = [403, 403]
    service.refuse = lambda method, path: refused.pop() if refused and path.startswith("/objects") else None
    assert run("data", "pull", job_id, "--out", tmp_path).code == 0
    assert sum(path.endswith("/dataset") for _, path in service.calls) == 3


@pytest.mark.parametrize("change", [b"", TRAINING[:-1], TRAINING[:-1] + b"\r\n", TRAINING.replace(b"a", b"b", 1)])
def test_a_file_that_has_changed_is_refused_by_name_and_not_kept(
    service: Service, run: Run, job_id: str, tmp_path: Path, change: bytes
) -> None:
    uri = uri_of(service, TRAINING)
    service.world.objects.write(uri, change)
    ran = run("data", "pull", job_id, "--out", tmp_path, "--json")
    assert (ran.code, ran.error["code"]) == (2, "dataset_object_changed")
    assert uri in ran.error["message"]
    assert not list(tmp_path.glob("*training*"))


def test_a_file_that_is_gone_is_named(service: Service, run: Run, job_id: str, tmp_path: Path) -> None:
    uri = uri_of(service, TRAINING)
    service.world.objects.delete(uri)
    ran = run("data", "pull", job_id, "--out", tmp_path, "--json")
    assert (ran.code, ran.error["code"]) == (2, "dataset_object_gone")
    assert uri in ran.error["message"]


def test_a_disk_that_is_full_is_said_in_words_and_the_pull_goes_on_later(
    service: Service, run: Run, job_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    ran = run("data", "pull", job_id, "--out", tmp_path, "--json")
    assert (ran.code, ran.error["code"]) == (2, "file_unwritable")
    assert "No space left on device" in ran.error["message"]
    assert not (tmp_path / "training.jsonl").exists()
    monkeypatch.undo()


def test_another_tenant_s_job_is_no_job(
    service: Service, run: Run, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.in_process import client_of

    monkeypatch.setenv("SPOTUNE_API_KEY", str(client_of(service.world.here, "globex").key))
    assert run("data", "pull", job_id).code == 3


@pytest.mark.parametrize("offset", [0, 1, 4, 5, 7, 8])
def test_a_server_that_sends_the_whole_instead_of_a_range_is_read_from_the_right_byte(offset: int) -> None:
    def whole(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=iter([b"the ", b"w", b"ole"]))

    with httpx.Client(transport=httpx.MockTransport(whole)) as http:
        found = b"".join(download.streamed(http, "s3://b/k", lambda fresh: "http://s3/k", offset))
    assert found == b"the wole"[offset:]


class TestRetrained:
    def test_the_built_dataset_and_its_manifest_are_pulled(
        self, service: Service, run: Run, made: Retrained, tmp_path: Path
    ) -> None:
        ran = run("data", "pull", made.job_id, "--out", tmp_path)
        assert ran.code == 0, ran.err
        assert (tmp_path / "training.jsonl").read_bytes() == made.body
        assert json.loads((tmp_path / "manifest.json").read_text())["sha256"] == made.manifest.sha256

    @pytest.mark.parametrize("lose", ["delete", "replace"])
    def test_one_that_is_gone_is_built_again_from_the_very_versions(
        self, service: Service, run: Run, made: Retrained, tmp_path: Path, lose: str
    ) -> None:
        objects = service.world.objects
        objects.delete(made.manifest.uri) if lose == "delete" else objects.write(made.manifest.uri, b"another\n")
        for source in made.sources:
            objects.write(source.uri, chat_rows(5))
        service.carry = lambda uri: 3000
        ran = run("data", "pull", made.job_id, "--out", tmp_path)
        assert ran.code == 0, ran.err
        assert "was built again from its manifest" in ran.out
        assert (tmp_path / "training.jsonl").read_bytes() == made.body
        assert not list(tmp_path.glob(".training*"))

    def test_a_version_that_is_gone_too_is_named_and_nothing_is_kept(
        self, service: Service, run: Run, made: Retrained, tmp_path: Path
    ) -> None:
        service.world.objects.delete(made.manifest.uri)
        lost = made.sources[1]
        service.world.objects.delete_version(lost.uri, lost.version_id)
        ran = run("data", "pull", made.job_id, "--out", tmp_path, "--json")
        assert (ran.code, ran.error["code"]) == (2, "dataset_object_gone")
        assert lost.uri in ran.error["message"]
        assert not list(tmp_path.glob("*training*"))

    def test_urls_that_end_while_it_is_built_are_asked_for_again(
        self, service: Service, run: Run, made: Retrained, tmp_path: Path
    ) -> None:
        service.world.objects.delete(made.manifest.uri)
        refused = [403]
        service.refuse = lambda method, path: refused.pop() if refused and "/support/" in path else None
        assert run("data", "pull", made.job_id, "--out", tmp_path).code == 0
        assert (tmp_path / "training.jsonl").read_bytes() == made.body


class TestOffline:
    @pytest.fixture
    def mirror(self, service: Service, made: Retrained, tmp_path: Path) -> Path:
        """The manifest's objects as files, with no API."""
        for source in made.sources:
            path = tmp_path / "mirror" / source.uri.removeprefix("s3://")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(service.world.objects.read(source.uri))
        (tmp_path / "m.json").write_bytes(service.world.objects.read(f"{FOLDER}/manifest.json"))
        return tmp_path / "mirror"

    def test_a_manifest_and_its_objects_are_enough(
        self, service: Service, run: Run, made: Retrained, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SPOTUNE_API_URL", "http://127.0.0.1:1")
        for how in ("was built again from its manifest", "was here already"):
            ran = run("data", "pull", tmp_path / "m.json", "--source", mirror, "--out", tmp_path / "set")
            assert (ran.code, how in ran.out) == (0, True), ran.err
            assert (tmp_path / "set/training.jsonl").read_bytes() == made.body

    @pytest.mark.parametrize("uri", ["s3://../../secret", "s3://b/../../../secret", "/etc/passwd", "https://x/y"])
    def test_a_manifest_reads_nothing_outside_the_folder(
        self, run: Run, made: Retrained, mirror: Path, tmp_path: Path, uri: str
    ) -> None:
        (tmp_path / "secret").write_bytes(made.body)
        forged = made.manifest.with_(entries=(made.manifest.entries[0].with_(uri=uri),))
        (tmp_path / "m.json").write_text(forged.model_dump_json())
        ran = run("data", "pull", tmp_path / "m.json", "--source", mirror, "--out", tmp_path / "set", "--json")
        assert (ran.code, ran.error["code"]) == (2, "manifest_damaged")

    def test_an_object_of_other_bytes_is_named(self, run: Run, made: Retrained, mirror: Path, tmp_path: Path) -> None:
        next(mirror.rglob("1.jsonl")).write_bytes(b"{}")
        ran = run("data", "pull", tmp_path / "m.json", "--source", mirror, "--out", tmp_path / "set", "--json")
        assert (ran.code, ran.error["code"]) == (2, "dataset_object_changed")
        assert not list((tmp_path / "set").iterdir())

    def test_what_is_no_manifest_is_named(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "x.json").write_text('{"entries": 5}')
        ran = run("data", "pull", tmp_path / "x.json", "--source", tmp_path, "--json")
        assert (ran.code, ran.error["code"]) == (2, "manifest_unreadable")

    @pytest.mark.parametrize("where", [(), ("--source", "no/such/folder")])
    def test_without_the_folder_of_its_objects_nothing_can_be_built(
        self, run: Run, mirror: Path, tmp_path: Path, where: tuple[str, ...]
    ) -> None:
        ran = run("data", "pull", tmp_path / "m.json", *where, "--json")
        assert (ran.code, ran.error["param"]) == (2, "source")

    def test_a_dvc_file_and_its_remote_are_enough(self, run: Run, tmp_path: Path) -> None:
        file, inside = b"rows\n" * CHUNK_BYTES, b"others\n"
        listing = json.dumps([{"md5": md5(inside).hexdigest(), "relpath": "a/b.jsonl"}]).encode()
        for body, suffix in ((file, ""), (inside, ""), (listing, ".dir")):
            digest = md5(body).hexdigest()
            path = tmp_path / "remote/files/md5" / digest[:2] / (digest[2:] + suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        outs = [(md5(file).hexdigest(), "train.jsonl"), (md5(listing).hexdigest() + ".dir", "set")]
        text = "outs:\n" + "".join(f"- md5: {digest}\n  hash: md5\n  path: {path}\n" for digest, path in outs)
        (tmp_path / "x.dvc").write_text(text)
        for how in ("was copied", "was here already"):
            ran = run("data", "pull", tmp_path / "x.dvc", "--source", tmp_path / "remote", "--out", tmp_path / "set")
            assert (ran.code, ran.out.count(how)) == (0, 2), ran.err
        assert (tmp_path / "set/train.jsonl").read_bytes() == file
        assert (tmp_path / "set/set/a/b.jsonl").read_bytes() == inside
        next((tmp_path / "remote").rglob(md5(inside).hexdigest()[2:])).write_bytes(b"damaged")
        (tmp_path / "set/set/a/b.jsonl").unlink()
        ran = run(
            "data", "pull", tmp_path / "x.dvc", "--source", tmp_path / "remote", "--out", tmp_path / "set", "--json"
        )
        assert (ran.code, ran.error["code"]) == (2, "dataset_object_changed")
        assert not (tmp_path / "set/set/a/b.jsonl").exists()
