"""The generated dataset of `make bench-data`: the same each time, with its faults where the check finds them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.data_rows import REPEATS, generate
from benchmarks.data_runs import check, deduplicate


def test_a_generated_file_is_the_same_each_time_and_its_faults_are_found(tmp_path: Path) -> None:
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    planted = generate(one, 7_000_000)
    assert generate(other, 7_000_000) == planted
    assert one.read_bytes() == other.read_bytes()
    found = check(one)
    assert min(planted.values()) >= 1
    assert found["issues"] == planted
    assert {*REPEATS} < planted.keys()
    kept = deduplicate(one)
    assert kept["rows"] == found["rows"]
    assert kept["kept"] == kept["rows"] - planted["exact_duplicate"]
