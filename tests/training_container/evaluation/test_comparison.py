import math

import pytest

from training_container.evaluation.comparison import MAX_SLICES, HeldOut, Measurement, by_slice, compare, scores

HELD = HeldOut(
    weights=(1, 3, 2),
    slices=("north", "south", ""),
    references=('{"a": 1}', "yes"),
    reference_slices=("north", "south"),
    right=(0, 1),
    right_slices=("north", "north"),
)
BASE = Measurement(loss=2.0, losses=(2.0, 6.0, 4.0), answers=("{}", "no"), choices=(1, 1))
TUNED = Measurement(loss=1.0, losses=(1.0, 3.0, 2.0), answers=('{"a": 2}', "yes"), choices=(0, 1))


def test_scores_are_means_over_the_rows_that_a_metric_speaks_about() -> None:
    found = scores(HELD, TUNED)
    assert found.perplexity == pytest.approx(math.e)
    assert (found.exact_match, found.json_valid, found.json_keys, found.multiple_choice) == (0.5, 1.0, 1.0, 1.0)
    assert scores(HELD, BASE).multiple_choice == 0.5
    plain = HeldOut((1,), ("",), ("yes",), ("",), (), ())
    assert scores(plain, Measurement(loss=1.0, losses=(1.0,), answers=("yes",))).json_valid is None


def test_a_loss_too_large_for_a_float_still_has_a_perplexity() -> None:
    assert math.isfinite(scores(HELD, BASE.with_(loss=1e6)).perplexity)


def test_models_are_compared_row_by_row() -> None:
    found = {each.metric: each for each in compare(HELD, BASE, TUNED)}
    assert set(found) == {"eval_loss", "exact_match", "rouge_l", "json_valid", "json_keys", "multiple_choice"}
    loss = found["eval_loss"]
    assert (loss.rows, loss.base, loss.tuned, loss.difference, loss.low, loss.high) == (3, 2, 1, -1, -1, -1)
    assert loss.sure
    keys = found["json_keys"]
    assert (keys.rows, keys.base, keys.tuned) == (1, 0, 1)
    assert not found["exact_match"].sure  # one of two rows: it may as well be chance


def test_what_one_model_was_not_measured_by_is_not_compared() -> None:
    found = compare(HELD, BASE, TUNED.with_(answers=None, choices=None))
    assert [each.metric for each in found] == ["eval_loss"]
    assert compare(HELD, BASE.with_(losses=None), TUNED.with_(losses=None, answers=None, choices=None)) == ()


def test_slices_have_their_own_rows_and_the_largest_are_kept() -> None:
    slices, left_out = by_slice(HELD, BASE, TUNED)
    assert ([each.name for each in slices], left_out) == (["north", "south"], 0)
    north = {each.metric: each for each in slices[0].comparisons}
    assert (north["eval_loss"].rows, north["eval_loss"].tuned) == (1, 1.0)
    assert north["multiple_choice"].rows == 2
    assert "json_valid" not in {each.metric for each in slices[1].comparisons}
    many = (*(f"slice {number}" for number in range(MAX_SLICES + 3)), "slice 5")
    held = HeldOut((1,) * len(many), many, (), (), (), ())
    losses = Measurement(loss=1.0, losses=(1.0,) * len(many))
    slices, left_out = by_slice(held, losses, losses)
    assert (len(slices), left_out, slices[0].name, slices[0].rows) == (MAX_SLICES, 3, "slice 5", 2)


def test_preferences_are_compared_pair_by_pair_and_have_no_perplexity() -> None:
    held = HeldOut((3, 3, 3, 3), ("north", "", "", ""), (), (), (), (), ("north", ""))
    base = Measurement(loss=0.7, margins=(-1.0, 2.0))
    tuned = Measurement(loss=0.1, margins=(3.0, 4.0))
    assert scores(held, tuned).perplexity is None
    assert (scores(held, base).preference_accuracy, scores(held, tuned).preference_margin) == (0.5, 3.5)
    found = {each.metric: each for each in compare(held, base, tuned)}
    assert (found["preference_accuracy"].rows, found["preference_accuracy"].difference) == (2, 0.5)
    [north], _ = by_slice(held, base, tuned)
    assert (north.rows, {each.metric: each.tuned for each in north.comparisons}["preference_margin"]) == (1, 3.0)
