"""The examples of the documents: fenced blocks, each with the mark that says how it is proven.

A mark is a comment before the block, which no reader sees:

    <!-- example: file job.yaml -->    the block is that file, in the page's folder, for the blocks after it
    <!-- example: api -->              commands against the API, its handlers in this process and AWS in memory
    <!-- example: stack -->            commands or Python against the embedded stack, with training for real
    <!-- example: job -->              a request; also `rule`, `rows`, `rows dpo`, `golden`: checked as what it is
    <!-- example: not run, WHY; TEST --> what no example runs: the tests that do, as path::name, or `only parsed`

Commands without a mark run on this machine alone, each page in a folder that has the example job's files.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
        *ROOT.glob("*.md"),
        *(ROOT / "benchmarks").rglob("*.md"),
    ]
)
SHELLS = frozenset({"sh", "bash", "shell", "console"})
FENCE = re.compile(
    r"(?:^<!-- example: (?P<mark>[^\n]*?) -->\n\n?)?^```(?P<language>[\w+-]*)[^\n]*\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
INLINE = re.compile(r"`(spotune [^`\n]+)`")
ONLY_PARSED = "only parsed"
NAMED_TEST = re.compile(r"(tests/[\w/]+\.py)::(test_\w+)")
_INSTALLED = "tests/deploy/test_commands.py::test_from_settings_to_an_answer_and_back_to_nothing"
_MIRRORED = "tests/cli/test_mirror.py::test_a_model_is_added_listed_verified_and_removed"
_ENDED = (
    "tests/local/test_stack.py::test_down_ends_everything_and_keeps_the_state_and_reset_forgets_it, "
    "tests/cli/test_stack.py::test_where_nothing_is_up_down_ends_nothing_and_reset_empties_the_home_once_told_so"
)
ELSEWHERE = {
    "aws": f"asks an AWS account; {ONLY_PARSED}",
    "export": f"is the reader's own shell; {ONLY_PARSED}",
    "kubectl": "asks a cluster; tests/clusters/test_two_ranks.py::test_two_hosts_of_a_trainjob_publish_one_model",
    "make": "takes minutes; tests/docs/test_examples.py::test_a_target_of_make_is_there",
    "pip": f"changes the environment; {ONLY_PARSED}",
    "python -m pytest": "slow; tests/embedded/test_upgrade.py::test_an_update_in_place_loses_no_job_and_no_dollar",
    "python -m spotune.local.double": (
        "serves; tests/local/double/test_restart.py::"
        "test_a_double_that_is_ended_properly_saves_whole_checkpoints_and_leaves_no_process"
    ),
    "python -m tests.contracts.kept": "writes; tests/contracts/test_kept.py::test_what_is_written_here_is_read_here",
    "python -m training_container.base_model": (
        "tests/training_container/test_commands.py::test_a_model_in_the_hubs_cache_becomes_a_complete_folder_once"
    ),
    "python examples/openai_sdk/finetune.py": (
        "tests/examples/test_openai_sdk.py::test_it_creates_a_job_that_the_contract_accepts"
    ),
    "python examples/retraining/walk.py": "tests/examples/test_retraining.py::test_the_walk_ends_where_it_began",
    "python examples/support_routing/generate.py": (
        "tests/examples/test_support_routing.py::test_the_generator_writes_the_committed_bytes"
    ),
    "python examples/trainer_alone/run.py": (
        "tests/examples/test_trainer_alone.py::test_it_trains_a_tiny_model_and_says_where_it_lies"
    ),
    "spotune chat": (
        "generates; tests/cli/test_jobs.py::test_chat_finds_a_downloaded_adapter_without_any_api, "
        "tests/training_container/test_commands.py::test_chat_answers_with_the_published_adapter"
    ),
    "spotune demo": "trains for minutes; in parts tests/cli/test_demo.py::test_every_bar_can_be_missed",
    "spotune deploy": (
        f"asks an AWS account; {_INSTALLED}, "
        "tests/deploy/test_commands.py::test_init_writes_the_settings_and_says_what_comes_next"
    ),
    "spotune destroy": f"asks an AWS account; {_INSTALLED}",
    "spotune doctor": (
        "asks an AWS account; tests/deploy/doctor/test_doctor.py::test_an_installation_is_looked_at_to_its_last_part"
    ),
    "spotune image build": (
        "asks a builder of images; tests/cli/test_image.py::test_a_build_prints_each_layer_with_its_size"
    ),
    "spotune image push": (
        "asks a registry; tests/cli/test_image.py::test_a_push_names_the_image_in_the_settings_by_its_digest"
    ),
    "spotune models add": f"asks the hub; {_MIRRORED}",
    "spotune models base": f"asks an AWS account; {_MIRRORED}",
    "spotune models mlflow": (
        "asks an MLflow server; "
        "tests/cli/test_mlflow.py::test_versions_are_shown_with_their_lineage_and_the_champion_has_its_alias"
    ),
    "spotune models remove": f"asks an AWS account; {_MIRRORED}",
    "spotune models verify": f"asks an AWS account; {_MIRRORED}",
    "spotune status": "looks at a stack; tests/embedded/test_cli.py::test_from_a_job_file_to_an_adapter_on_disk",
    "spotune up": "starts a stack; tests/local/test_stack.py::test_a_start_that_was_cut_off_is_completed",
    "spotune down": f"ends a stack; {_ENDED}",
    "spotune reset": f"ends a stack; {_ENDED}",
}
"""Commands that no example runs here: why, and the tests that run them or what they call; or that none does."""


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    """Of its first line of text."""
    language: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """Its command lines, as words, without comments and what they set in the environment."""
        if self.language not in SHELLS:
            return []
        joined = self.text.replace("\\\n", " ").replace("$ ", "", 1) if self.language == "console" else None
        lines = (joined or self.text.replace("\\\n", " ")).splitlines()
        return [words for line in lines if (words := _words(line))]


def _words(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    return words


def blocks(page: Path) -> Iterator[Block]:
    """Those of a page, in its order."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start("text")) + 1
        yield Block(page, line, found["language"], found["mark"] or "", found["text"])


def reason_not_to_run(words: list[str]) -> str | None:
    """Why a command runs in no example; None where it does."""
    return next((why for name, why in ELSEWHERE.items() if words[: len(name.split())] == name.split()), None)
