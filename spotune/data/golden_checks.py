"""A file of golden prompts, checked before a job pays for its answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256

from spotune.contracts.dataset import GoldenReport
from spotune.contracts.errors import RequestRefused
from spotune.data.faults import FaultList
from spotune.data.golden import EXPECTED, GoldenPrompt, read_golden
from spotune.data.rows import Example
from spotune.data.tokens import RowTokenizer

MAX_GOLDEN_BYTES = 4_000_000
MAX_SHAPE_DEPTH = 32
"""Of objects and arrays in one another: an answer is compared level by level."""
USUAL_ANSWER_TOKENS = 256
LONGEST_ANSWER_TOKENS = 1024
ANSWER_MARGIN = 32
"""Tokens beyond the longest expectation that an answer may have: a shape's values may be longer than their types."""
BYTES_PER_TOKEN = 4


def check_golden(chunks: Iterable[bytes], *, uri: str, tokenizer: RowTokenizer | None, max_length: int) -> GoldenReport:
    """Every fault of a golden file, and how long prompts and answers are.

    Bad data never raises; what the stream raises goes through.

    Args:
        chunks: the file's bytes, cut anywhere.
        uri: where it lies; goes into the report.
        tokenizer: the model's; without it lengths are guessed from bytes.
        max_length: tokens that a prompt and its answer may have together: the model's context.
    """
    content = b"".join(_at_most(chunks, MAX_GOLDEN_BYTES + 1))
    faults, prompt_tokens, longest = FaultList(), 0, 0
    if len(content) > MAX_GOLDEN_BYTES:
        faults.add(0, "", "golden_too_large", f"the file has more than {MAX_GOLDEN_BYTES:,} bytes")
    else:
        for golden in read_golden([content], faults):
            asked, expected = _lengths(golden, tokenizer, faults)
            prompt_tokens, longest = prompt_tokens + asked, max(longest, expected)
            _check_lengths(golden, asked, expected, max_length, faults)
    return GoldenReport(
        uri=uri,
        sha256=sha256(content).hexdigest(),
        bytes=len(content),
        prompts=faults.rows,
        prompt_tokens=prompt_tokens,
        answer_tokens=min(max(longest + ANSWER_MARGIN, USUAL_ANSWER_TOKENS), LONGEST_ANSWER_TOKENS),
        fault_count=faults.count,
        faults=tuple(sorted(faults.faults, key=lambda fault: fault.line)),
    )


def _at_most(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk[:limit]
        limit -= len(chunk)
        if limit <= 0:
            return


def _lengths(golden: GoldenPrompt, tokenizer: RowTokenizer | None, faults: FaultList) -> tuple[int, int]:
    """Tokens of the prompt and of what is expected; noughts, and a fault, where the model cannot be asked so."""
    example, wanted = golden.example, golden.wanted
    if tokenizer is None:
        said = example.prompt or "".join(message.content for message in example.messages[: example.answer])
        return len(said.encode()) // BYTES_PER_TOKEN, len(wanted.encode()) // BYTES_PER_TOKEN
    try:
        asked = len(tokenizer.prompt(example))
        return asked, tokenizer.encode(Example(golden.line, "text", text=wanted), 1).length
    except RequestRefused as refused:
        faults.note(0 if refused.param == "model" else golden.line, refused)
        return 0, 0


def _check_lengths(golden: GoldenPrompt, asked: int, expected: int, max_length: int, faults: FaultList) -> None:
    most = LONGEST_ANSWER_TOKENS - ANSWER_MARGIN
    if expected > most:
        problem = f"what is expected has {expected:,} tokens; {most:,} is the limit"
        faults.add(golden.line, EXPECTED, "expectation_too_long", problem)
    elif asked + expected > max_length:
        problem = f"prompt and answer have {asked + expected:,} tokens; the model's context has {max_length:,}"
        faults.add(golden.line, "", "golden_prompt_too_long", problem)
    elif _deeper_than(golden.shape, MAX_SHAPE_DEPTH):
        problem = f"the shape nests objects or arrays more than {MAX_SHAPE_DEPTH} deep"
        faults.add(golden.line, EXPECTED, "shape_too_deep", problem)


def _deeper_than(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(levels == 1 or _deeper_than(one, levels - 1) for one in inner if isinstance(one, dict | list))
