"""A model's chat template: the text that it makes of a chat, and which of it carries loss."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from spotune.contracts.errors import DatasetRefused, RequestRefused
from spotune.data.conversation import MANNERS, PROBE, PROBE_TOOLS, PROBE_WORDS, Manner, as_passed
from spotune.data.faults import REMEDIES, model_refused
from spotune.data.parsing import clip
from spotune.data.rows import Message

if TYPE_CHECKING:
    from jinja2 import Template

Span = tuple[int, int]
"""Begin and end of a piece of text, in characters."""

_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A row as text. `spans` carry loss: in a chat the assistant's turns with their end-of-turn tokens, in order."""

    text: str
    spans: tuple[Span, ...]
    closed: bool = True
    """False where the text does not itself end with a stop token, nor begin with BOS."""


class ChatTemplate:
    """Renders chats as transformers' `apply_chat_template` does and finds the spans that carry loss.

    Spans come from the template's `{% generation %}` blocks where it has them. Otherwise the chat is rendered up to
    each assistant turn with a generation prompt, and up to its end: what the second adds to the first is what the
    model has to write. That holds only where each is a prefix of the whole, which is checked for every chat. Nothing
    is searched for in the text, so text in a turn that looks like a control token moves no span.

    Tools, calls and their results are passed as transformers passes them. A template that does not write them is
    refused, as what it leaves out would be missing from the training without a word.

    Not supported: documents, images.
    """

    def __init__(self, source: str, names: Mapping[str, str], for_tools: ChatTemplate | None = None) -> None:
        """`names` are the special tokens that the template may print, such as `eos_token`; `for_tools` takes its place
        for chats that declare tools."""
        self._source = source
        self._names = dict(names)
        self._for_tools = for_tools
        self._has_generation = _GENERATION.search(source) is not None

    @classmethod
    def from_tokenizer_config(cls, config: Mapping[str, object], chat_template: str | None) -> ChatTemplate:
        """The template of a model folder.

        Args:
            config: `tokenizer_config.json`.
            chat_template: `chat_template.jinja`, which comes before the one in `config`.

        Raises:
            RequestRefused: there is no template (`no_chat_template`).
        """
        names = special_tokens(config)
        named = _templates_of(config.get("chat_template"))
        source = chat_template or named.get("default")
        if not source:
            raise model_refused("no_chat_template", "The base model has no chat template.")
        for_tools = None if chat_template else named.get("tool_use")
        return cls(source, names, cls(for_tools, names) if for_tools else None)

    def render(self, messages: Sequence[Message], tools: str = "") -> Rendered:
        """The chat as text, with the spans of its trained turns.

        Args:
            messages: the whole chat.
            tools: JSON text of those that it declares, if any.

        Raises:
            DatasetRefused: the template refuses this chat (`template_refused_row`).
            RequestRefused: the template does not show which text is the assistant's (`template_without_loss_mask`), or
                does not write its tools (`template_without_tools`).
        """
        if tools and self._for_tools is not None:
            return self._for_tools.render(messages, tools)
        text = self.text(messages, tools)
        find = self._generation_blocks if self._has_generation else self._added_turns
        spans = tuple(find(messages, tools, text))
        if sum(end - begin for begin, end in spans) >= len(text.strip()):
            raise _no_loss_mask("it shows the whole chat as the assistant's")
        return Rendered(text, spans)

    def prompt(self, messages: Sequence[Message], tools: str = "") -> str:
        """The text that asks the model for the next turn."""
        return self.text(messages, tools, add_generation_prompt=True)

    def text(self, messages: Sequence[Message], tools: str = "", *, add_generation_prompt: bool = False) -> str:
        """The chat as text alone; the template need not show whose text is whose."""
        if tools and self._for_tools is not None:
            return self._for_tools.text(messages, tools, add_generation_prompt=add_generation_prompt)
        self._check_tools(messages, tools)
        return self._run(self._plain, messages, tools, add_generation_prompt=add_generation_prompt)

    def _added_turns(self, messages: Sequence[Message], tools: str, text: str) -> list[Span]:
        spans = []
        for index, message in enumerate(messages):
            if message.trained:
                prompt = self.prompt(messages[:index], tools)
                through = self.text(messages[: index + 1], tools) if index + 1 < len(messages) else text
                if not (through.startswith(prompt) and text.startswith(through.rstrip())):
                    raise _no_loss_mask(f"it writes turn {index} differently when further turns follow")
                spans.append(_without_trailing_space(text, (len(prompt), len(through)), message))
        return spans

    def _generation_blocks(self, messages: Sequence[Message], tools: str, text: str) -> list[Span]:
        from spotune.data.jinja import MARKS

        marked = self._run(self._marked, messages, tools)
        pieces = re.split("|".join(MARKS), marked)
        turns = [message for message in messages if message.role == "assistant"]
        if "".join(pieces) != text or len(pieces) != 2 * len(turns) + 1:
            raise _no_loss_mask(f"it has {len(pieces) // 2} generation blocks for {len(turns)} assistant turns")
        spans, position = [], 0
        for before, block, message in zip(pieces[::2], pieces[1::2], turns, strict=False):
            begin = position + len(before)
            position = begin + len(block)
            if message.trained:
                spans.append(_without_trailing_space(text, (begin, position), message))
        return spans

    def _check_tools(self, messages: Sequence[Message], tools: str) -> None:
        called = any(message.calls for message in messages)
        if not tools and not called:
            return
        _, missing = self._manner
        lacks = [name for name in missing if called or name == "tools"] if tools else missing - {"tools"}
        if lacks:
            message = f"The model's chat template does not write {' and '.join(sorted(lacks))}."
            raise model_refused("template_without_tools", message)

    @cached_property
    def _manner(self) -> tuple[Manner, frozenset[str]]:
        """The manner of passing calls that this template writes best, and what it leaves out all the same.

        Tried on a chat of words that no template holds: first as transformers passes it, then as older templates want
        it. Python's own writing of an object (`{'city': ...}`) is no JSON, so that manner does not count.
        """
        tried = [(manner, self._missing(manner)) for manner in MANNERS]
        return min(tried, key=lambda one: len(one[1]))

    def _missing(self, manner: Manner) -> frozenset[str]:
        try:
            text = self._run_in(manner, self._plain, PROBE, PROBE_TOOLS, add_generation_prompt=False)
        except DatasetRefused:
            return frozenset(PROBE_WORDS)
        written = "" if "{'" in text else text
        return frozenset(name for name, word in PROBE_WORDS.items() if word not in written)

    def _run(
        self, template: Template, messages: Sequence[Message], tools: str, *, add_generation_prompt: bool = False
    ) -> str:
        manner = self._manner[0] if any(message.calls for message in messages) else MANNERS[0]
        return self._run_in(manner, template, messages, tools, add_generation_prompt=add_generation_prompt)

    def _run_in(
        self,
        manner: Manner,
        template: Template,
        messages: Sequence[Message],
        tools: str,
        *,
        add_generation_prompt: bool,
    ) -> str:
        from spotune.data.jinja import MARKS, RENDER_ERRORS

        if self._has_generation and any(mark in message.content for message in messages for mark in MARKS):
            raise _row_refused("the text holds U+FDD0 or U+FDD1, which are no characters")
        try:
            return template.render(
                messages=as_passed(messages, manner),
                tools=json.loads(tools) if tools else None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._names,
            )
        except RENDER_ERRORS as error:
            raise _row_refused(clip(str(error), quote=False, width=200)) from error

    @cached_property
    def _plain(self) -> Template:
        from spotune.data.jinja import compile_template

        return compile_template(self._source, marked=False)

    @cached_property
    def _marked(self) -> Template:
        from spotune.data.jinja import compile_template

        return compile_template(self._source, marked=True)


