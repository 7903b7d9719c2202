from spotune.cli.scores import champion_lines, golden_line, score_lines
from spotune.contracts.scores import Comparison, GoldenAnswer, Scores, SliceScores
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


def test_a_champion_stands_in_the_bases_place_for_all_rows_and_each_slice() -> None:
    against = (comparison("eval_loss", 1.5, 1.0),)
    part = SliceScores(name="north", rows=12, comparisons=(), against_champion=against)
    lines = list(champion_lines(report(against_champion=against, slices=(part,))))
    assert [line.name for line in lines] == ["loss (12 rows)", "north: loss (12 rows)"]
    assert lines[0][1:3] == ("1.5000", "1.0000")
    assert list(champion_lines(report())) == []


def test_golden_prompts_are_counted_for_each_model_that_answered() -> None:
    def answer(tuned_met: bool, champion_met: bool | None) -> GoldenAnswer:
        return GoldenAnswer(
            line=1, prompt="p", expected="e", base="b", tuned="t",
            base_met=False, tuned_met=tuned_met, champion_met=champion_met,
        )  # fmt: skip

    alone = report(golden=(answer(True, None), answer(False, None)))
    assert golden_line(alone) == "Of 2 golden prompts answered as expected: base 0, tuned 1."
    scored = Scores(eval_loss=1, perplexity=3)
    beside = report(golden=(answer(True, True), answer(True, False)), champion=scored)
    assert golden_line(beside) == "Of 2 golden prompts answered as expected: base 0, champion 1, tuned 2."
    assert golden_line(report()) == ""
