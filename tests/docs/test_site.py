"""The docs site builds without a warning, has every page, and its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ADDRESS = "https://example.com/spotune"


def build(folder: Path, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(folder)]
    words = {"NO_MKDOCS_2_WARNING": "1", "SPOTUNE_REPOSITORY_URL": ADDRESS}
    return subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | words)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    ran = build(folder)
    assert ran.returncode == 0, ran.stderr
    return folder


def test_every_page_of_the_docs_is_on_it(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    assert {str(page) for page in pages if not (site / page / "index.html").exists()} == {"index"}
    for name in ("changelog", "contributing", "code_of_conduct"):
        assert (site / "project" / name / "index.html").exists()


def test_scripts_are_not_on_it(site: Path) -> None:
    assert list(site.rglob("*.py")) == []


def test_a_link_to_a_file_of_the_repository_leads_to_its_address(site: Path) -> None:
    page = (site / "support" / "index.html").read_text()
    assert f'href="{ADDRESS}/blob/main/tests/embedded/test_end_to_end.py"' in page


def test_a_link_from_a_page_of_the_root_leads_to_the_page(site: Path) -> None:
    page = (site / "project" / "contributing" / "index.html").read_text()
    assert re.search(r'href="(\.\./)+architecture/"', page)
    assert 'href="../code_of_conduct/"' in page


def test_a_list_that_goes_on_keeps_its_numbers(site: Path) -> None:
    assert '<ol start="8">' in (site / "faults" / "index.html").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[there](nowhere.md)", "nowhere.md"),
        ("[there](../examples/nowhere.py)", "../examples/nowhere.py, which is not there"),
        ("[there](#nowhere)", "#nowhere"),
    ],
)
def test_a_link_to_nothing_fails_the_build(tmp_path: Path, text: str, said: str) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text(f"# Page\n\n{text}\n")
    (docs / "site_links.py").write_text((ROOT / "docs" / "site_links.py").read_text())
    whole = (ROOT / "mkdocs.yml").read_text()
    (tmp_path / "mkdocs.yml").write_text(whole.partition("\nnav:")[0] + "\nnav: [index.md]\n")
    ran = build(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert ran.returncode != 0
    assert said in ran.stderr
