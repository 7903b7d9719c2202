"""The way to the hub: what it lists, its files over bad connections, and what it refuses."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.contracts.errors import NotAllowed, NotAuthenticated, NotFound, RequestRefused, SpotuneError, Unavailable
from spotune.mirror.hub import PUBLIC, TRIES, Hub, HubFile, check_name
from tests.mirror.conftest import Pauses
from tests.mirror.hub import TOKEN, FakeHub
from tests.mirror.models import NAME, single

WEIGHTS = "model.safetensors"


@pytest.fixture(autouse=True)
def commit(far: FakeHub) -> str:
    return far.add(NAME, single(), card={"license": "mit"})


def file_of(hub: Hub, name: str) -> HubFile:
    return next(file for file in hub.commit(NAME, "main").files if file.name == name)


def read(hub: Hub, name: str, offset: int = 0) -> bytes:
    at = hub.commit(NAME, "main")
    return b"".join(hub.chunks(at, next(file for file in at.files if file.name == name), offset))


class TestTheDouble:
    """The double is what the hub's own client takes for a hub; otherwise the tests below would prove nothing."""

    @pytest.fixture(autouse=True)
    def _online(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)

    def test_the_hubs_own_client_downloads_the_same_bytes(self, far: FakeHub, commit: str, tmp_path: Path) -> None:
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(NAME, endpoint=far.address, cache_dir=tmp_path, token=False))
        assert folder.name == commit
        found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert found == single()

    def test_the_hubs_own_client_reads_the_same_hashes(self, far: FakeHub, hub: Hub) -> None:
        from huggingface_hub import HfApi

        info = HfApi(endpoint=far.address, token=False).model_info(NAME, files_metadata=True)
        theirs = {one.rfilename: (one.size, one.blob_id, one.lfs and one.lfs.sha256) for one in info.siblings}
        ours = {file.name: (file.bytes, file.blob, file.sha256) for file in hub.commit(NAME, "main").files}
        assert ours == theirs

    def test_the_hubs_own_client_meets_the_same_refusals(self, far: FakeHub, tmp_path: Path) -> None:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

        far.add("org/gated", single(), gated="manual")
        for name, revision, error in (
            ("org/gated", "main", GatedRepoError),
            ("org/none", "main", RepositoryNotFoundError),
            (NAME, "none", RevisionNotFoundError),
        ):
            with pytest.raises(error):
                hf_hub_download(
                    name, "config.json", revision=revision, endpoint=far.address, cache_dir=tmp_path, token=False
                )
        gated = hf_hub_download("org/gated", WEIGHTS, endpoint=far.address, cache_dir=tmp_path, token=TOKEN)
        assert Path(gated).read_bytes() == single()[WEIGHTS]


def test_a_branch_is_pinned_to_its_commit_with_every_files_hash(hub: Hub, commit: str) -> None:
    at = hub.commit(NAME, "main")
    assert (at.name, at.commit, at.gated, at.card) == (NAME, commit, False, {"license": "mit"})
    hashes = {file.name: file.sha256 for file in at.files}
    assert hashes[WEIGHTS] == hashlib.sha256(single()[WEIGHTS]).hexdigest()
    assert hashes["config.json"] is None, "git hashes it"
    assert hub.commit(NAME, commit) == at


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_file_comes_from_any_byte_on(hub: Hub, name: str) -> None:
    body = single()[name]
    for offset in (0, 1, len(body) - 1, len(body)):
        assert read(hub, name, offset) == body[offset:]


def test_the_token_goes_to_the_hub_alone(far: FakeHub) -> None:
    with Hub(far.address, TOKEN) as hub:
        assert read(hub, WEIGHTS) == single()[WEIGHTS], "the store refuses whoever brings a token"
    assert [(path.startswith(("/api/", f"/{NAME}/")), token) for _, path, token, _ in far.asked] == [
        (True, True),
        (True, True),
        (False, False),
    ]


def test_a_connection_that_breaks_is_taken_up_where_it_broke(far: FakeHub, hub: Hub, pauses: Pauses) -> None:
    far.days.cut[WEIGHTS] = [1000, 0, 5000]
    assert read(hub, WEIGHTS) == single()[WEIGHTS]
    assert [span for _, path, _, span in far.asked if "Signature" in path] == [
        "",
        "bytes=1000-",
        "bytes=1000-",
        "bytes=6000-",
    ]
    assert pauses == [1, 2, 1], "what came in between starts the count anew"


def test_an_end_that_comes_too_early_is_no_end(far: FakeHub, hub: Hub) -> None:
    far.days.early_end[WEIGHTS] = [10, 20]
    assert read(hub, WEIGHTS) == single()[WEIGHTS]


def test_a_server_that_knows_no_ranges_sends_the_whole_again(far: FakeHub, hub: Hub) -> None:
    far.days.cut[WEIGHTS], far.days.no_ranges = [1000], True
    assert read(hub, WEIGHTS) == single()[WEIGHTS]


def test_a_url_that_has_ended_is_asked_for_again(far: FakeHub, hub: Hub) -> None:
    far.days.ended_urls = 2
    assert read(hub, WEIGHTS) == single()[WEIGHTS]


