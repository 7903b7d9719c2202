"""Requests made up from the OpenAPI document, against the whole stack: none is answered with a 5xx or otherwise than
the document says."""

from __future__ import annotations

import random

import pytest

from spotune.local.state import StackState
from tests.embedded.fuzz import run

pytestmark = pytest.mark.embedded

EXAMPLES = 10
SECONDS = 40


def test_no_request_of_any_operation_is_answered_otherwise_than_the_document_says(idle_stack: StackState) -> None:
    number = random.randrange(10**9)
    print(f"python -m tests.embedded.fuzz {number}")
    statuses = run(idle_stack, number, EXAMPLES, SECONDS)
    assert min(statuses[200], statuses[400]) > 5, "it came through, and it was heard"
    assert statuses[401] == 0
