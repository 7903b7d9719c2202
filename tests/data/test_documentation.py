import re
from pathlib import Path

from spotune.data.faults import REMEDIES
from spotune.data.formats import FaultList, read_examples
from tests.data.test_formats import BAD_FILES, BAD_LABELS, BAD_LINES, BAD_VERDICTS

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
ROWS = re.findall(r"^\| `(\w+)` \| .+ \| (.+) \|$", PAGE, re.MULTILINE)

PROVOKED_ELSEWHERE = {
    "utf8_bom",
    "mixed_formats",
    "line_too_long",
    "blank_line",
    "truncated_json",
    "all_truncated",
    "template_refused_row",
    "template_without_loss_mask",
    "template_without_stop_token",
    "template_without_tools",
    "wrong_objective",
    "no_chat_template",
    "broken_chat_template",
    "broken_tokenizer",
    "tokenizer_without_eos",
    "no_expectation",
    "no_golden_prompt",
    "golden_with_answer",
    "too_many_golden_prompts",
    "golden_too_large",
    "expectation_too_long",
    "golden_prompt_too_long",
    "shape_too_deep",
}


def test_every_rule_is_documented_with_its_remedy() -> None:
    assert dict(ROWS) == REMEDIES


def test_every_example_of_the_page_is_a_good_row() -> None:
    examples = re.findall(r"^```json\n(.+?)\n```$", PAGE, re.MULTILINE | re.DOTALL)
    for example in examples:
        faults = FaultList()
        objective = (
            "kto" if '"label"' in example else "dpo" if "prefer" in example or "chosen" in example else "supervised"
        )
        assert len(list(read_examples([example.encode()], faults, objective))) == 1
        assert faults.faults == []
    assert len(examples) == 12


def test_every_rule_has_a_test_that_provokes_it() -> None:
    listed = {
        rule for rule, *_ in (*BAD_FILES.values(), *BAD_LINES.values(), *BAD_VERDICTS.values(), *BAD_LABELS.values())
    }
    assert listed | PROVOKED_ELSEWHERE == REMEDIES.keys()
