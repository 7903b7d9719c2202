import pytest

from training_container.evaluation.matching import exact_match, json_keys, json_valid

OBJECT = '{"city": "Lima", "at": [{"lat": 1}, {"lat": 2}]}'


@pytest.mark.parametrize(
    ("answer", "valid", "keys"),
    [
        ('{"at": [{"lat": 7}], "city": null}', 1, 1),
        ('{"city": "Lima", "at": []}', 1, 0),
        ('{"city": "Lima", "at": [{"lat": 1, "lon": 2}]}', 1, 0),
        ("[1]", 0, 0),
        ("7", 0, 0),
        ('{"city": ', 0, 0),
        ("Here it is: {}", 0, 0),
        ("[" * 100_000, 0, 0),
    ],
)
def test_an_answer_is_held_against_the_kind_and_the_keys_of_its_reference(answer: str, valid: int, keys: int) -> None:
    assert (json_valid(answer, OBJECT), json_keys(answer, OBJECT)) == (valid, keys)


@pytest.mark.parametrize("reference", ["yes", "7", '"text"', "null", ""])
def test_json_says_nothing_where_the_reference_is_no_structure(reference: str) -> None:
    assert json_valid("{}", reference) is None
    assert json_keys("{}", reference) is None


def test_white_space_around_an_answer_does_not_count() -> None:
    assert exact_match(" yes\n", "yes") == 1
    assert exact_match("yes.", "yes") == 0
