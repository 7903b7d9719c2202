"""The demo's dataset: made by its generator, balanced, valid, and without leakage from training to held-out."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter

import pytest
import yaml

from examples.support_routing.generate import ALWAYS_URGENT, FILES, FOLDER, SYSTEM_PROMPT, Split, generate, to_jsonl
from spotune.contracts.request import JobRequest

MATERIAL = tomllib.loads((FOLDER / "material.toml").read_text(encoding="utf-8"))
TABLES = ("intents", "priority", "phrases", "entities")
SHINGLE = 5


def rows(split: Split) -> list[dict[str, list[dict[str, str]]]]:
    return [json.loads(line) for line in (FOLDER / FILES[split]).read_text(encoding="utf-8").splitlines()]


def tickets(split: Split) -> list[str]:
    return [row["messages"][1]["content"] for row in rows(split)]


def answers(split: Split) -> list[dict[str, str]]:
    return [json.loads(row["messages"][2]["content"]) for row in rows(split)]


def words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def shingles(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[start : start + SHINGLE]) for start in range(len(found) - SHINGLE + 1)}


@pytest.mark.parametrize("split", FILES)
def test_the_generator_writes_the_committed_bytes(split: Split) -> None:
    assert to_jsonl(list(generate(split))) == (FOLDER / FILES[split]).read_bytes().decode()


@pytest.mark.parametrize(("split", "least"), [("training", 400), ("heldout", 80)])
def test_every_row_is_a_chat_example_with_a_json_decision(split: Split, least: int) -> None:
    assert len(rows(split)) >= least
    for row in rows(split):
        assert [message["role"] for message in row["messages"]] == ["system", "user", "assistant"]
        assert row["messages"][0]["content"] == SYSTEM_PROMPT
    for answer in answers(split):
        assert list(answer) == ["intent", "team", "priority"]
        assert answer["team"] == MATERIAL["intents"][answer["intent"]]["team"]


@pytest.mark.parametrize("split", FILES)
def test_no_ticket_appears_twice(split: Split) -> None:
    assert max(Counter(tickets(split)).values()) == 1


@pytest.mark.parametrize("split", FILES)
def test_labels_are_balanced(split: Split) -> None:
    intents = Counter(answer["intent"] for answer in answers(split))
    priorities = Counter(answer["priority"] for answer in answers(split))
    assert set(intents) == set(MATERIAL["intents"])
    assert len(set(intents.values())) == 1
    assert max(priorities.values()) <= 0.4 * priorities.total()


@pytest.mark.parametrize("split", FILES)
def test_the_system_prompt_and_the_tickets_do_not_give_the_decisions_away(split: Split) -> None:
    assert not {answer[field] for answer in answers(split) for field in answer} & set(words(SYSTEM_PROMPT))
    assert not any("{" in ticket or "_" in ticket for ticket in tickets(split))


@pytest.mark.parametrize("split", FILES)
def test_a_priority_follows_from_what_the_ticket_says(split: Split) -> None:
    hurry = {
        priority: [words(phrase) for phrase in MATERIAL["priority"][priority][split]] for priority in ("urgent", "low")
    }
    misspelt = {wrong.lower(): right.lower() for right, wrong in MATERIAL["misspellings"].items()}
    for ticket, answer in zip(tickets(split), answers(split), strict=True):
        said = {priority for priority, phrases in hurry.items() if _says_any(ticket, phrases, misspelt)}
        if answer["intent"] in ALWAYS_URGENT:
            assert answer["priority"] == "urgent"
            assert said <= {"urgent"}
        else:
            assert said == {answer["priority"]} - {"normal"}


def test_held_out_material_is_no_training_material() -> None:
    for table in TABLES:
        for name, entry in MATERIAL[table].items():
            training, heldout = ({phrase.lower() for phrase in entry[split]} for split in FILES)
            assert not training & heldout, f"{table}.{name}"
            assert len(training) == len(entry["training"])
            assert len(heldout) == len(entry["heldout"])


def test_no_held_out_ticket_shares_long_runs_of_words_with_a_training_ticket() -> None:
    training = [shingles(ticket) for ticket in tickets("training")]
    for ticket in tickets("heldout"):
        mine = shingles(ticket)
        nearest = max(len(mine & other) for other in training)
        assert nearest <= 0.2 * len(mine), ticket


def test_no_held_out_problem_is_a_training_problem_in_other_words_order() -> None:
    training = [set(words(text)) for entry in MATERIAL["intents"].values() for text in entry["training"]]
    for entry in MATERIAL["intents"].values():
        for text in entry["heldout"]:
            mine = set(words(text))
            nearest = max(len(mine & other) / len(mine | other) for other in training)
            assert nearest <= 0.5, text


def test_the_job_file_is_a_valid_request_for_these_files() -> None:
    request = JobRequest.model_validate(yaml.safe_load((FOLDER / "job.yaml").read_text(encoding="utf-8")))
    assert (request.training_file, request.validation_file) == tuple(FILES.values())
    assert request.training.generation_examples >= 40
    assert request.gate.min_exact_match == 0.8
    assert request.constraints.budget is not None


def _says_any(ticket: str, phrases: list[list[str]], misspelt: dict[str, str]) -> bool:
    # "form" may stand for a misspelt "from" or for itself: both readings of the ticket count.
    for said in (words(ticket), [misspelt.get(word, word) for word in words(ticket)]):
        text = f" {' '.join(said)} "
        if any(f" {' '.join(phrase)} " in text for phrase in phrases):
            return True
    return False