def test_a_busy_hub_is_asked_again_when_it_says(far: FakeHub, hub: Hub, pauses: Pauses) -> None:
    far.days.busy, far.days.wait = 2, "7"
    hub.commit(NAME, "main")
    assert pauses == [7, 7]
    far.days.busy, far.days.wait = 1, "86400"
    hub.commit(NAME, "main")
    assert pauses[-1] == 60, "no longer than a minute"


def test_a_hub_that_goes_on_to_fail_is_given_up(far: FakeHub, hub: Hub, pauses: Pauses) -> None:
    far.days.busy = 100
    with pytest.raises(Unavailable, match="503") as given_up:
        hub.commit(NAME, "main")
    assert given_up.value.code == "hub_unavailable"
    assert len(far.asked) == TRIES
    assert pauses == [1, 2, 4, 8, 16]


def test_a_hub_that_is_not_there_is_given_up(pauses: Pauses) -> None:
    with Hub("http://127.0.0.1:9", pause=pauses) as hub, pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
        hub.commit(NAME, "main")


def test_a_gate_is_told_from_everything_else(far: FakeHub, hub: Hub) -> None:
    far.add("org/gated", single(), gated="auto")
    at = hub.commit("org/gated", "main")
    assert at.gated
    with pytest.raises(NotAllowed, match=f"Ask for access at {far.address}/org/gated") as shut:
        next(hub.chunks(at, at.files[0]))
    assert shut.value.code == "hub_gated"
    with Hub(far.address, TOKEN) as known:
        assert b"".join(known.chunks(at, at.files[0]))


def test_a_token_without_the_right_to_gated_models_is_told_in_the_hubs_words(far: FakeHub) -> None:
    far.days.narrow_token = True
    with Hub(far.address, TOKEN) as hub:
        at = hub.commit(NAME, "main")
        with pytest.raises(NotAllowed, match="Please enable access to public gated repositories") as refused:
            next(hub.chunks(at, at.files[0]))
    assert refused.value.code == "hub_refused"


@pytest.mark.parametrize(
    ("name", "revision", "code"),
    [("org/none", "main", "hub_model_not_found"), (NAME, "v9", "hub_revision_not_found")],
)
def test_what_the_hub_lacks_is_named(hub: Hub, name: str, revision: str, code: str) -> None:
    with pytest.raises(NotFound) as missing:
        hub.commit(name, revision)
    assert missing.value.code == code


def test_a_revision_may_have_a_slash_in_it(far: FakeHub, hub: Hub, commit: str) -> None:
    far.repositories[NAME].branches["refs/pr/1"] = commit
    assert hub.commit(NAME, "refs/pr/1").commit == commit


def test_a_token_that_nobody_knows_is_told(far: FakeHub) -> None:
    with Hub(far.address, "hf_wrong") as hub, pytest.raises(NotAuthenticated) as refused:
        hub.commit(NAME, "main")
    assert refused.value.code == "hub_token_refused"
    assert "hf_wrong" not in str(refused.value)


def test_a_model_that_has_another_name_now_is_not_taken_under_the_old_one(far: FakeHub, hub: Hub) -> None:
    far.renamed["old/name"] = NAME
    with pytest.raises(NotFound, match=f"is called {NAME} now"):
        hub.commit("old/name", "main")


@pytest.mark.parametrize("page", [b"<html>Sign in</html>", b"{}", b'{"id": "org/tiny", "sha": "main"}'])
def test_an_answer_that_is_no_hubs_is_told(far: FakeHub, hub: Hub, page: bytes) -> None:
    far.days.page = page
    with pytest.raises(SpotuneError) as odd:
        hub.commit(NAME, "main")
    assert odd.value.code == "hub_answer_unreadable"


@given(st.text(max_size=40))
def test_no_name_leads_out_of_its_place(name: str) -> None:
    try:
        check_name(name)
    except RequestRefused:
        return
    assert name.isascii()
    assert name.count("/") <= 1
    assert not {"", ".", ".."} & set(name.split("/"))


@pytest.mark.parametrize("name", ["../x", "a/../b", "a/b/c", "/a", "a/", "", "a b", "a/b?x", "a/b#c", "-a/b", "a--b"])
def test_what_is_no_name_is_asked_of_nobody(far: FakeHub, hub: Hub, name: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        hub.commit(name, "main")
    assert refused.value.code == "model_name_invalid"
    assert far.asked == []


def test_the_environment_names_hub_and_token(monkeypatch: pytest.MonkeyPatch, far: FakeHub, tmp_path: Path) -> None:
    far.add("org/gated", single(), gated="auto")
    for name in ("HF_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with Hub.from_environment() as hub:
        assert hub.address == PUBLIC
    monkeypatch.setenv("HF_ENDPOINT", far.address + "/")
    (tmp_path / "token").write_text(TOKEN + "\n")
    with Hub.from_environment() as hub:
        at = hub.commit("org/gated", "main")
        assert next(hub.chunks(at, at.files[0]))