def special_tokens(config: Mapping[str, object]) -> dict[str, str]:
    """`tokenizer_config.json`'s named tokens (`bos_token`, ...), each written there as text or as an object."""
    tokens = {}
    for name, value in config.items():
        content = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(content, str):
            tokens[name] = content
    return tokens


def _templates_of(value: object) -> dict[str, str]:
    """Templates by name; a single one is the default."""
    if isinstance(value, list):
        named = {item.get("name"): item.get("template") for item in value if isinstance(item, dict)}
    else:
        named = {"default": value}
    return {str(name): text for name, text in named.items() if isinstance(text, str)}


def _without_trailing_space(text: str, span: Span, message: Message) -> Span:
    """The span up to its end-of-turn token. What follows (a line break, mostly) the model is never asked to write."""
    begin, end = span
    written = text[begin:end].rstrip()
    said = message.calls[-1].name if message.calls else message.content.strip()
    if said in written and not written.partition(said)[2]:
        raise _no_loss_mask("it writes no end-of-turn token after the assistant's text")
    return begin, begin + len(written)


def _no_loss_mask(reason: str) -> RequestRefused:
    message = f"The model's chat template does not show which tokens the assistant wrote: {reason}."
    return model_refused("template_without_loss_mask", message)


def _row_refused(reason: str) -> DatasetRefused:
    return DatasetRefused(
        f"The model's chat template refuses the chat: {reason}.",
        code="template_refused_row",
        param="training_file",
        remedy=REMEDIES["template_refused_row"],
    )
