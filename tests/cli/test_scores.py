from spotune.cli.scores import score_lines
from spotune.contracts.scores import Comparison, Scores, SliceScores
from tests.factories import report


def comparison(metric: str, base: float, tuned: float) -> Comparison:
    difference = tuned - base
    return Comparison.model_validate(
        {
            "metric": metric,
            "rows": 12,
            "base": base,
            "tuned": tuned,
            "difference": difference,
            "low": difference - 0.25,
            "high": difference + 0.25,
        }
    )


def test_each_difference_is_shown_with_its_interval_and_each_slice_by_its_name() -> None:
    compared = (comparison("eval_loss", 2.0, 1.0), comparison("exact_match", 0.25, 0.75))
    part = SliceScores(name="north", rows=12, comparisons=compared[1:])
    lines = list(score_lines(report(comparisons=compared, slices=(part,), slices_left_out=3)))
    assert lines[0] == ("loss (12 rows)", "2.0000", "1.0000", "-1.0000 (-1.2500 to -0.7500)")
    assert lines[1] == ("exact match (12 rows)", "25.0%", "75.0%", "+50.0% (+25.0% to +75.0%)")
    assert lines[-2].name == "north: exact match (12 rows)"
    assert lines[-1].name.startswith("3 smaller slices")


def test_a_score_without_a_comparison_is_shown_alone() -> None:
    found = {line.name: line for line in score_lines(report(tuned=Scores(eval_loss=0.5, perplexity=1.6)))}
    assert (found["loss"].base, found["loss"].tuned) == ("2.0000", "0.5000")
    assert (found["exact match"].base, found["exact match"].tuned) == ("0.0%", "-")
    assert "ROUGE-L" not in found
