"""`plan` with a picture and with an explanation, worked out on this machine."""

import json

import pytest

from spotune.cli.main import run

MODEL = "Qwen/Qwen2.5-1.5B-Instruct"


@pytest.fixture
def planned(tmp_path):
    """The command line of a plan that needs nothing but this machine."""
    rows = [
        {"messages": [{"role": "user", "content": f"{n} " * 40}, {"role": "assistant", "content": "Yes."}]}
        for n in range(60)
    ]
    data = tmp_path / "train.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return ["plan", "--model", MODEL, "--training-file", str(data), "--offline"]


def test_a_rejected_type_is_explained_with_what_it_would_cost(planned, capsys):
    assert run([*planned, "--explain", "ml.p5.4xlarge", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["rejection"]["rule"] == "cost"
    assert body["alone"]["instance_type"] == "ml.p5.4xlarge"
    assert body["alone"]["cost"]["mid"] > body["chosen"]["cost"]["mid"]
    assert run([*planned, "--explain", "ml.p5.4xlarge"]) == 0
    assert "x the cost of" in capsys.readouterr().out


def test_a_type_that_cannot_run_it_is_explained_with_the_refusal(planned, capsys):
    assert run([*planned, "--explain", "ml.p5.48xlarge", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["rejection"]["rule"] == "capability"
    assert body["alone"] is None
    assert "ml.p5.48xlarge" in body["refusal"]


def test_the_chosen_type_is_explained_as_chosen(planned, capsys):
    run([*planned, "--json"])
    chosen = json.loads(capsys.readouterr().out)["plan"]["chosen"]["instance_type"]
    assert run([*planned, "--explain", chosen]) == 0
    assert "is the chosen type" in capsys.readouterr().out


def test_an_unknown_type_is_not_found(planned, capsys):
    assert run([*planned, "--explain", "ml.q9.large"]) == 3
    assert "ml.q9.large" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "begins"), [("f.png", b"\x89PNG"), ("f.svg", b"<?xml"), ("f.html", b"<!doctype html>")]
)
def test_the_front_is_drawn_as_the_files_name_asks(planned, tmp_path, name, begins):
    assert run([*planned, "--plot", str(tmp_path / name)]) == 0
    picture = (tmp_path / name).read_bytes()
    assert picture.startswith(begins)
    if not name.endswith("png"):
        assert b"ml.g" in picture


@pytest.mark.parametrize(("name", "says"), [("front.gif", ".png, .svg, .html"), ("missing/front.png", "no folder")])
def test_a_picture_that_cannot_be_written_is_refused_before_planning(planned, tmp_path, capsys, name, says):
    assert run([*planned, "--plot", str(tmp_path / name)]) == 2
    assert says in capsys.readouterr().err


def test_golden_prompts_on_this_machine_are_checked_and_planned_for(planned, tmp_path, capsys):
    golden = tmp_path / "golden.jsonl"
    golden.write_text('{"prompt": "Which team?", "expected": "billing"}\n', encoding="utf-8")
    asked = [*planned, "--set", f"gate.golden_file={golden}", "--json"]
    assert run(asked) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["dataset"]["golden"]["prompts"] == 1
    assert body["config"]["evaluation"]["golden"] is True
    assert [one["value"] for one in body["settings"] if one["name"] == "golden_prompts"] == ["1"]
    golden.write_text('{"prompt": "Which team?"}\n', encoding="utf-8")
    assert run(asked) == 2
    assert "line 1" in capsys.readouterr().err
