from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.cli.jobfile import parse_assignments, read_draft
from spotune.contracts.errors import RequestRefused

GOOD = """\
# what a team keeps in its repository
model: some/model
training_file: s3://data/acme/rows.jsonl
constraints:
  budget_usd: 20
training:
  packing: false
  learning_rate: 1e-4
"""


def write(folder: Path, text: str, name: str = "job.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def refusal(path: Path, **overrides: object) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        read_draft(path, overrides)
    return caught.value


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    body = {
        "model": "some/model",
        "training_file": "s3://data/acme/rows.jsonl",
        "constraints": {"budget_usd": 20},
        "training": {"packing": False, "learning_rate": 1e-4},
    }
    in_json = read_draft(write(tmp_path, json.dumps(body, indent="\t"), "job.json"), {})
    assert read_draft(write(tmp_path, GOOD), {}).request == in_json.request


def test_a_flag_wins_over_the_file(tmp_path: Path) -> None:
    request = read_draft(write(tmp_path, GOOD), {"constraints.budget_usd": 5, "constraints.market": "spot"}).request
    assert request.constraints.budget_usd == 5
    assert request.constraints.market == "spot"
    assert request.training.packing is False


def test_an_unknown_field_is_named_with_its_line_and_the_likely_one(tmp_path: Path) -> None:
    error = refusal(write(tmp_path, GOOD.replace("packing", "paking")))
    assert (error.code, error.param) == ("unknown_field", "training.paking")
    assert "job.yaml, line 7: unknown field 'training.paking'. Did you mean 'packing'?" in str(error)


@pytest.mark.parametrize(
    ("line", "suggestion"),
    [
        ("method: {supervised: {hyperparameters: {epochs: 1}}}", "Did you mean 'n_epochs'?"),
        ("budget_usd: 5", "Did you mean 'constraints.budget_usd'?"),
        ("learning_rate: 0.001", "Did you mean 'training.learning_rate'?"),
        ("registry: {colour: red}", "Known here: group, start_from"),
    ],
)
def test_a_field_of_an_inner_group_is_found_where_it_belongs(tmp_path: Path, line: str, suggestion: str) -> None:
    error = refusal(write(tmp_path, f"model: some/model\ntraining_file: s3://a/b\n{line}\n"))
    assert "job.yaml, line 3: unknown field" in str(error)
    assert suggestion in str(error)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("adapter: {type: lorra}", ["'auto'", "'lora'", "'qlora'"]),
        ("constraints: {market: spott}", ["'auto'", "'spot'", "'on_demand'"]),
    ],
)
def test_a_misspelt_word_is_answered_with_every_word_that_the_field_takes(
    tmp_path: Path, line: str, words: list[str]
) -> None:
    error = refusal(write(tmp_path, f"model: some/model\ntraining_file: s3://a/b\n{line}\n"))
    assert [word for word in words if word not in str(error)] == []


def test_every_fault_is_named_once(tmp_path: Path) -> None:
    text = GOOD.replace("budget_usd: 20", "budget_usd: -1").replace("false", "perhaps").replace("some/model", "''")
    faults = refusal(write(tmp_path, text)).details["faults"]
    assert isinstance(faults, list)
    assert [fault["param"] for fault in faults] == ["model", "constraints.budget_usd", "training.packing"]
    assert [fault["message"].split(":")[0] for fault in faults] == [f"job.yaml, line {line}" for line in (2, 5, 7)]


def test_a_field_that_takes_auto_or_a_number_is_one_fault(tmp_path: Path) -> None:
    faults = refusal(write(tmp_path, GOOD + "hyperparameters: {n_epochs: many}\n")).details["faults"]
    assert isinstance(faults, list)
    assert [fault["param"] for fault in faults] == ["hyperparameters.n_epochs"]


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    error = refusal(write(tmp_path, "training_file: s3://a/b\n"))
    assert (error.code, error.param) == ("missing_field", "model")


@pytest.mark.parametrize(("name", "ending"), [("job.yaml", "model: other\n"), ("job.json", "")])
def test_a_field_given_twice_is_refused(tmp_path: Path, name: str, ending: str) -> None:
    text = GOOD + ending if ending else '{"model": "a", "model": "b", "training_file": "s3://a/b"}'
    assert "'model' is given twice" in str(refusal(write(tmp_path, text, name)))


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("job.yaml", "model: [a\n", "line 2: not YAML"),
        ("job.yaml", "- model\n", "an object"),
        ("job.yaml", "", "an object"),
        ("job.json", '{\n"model" "a"}', "line 2: not JSON"),
        ("job.json", "[" * 5, "not JSON"),
        (
            "rows.jsonl",
            '{"messages": []}\n{"messages": []}\n',
            "is a dataset, and no file of fields. Begin with `model:`",
        ),
    ],
)
def test_what_is_no_job_file_is_refused_with_its_line(tmp_path: Path, name: str, text: str, word: str) -> None:
    assert word in str(refusal(write(tmp_path, text, name)))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "No such file" in str(refusal(tmp_path / "none.yaml"))
    (tmp_path / "utf16.yaml").write_text(GOOD, encoding="utf-16")
    assert "not UTF-8" in str(refusal(tmp_path / "utf16.yaml"))


def test_paths_start_from_the_job_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "rows.jsonl").write_text("{}")
    monkeypatch.chdir(tmp_path)
    draft = read_draft(write(folder, "model: m\ntraining_file: rows.jsonl\n"), {})
    assert draft.files == {"training_file": folder / "rows.jsonl"}
    assert draft.with_ids({"training_file": "file-1"}).training_file == "file-1"


def test_golden_prompts_may_be_a_path_inside_their_group(tmp_path: Path) -> None:
    (tmp_path / "golden.jsonl").write_text("{}")
    text = "model: m\ntraining_file: file-1\ngate: {golden_file: golden.jsonl, min_golden: 0.9}\n"
    draft = read_draft(write(tmp_path, text), {})
    assert draft.files == {"gate.golden_file": tmp_path / "golden.jsonl"}
    gate = draft.with_ids({"gate.golden_file": "file-2"}).gate
    assert (gate.golden_file, gate.min_golden) == ("file-2", 0.9)


def test_a_path_that_leads_nowhere_is_refused_and_an_id_is_not(tmp_path: Path) -> None:
    error = refusal(write(tmp_path, "model: m\ntraining_file: rows.jsonl\n"))
    assert (error.code, error.param) == ("file_missing", "training_file")
    assert read_draft(write(tmp_path, "model: m\ntraining_file: file-abc\n"), {}).files == {}


def test_assignments_are_read_as_yaml() -> None:
    fields = parse_assignments(["training.packing=false", "constraints.instance_types=[ml.g5.xlarge]", "suffix=a=b"])
    assert fields == {"training.packing": False, "constraints.instance_types": ["ml.g5.xlarge"], "suffix": "a=b"}
    with pytest.raises(RequestRefused, match="field=value"):
        parse_assignments(["packing"])


def test_an_assignment_into_a_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestRefused, match="not a group"):
        read_draft(write(tmp_path, GOOD), {"model.name": "x"})


@given(st.text(max_size=200))
def test_any_text_is_a_request_or_a_refusal(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("any")
    for name in ("job.yaml", "job.json"):
        path = folder / name
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        with pytest.raises(RequestRefused):
            read_draft(path, {})
