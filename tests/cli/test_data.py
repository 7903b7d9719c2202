"""`data preview`: what is learned is marked, and nothing in a row is taken for more than text."""

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from spotune.cli import preview as views
from spotune.data.preview import Piece, Shown
from tests.cli.conftest import Run
from tests.data import templates

SPECIAL = ["<|im_start|>", "<|im_end|>"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder as far as its tokenizer goes: bytes, and ChatML's two tokens."""
    folder = tmp_path_factory.mktemp("model")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": SPECIAL[1]}))
    (folder / "chat_template.jinja").write_text(templates.CHATML)
    return folder


def chat(*said: str) -> dict[str, object]:
    roles = ("user", "assistant") * len(said)
    return {"messages": [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]}


def write(folder: Path, *rows: object) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_what_is_learned_stands_between_marks_with_counts_and_coverage(run: Run, model: Path, tmp_path: Path) -> None:
    file = write(tmp_path, chat("One?", "1 [bold]é", "Two?", "2"), chat("Three?", "3"))
    shown = run("data", "preview", file, "--model", str(model), "--rows", "1")
    assert shown.code == 0
    assert "⟦1 [bold]é<|im_end|>⟧" in shown.out
    assert "⟦2<|im_end|>⟧" in shown.out
    assert "Three" not in shown.out
    assert "Line 1: 61 tokens, 13 learned (21.3%)" in shown.out
    last = run("data", "preview", file, "--model", str(model), "--loss-on", "last_turn")
    assert "⟦1" not in last.out
    assert "⟦2<|im_end|>⟧" in last.out
    assert "Line 2" in last.out


def test_both_answers_of_a_preference_are_shown(run: Run, model: Path, tmp_path: Path) -> None:
    file = write(tmp_path, {"prompt": "1 + 1 =", "chosen": " 2", "rejected": " 3"})
    shown = run("data", "preview", file, "--model", str(model), "--json").json
    assert [(row["verdict"], row["pieces"][-1]) for row in shown["rows"]] == [
        ("preferred", {"text": " 2<|im_end|>", "trained": True}),
        ("rejected", {"text": " 3<|im_end|>", "trained": True}),
    ]


def test_bad_rows_are_named_and_refused(run: Run, model: Path, tmp_path: Path) -> None:
    shown = run("data", "preview", write(tmp_path, {"text": 1}, chat("a", "b")), "--model", str(model))
    assert shown.code == 2
    assert "not_a_string" in shown.out
    assert "⟦b<|im_end|>⟧" in shown.out


def test_a_row_that_the_template_refuses_is_a_fault_of_its_line(run: Run, model: Path, tmp_path: Path) -> None:
    strict = tmp_path / "strict"
    shutil.copytree(model, strict)
    (strict / "chat_template.jinja").write_text(templates.MISTRAL_LIKE.replace("eos_token", "'<|im_end|>'"))
    twice = {"messages": [{"role": "user", "content": "a"}] * 2 + [{"role": "assistant", "content": "b"}]}
    shown = run("data", "preview", write(tmp_path, twice, chat("c", "d")), "--model", str(strict))
    assert shown.code == 2
    assert "template_refused_row" in shown.out
    assert "⟦ d<|im_end|>⟧" in shown.out


def test_an_unknown_word_is_refused_by_option(run: Run, model: Path, tmp_path: Path) -> None:
    refused = run("data", "preview", write(tmp_path, chat("a", "b")), "--model", str(model), "--loss-on", "some")
    assert refused.code == 2
    assert "--loss-on is 'some', not one of assistant, last_turn, all" in refused.err


def test_a_check_measures_what_the_objective_learns(run: Run, model: Path, tmp_path: Path) -> None:
    file = write(tmp_path, *({"prompt": str(number), "completion": "b", "label": number > 4} for number in range(9)))
    assert run("data", "check", file, "--model", str(model), "--objective", "kto").code == 0
    refused = run("data", "check", file, "--model", str(model))
    assert refused.code == 2
    assert "Set method.type to kto" in refused.out.replace("\n", " ")


HOSTILE = "\x1b[2J\x1b]0;owned\x07 [red]x[/red] ⟦forged⟧ \u202egnp.exe \x9b31m\x7f\r"


def printed(*, colours: bool, **console: object) -> str:
    row = Shown(1, "", (Piece(HOSTILE, False), Piece("learned", True)), 2, 1, 2)
    screen = Console(width=200, record=True, file=open("/dev/null", "w"), **console)  # noqa: SIM115
    screen.print(views.shown([row], colours=colours))
    return screen.export_text(styles=colours)


def test_nothing_in_a_row_is_interpreted() -> None:
    plain = printed(colours=False)
    assert not any((ord(letter) < 32 and letter != "\n") or 0x7E < ord(letter) < 0xA0 for letter in plain)
    assert "\u202e" not in plain
    assert "[red]x[/red]" in plain
    assert plain.count("⟦") == 2  # around what is learned, and in the legend
    coloured = printed(colours=True, force_terminal=True, color_system="standard")
    assert "\x1b[2J" not in coloured
    assert "\x1b]0;" not in coloured
    assert "[red]x[/red]" in coloured


def test_colours_mark_what_is_learned_where_there_are_any() -> None:
    coloured = printed(colours=True, force_terminal=True, color_system="standard")
    assert "\x1b[30;42mlearned\x1b[0m" in coloured
