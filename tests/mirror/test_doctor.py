"""What doctor says of the hub: a real one on loopback, and each answer that it may give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from spotune.deploy.doctor.findings import Finding
from spotune.mirror.doctor import examine_hub, judge_hub, judge_token
from spotune.mirror.hub import Look, Token
from tests.mirror.hub import TOKEN, FakeHub, serving

HERE = "https://hub.example.com"


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub that the environment names, and nobody's token."""
    for name in ("HF_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        yield hub


def found() -> tuple[Finding, Finding]:
    hub, token = examine_hub()
    assert (hub.check, token.check) == ("hub", "hub token")
    return hub, token


def test_a_hub_that_answers_and_no_token_are_no_fault(far: FakeHub) -> None:
    hub, token = found()
    assert (hub.status, hub.details["address"]) == ("ok", far.address)
    assert (token.status, "gated" in token.says, "HF_TOKEN" in token.says) == ("ok", True, True)
    assert far.paths() == ["/api/models?limit=1"]


@pytest.mark.parametrize("kept", [False, True])
def test_whose_token_it_is_is_said(far: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: bool) -> None:
    if kept:
        (tmp_path / "token").write_text(f"{TOKEN}\n")
    else:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub, token = found()
    assert (hub.status, token.status, token.details["account"]) == ("ok", "ok", "ada")
    assert (str(tmp_path / "token") if kept else "HF_TOKEN") in token.says


def test_a_token_that_is_not_taken_is_warned_of(far: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "b" * 34)
    hub, token = found()
    assert (hub.status, token.status) == ("ok", "warn")
    assert "HF_TOKEN" in token.remedy


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:9", "hub.example.com", "http://[::bad", "http://me:word@127.0.0.1:9"]
)
def test_a_hub_that_does_not_answer_is_a_warning(monkeypatch: pytest.MonkeyPatch, far: FakeHub, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub, token = found()
    assert (hub.status, token.status) == ("warn", "unknown")
    assert "HF_ENDPOINT" in hub.remedy
    assert "word" not in str((hub, token))


def test_a_page_of_a_proxy_is_no_hub(far: FakeHub) -> None:
    far.days.page = b"<html>Please sign in</html>"
    hub, _ = found()
    assert (hub.status, "proxy" in hub.remedy) == ("warn", True)


def test_a_hub_that_is_busy_is_asked_once(far: FakeHub) -> None:
    far.days.busy = 1
    assert found()[0].status == "warn"
    assert len(far.asked) == 1


@pytest.mark.parametrize("spoilt", ["hf_secret\nword", "hf_secret word", "hf_secretü"])
@pytest.mark.parametrize("kept", [False, True])
def test_no_letter_of_a_token_is_said(
    far: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spoilt: str, kept: bool
) -> None:
    if kept:
        (tmp_path / "token").write_bytes(spoilt.encode("latin-1"))
    else:
        monkeypatch.setenv("HF_TOKEN", spoilt)
    hub, token = found()
    assert (hub.status, token.status) == ("ok", "warn")
    assert "secret" not in f"{hub}{token}"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert TOKEN[3:] not in f"{found()}{Token.from_environment()}"


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        (Look(200, body=[]), "ok"),
        (Look(401), "ok"),
        (Look(200, body={}), "warn"),
        (Look(404), "warn"),
        (Look(503), "warn"),
        (Look(0, "no route"), "warn"),
    ],
)
def test_a_hub_is_known_by_its_answer(seen: Look, status: str) -> None:
    finding = judge_hub(HERE, seen)
    assert (finding.status, bool(finding.remedy)) == (status, status != "ok")


@pytest.mark.parametrize(
    ("token", "seen", "who", "status"),
    [
        ("", Look(200, body=[]), None, "ok"),
        ("", Look(0, "no route"), None, "ok"),
        ("", Look(401), None, "warn"),
        ("t", Look(0, "no route"), None, "unknown"),
        ("t", Look(200, body=[]), Look(0, "no route"), "unknown"),
        ("t", Look(200, body=[]), Look(404), "unknown"),
        ("t", Look(200, body=[]), Look(200, body={"name": "a\x1b[2J"}), "unknown"),
        ("t", Look(200, body=[]), Look(200, body=["ada"]), "unknown"),
        ("t", Look(401), Look(401), "warn"),
        ("t", Look(200, body=[]), Look(200, body={"name": "ada"}), "ok"),
    ],
)
def test_a_token_is_judged_by_what_the_hub_says_of_it(token: str, seen: Look, who: Look | None, status: str) -> None:
    assert judge_token(Token(token, "HF_TOKEN"), seen, who).status == status
