"""The table of what is trained says what the tests' marks say, and refuses words that nothing knows."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).parents[2] / "docs" / "support.py"
MARKED = """
import pytest

@pytest.mark.proves(method="lora", objective="dpo", sharding="zero2")
@pytest.mark.proves(method="qlora", quantization="nf4")
def test_two(): pass

@pytest.mark.proves(sharding="ddp")
@pytest.mark.parametrize("method", ["dora", "ia3"])
def test_each(method): pass

def test_nothing(): pass
"""


@pytest.fixture
def support(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_support", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.syspath_prepend(str(PATH.parent))
    monkeypatch.setitem(sys.modules, "docs_support", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "TESTS", ("proofs",))
    (tmp_path / "proofs").mkdir()
    return module


def test_a_mark_is_a_cell_and_a_parameter_fills_what_it_leaves_out(support: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "proofs" / "test_marked.py").write_text(MARKED)
    file = "proofs/test_marked.py"
    proofs = support.collect()
    assert proofs == {
        support.Proof("lora", "dpo", "zero2", "none", file),
        support.Proof("qlora", "supervised", "none", "nf4", file),
        support.Proof("dora", "supervised", "ddp", "none", file),
        support.Proof("ia3", "supervised", "ddp", "none", file),
    }
    page = support.page(proofs)
    supervised, _, rest = page.partition("## dpo")
    assert f"| qlora | [1](../{file}) nf4 |  |" in supervised
    assert f"| dora |  | [1](../{file}) |" in supervised
    assert f"| lora |  |  |  | [1](../{file}) |" in rest
    assert f"1. `{file}`" in page


@pytest.mark.parametrize("mark", ['method="lorra"', '"lora"', 'optimizer="adamw"'])
def test_a_word_that_the_contract_does_not_know_is_refused(support: ModuleType, tmp_path: Path, mark: str) -> None:
    text = f"import pytest\n\n@pytest.mark.proves({mark})\ndef test_one(): pass\n"
    (tmp_path / "proofs" / f"test_wrong_{mark[:3].strip(chr(34))}.py").write_text(text)
    with pytest.raises(RuntimeError, match="takes words of the contract"):
        support.collect()
