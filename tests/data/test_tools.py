"""Chats with tools: as transformers renders them, with the loss on the calls, and never with a part left out."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from spotune.contracts.errors import RequestRefused
from spotune.data.checks import check_dataset
from spotune.data.rows import Example, Message, ToolCall
from spotune.data.template import ChatTemplate
from spotune.data.tokens import RowTokenizer
from tests.data import templates
from tests.data.test_formats import call, calling, tool

PUBLISHED = Path(str(importlib.util.find_spec("trl").submodule_search_locations[0])) / "chat_templates"
"""Templates of well-known families, as TRL ships them."""
TOOLS = json.dumps([tool("weather", description="Weather.", parameters={"type": "object", "properties": {}})])
CHAT = (
    Message("user", "Weather in Lima?"),
    Message("assistant", "", calls=(ToolCall("abcdefgh1", "weather", '{"city": "Lima é", "days": 2}'),)),
    Message("tool", "19 C", call_id="abcdefgh1"),
    Message("assistant", "Mild."),
)
WRITES_TEXT = templates.CHATML.replace(
    "m.content ~",
    "(m.content or '') ~ (tools | tojson if loop.first and tools else '') ~ "
    "(m.tool_calls[0].function.name + m.tool_calls[0].function.arguments if m.tool_calls else '') ~",
)


def published(name: str) -> ChatTemplate:
    return ChatTemplate((PUBLISHED / f"{name}.jinja").read_text(), templates.NAMES)


@pytest.mark.torch
@pytest.mark.parametrize("family", ["llama3_1", "qwen2_5", "qwen3_training", "glm4moe", "lfm2_v2"])
@pytest.mark.parametrize("messages", [CHAT, CHAT[:1], CHAT[:3]])
def test_the_text_is_transformers_own(family: str, messages: tuple[Message, ...]) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    passed: list[dict[str, object]] = [
        {"role": "user", "content": "Weather in Lima?"},
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": "abcdefgh1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": {"city": "Lima é", "days": 2}},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "abcdefgh1", "name": "weather", "content": "19 C"},
        {"role": "assistant", "content": "Mild."},
    ]
    theirs = render_jinja_template(
        conversations=[passed[: len(messages)]],
        tools=json.loads(TOOLS),
        chat_template=(PUBLISHED / f"{family}.jinja").read_text(),
        add_generation_prompt=False,
        **templates.NAMES,
    )[0][0]
    assert published(family).text(messages, TOOLS) == theirs


@pytest.mark.parametrize(
    ("family", "called"),
    [
        ("llama3_1", '{"name": "weather", "parameters": {"city": "Lima é", "days": 2}}<|eot_id|>'),
        (
            "qwen2_5",
            '<tool_call>\n{"name": "weather", "arguments": {"city": "Lima é", "days": 2}}\n</tool_call><|im_end|>',
        ),
        (
            "qwen3_training",
            '<think>\n\n</think>\n\n<tool_call>\n{"name": "weather", "arguments": {"city": "Lima é", "days": 2}}\n'
            "</tool_call><|im_end|>",
        ),
    ],
)
def test_a_call_is_learned_with_its_end_of_turn_and_its_result_is_not(family: str, called: str) -> None:
    rendered = published(family).render(CHAT, TOOLS)
    first, last = [rendered.text[begin:end] for begin, end in rendered.spans]
    assert first == called
    assert "Mild." in last
    assert "19 C" in rendered.text
    assert "19 C" not in first + last


def test_a_template_that_takes_arguments_as_text_gets_text() -> None:
    rendered = ChatTemplate(WRITES_TEXT, templates.NAMES).render(CHAT, TOOLS)
    begin, end = rendered.spans[0]
    assert rendered.text[begin:end] == 'weather{"city": "Lima é", "days": 2}<|im_end|>'


@pytest.mark.parametrize(
    ("source", "lacks"),
    [
        ("llama3", "arguments and calls and tools"),
        ("qwen2_5_vl", "arguments and calls and tools"),
        ("deepseekv3", "tools"),
        ("phi3", "arguments and calls and results and tools"),
    ],
)
def test_a_template_that_leaves_out_a_part_without_a_word_is_refused(source: str, lacks: str) -> None:
    with pytest.raises(RequestRefused, match=f"does not write {lacks}") as refused:
        published(source).render(CHAT, TOOLS)
    assert refused.value.code == "template_without_tools"


def test_arguments_written_as_pythons_objects_do_not_count() -> None:
    source = WRITES_TEXT.replace("+ m.tool_calls[0].function.arguments", "~ m.tool_calls[0].function.arguments")
    assert ChatTemplate(source, templates.NAMES).text(CHAT, TOOLS).count('{"city": "Lima é", "days": 2}') == 1


def test_a_template_without_declarations_serves_rows_without_them() -> None:
    assert "weather" in published("deepseekv3").text(CHAT)


def test_the_template_for_tools_is_taken_where_a_model_has_one_and_the_row_declares_any() -> None:
    named = [{"name": "tool_use", "template": WRITES_TEXT}, {"name": "default", "template": templates.CHATML}]
    template = ChatTemplate.from_tokenizer_config({"chat_template": named}, None)
    assert "weather" in template.render(CHAT, TOOLS).text
    assert template.render(CHAT[:1] + CHAT[3:]).text == ChatTemplate(templates.CHATML, {}).text(CHAT[:1] + CHAT[3:])
    with pytest.raises(RequestRefused, match="does not write"):
        template.render(CHAT)


def test_a_file_that_the_template_would_cut_is_refused_once(row_tokenizer: Callable[..., RowTokenizer]) -> None:
    content = (calling(call()) + b"\n") * 20
    report = check_dataset([content], uri="f", tokenizer=row_tokenizer(templates.CHATML), max_length=100)
    assert [(fault.line, fault.rule) for fault in report.faults] == [(0, "template_without_tools")]


def test_the_prompt_of_a_call_declares_the_tools(row_tokenizer: Callable[..., RowTokenizer]) -> None:
    example = Example(1, "chat", CHAT[:2], tools=TOOLS)
    tokenizer = row_tokenizer(WRITES_TEXT)
    row = tokenizer.encode(example, 1000)
    prompt = tokenizer.prompt(example)
    assert row.ids[: len(prompt)] == prompt
    assert row.trained == [index >= len(prompt) and index < row.length - 1 for index in range(row.length)]
