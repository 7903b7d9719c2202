"""Requests made up from the OpenAPI document, against the whole stack: none is answered with a 5xx or otherwise than
the document says."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from spotune.local.state import StackState
from tests.embedded.fuzz import fuzzed_stack, run

pytestmark = pytest.mark.embedded

EXAMPLES = 10
SECONDS = 50


@pytest.fixture(scope="module")
def fuzzed(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackState]:
    home = tmp_path_factory.mktemp("fuzz")
    (home / "cache").mkdir()
    (home / "cache" / "bundles").symlink_to(pytestconfig.cache.mkdir("bundles"), target_is_directory=True)
    with fuzzed_stack(home) as state:
        yield state


def test_no_request_of_any_operation_is_answered_otherwise_than_the_document_says(fuzzed: StackState) -> None:
    number = random.randrange(10**9)
    print(f"python -m tests.embedded.fuzz {number}")
    statuses = run(fuzzed, number, EXAMPLES, SECONDS)
    assert statuses[200] > 20
    assert statuses[400] > 20
    assert statuses[401] == 0
