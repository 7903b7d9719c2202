"""From a row to token ids, and which of them carry loss, by the model's own tokenizer."""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spotune.contracts.request import LossOn
from spotune.data.faults import model_refused
from spotune.data.parsing import clip
from spotune.data.rows import Example, only_last_turn
from spotune.data.template import ChatTemplate, Rendered, Span, special_tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PIECE_CHARACTERS = 200_000
"""Longer texts are encoded piece by piece, as a tokenizer takes some hundred bytes of memory for each character. Pieces
are cut before white space; where a cut falls within what would be one token, there are two."""


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """`ids` and `trained` are equally long, cut at the front's `max_length`; `length` counts before the cut."""

    ids: list[int]
    trained: list[bool]
    length: int


class RowTokenizer:
    """Encodes rows of every format.

    - Chats, and instructions where the model has a chat template: the template writes every special token; loss on
      the assistant's turns with their end-of-turn tokens, by `loss_on` only on the last of them or on all tokens.
    - Completions, and instructions otherwise: loss on the completion and EOS. Texts: on all and EOS. Tokens that the
      tokenizer itself puts in front (BOS) are put there and carry no loss.

    A token that spans the border between prompt and answer carries loss. Special tokens spelt out in a row's text are
    encoded as special tokens, as transformers does; they move no border. Rows are never padded here, so padding has
    to be masked by position: many models pad with their end-of-turn token.
    """

    def __init__(self, tokenizer: Tokenizer, config: dict[str, object], template: ChatTemplate | None) -> None:
        """`tokenizer` is changed: it no longer cuts, pads, or adds tokens of its own."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        named = special_tokens(config)
        eos = tokenizer.token_to_id(named.get("eos_token", ""))
        if eos is None:
            raise model_refused("tokenizer_without_eos", "The model's tokenizer names no end-of-sequence token.")
        pad = tokenizer.token_to_id(named.get("pad_token", ""))
        self.eos_token_id: int = eos
        self.pad_token_id: int = eos if pad is None else pad
        self._leading = _leading_tokens(tokenizer)
        # Post-processors add tokens, and some cut white space off the offsets that the borders are found by.
        tokenizer.post_processor = None
        self._tokenizer = tokenizer
        self._template = template
        added = tokenizer.get_added_tokens_decoder()
        self._stop_ids = frozenset(added) | {eos}
        self._special = re.compile(
            "|".join(re.escape(token.content) for token in added.values() if token.special) or "(?!)"
        )

    @classmethod
    def from_files(
        cls, tokenizer_json: bytes, tokenizer_config: bytes, chat_template: bytes | None = None
    ) -> RowTokenizer:
        """From a model folder's tokenizer.json, tokenizer_config.json and, where there is one, chat_template.jinja.

        Raises:
            RequestRefused: a file is broken, or names no EOS (`broken_tokenizer`, `tokenizer_without_eos`).
        """
        try:
            config = json.loads(tokenizer_config)
            source = None if chat_template is None else chat_template.decode()
        except ValueError as error:
            raise model_refused(
                "broken_tokenizer",
                f"The model's tokenizer files cannot be read: {clip(str(error), quote=False, width=200)}.",
            ) from error
        if not isinstance(config, dict):
            raise model_refused("broken_tokenizer", "The model's tokenizer_config.json is not an object.")
        has_template = bool(source or config.get("chat_template"))
        template = ChatTemplate.from_tokenizer_config(config, source) if has_template else None
        return cls(_load(tokenizer_json), config, template)

    def encode(self, example: Example, max_length: int, loss_on: LossOn = "assistant") -> EncodedRow:
        """One row's tokens, the first `max_length` of them.

        Raises:
            DatasetRefused: the chat template refuses the row.
            RequestRefused: the model cannot be trained on such rows (no chat template, no loss mask, no stop token).
        """
        return self.encode_rendered([self.render(example, loss_on)], max_length)[0]

    def render(self, example: Example, loss_on: LossOn = "assistant") -> Rendered:
        """The row as text with the spans that carry loss; EOS beyond its end is added by `encode_rendered`.

        A preference row is rendered as its preferred side; `example.rejected` is a row to be rendered, too.

        Args:
            loss_on: which turns of a chat carry loss; under `all` every token does, prompts of completions included,
                whatever the turns' weights.
        """
        if self._is_chat(example):
            return self._render_chat(example, loss_on)
        text = example.text or example.prompt + example.completion
        begin = 0 if loss_on == "all" else len(example.prompt)
        return Rendered(text, ((begin, len(text)),), closed=False)

    def _render_chat(self, example: Example, loss_on: LossOn) -> Rendered:
        template = self._chat_template()
        if loss_on == "all":
            text = template.text(example.messages, example.tools)
            return Rendered(text, ((0, len(text.rstrip())),))
        messages = only_last_turn(example.messages) if loss_on == "last_turn" else example.messages
        return template.render(messages, example.tools)

    def encode_rendered(self, rows: Sequence[Rendered], max_length: int) -> list[EncodedRow]:
        """Rendered rows' tokens, on all cores."""
        if any(len(row.text) > PIECE_CHARACTERS for row in rows):
            return [self._closed(row, *self._by_pieces(row), max_length) for row in rows]
        encodings = self._tokenizer.encode_batch([row.text for row in rows], add_special_tokens=False)
        return [
            self._closed(row, encoding.ids, _trained_tokens(encoding.offsets, row.spans), max_length)
            for row, encoding in zip(rows, encodings, strict=True)
        ]

    def prompt(self, example: Example) -> list[int]:
        """Tokens of everything before the last answer, generation prompt included; a text has none but BOS."""
        if self._is_chat(example):
            text = self._chat_template().prompt(example.messages[: example.answer], example.tools)
            return self._ids(text)
        return self._leading + self._ids(example.prompt)

    def decode(self, ids: Sequence[int]) -> str:
        """The tokens as text, special ones spelt out."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False)
        return text

    def reference(self, example: Example) -> str:
        """The answer that the row gives to its `prompt`."""
        if example.messages:
            return example.messages[example.answer].content
        return example.completion or example.text

    def spells_out_special_tokens(self, example: Example) -> bool:
        """True where the row's own text holds a special token of the model, such as `<|im_end|>`."""
        said = [message.content for message in example.messages]
        said += [call.arguments for message in example.messages for call in message.calls]
        texts = said or [example.prompt, example.completion, example.text]
        return any(self._special.search(text) for text in texts)

    def _is_chat(self, example: Example) -> bool:
        return bool(example.messages) and (example.format != "instruction" or self._template is not None)

    def _chat_template(self) -> ChatTemplate:
        if self._template is None:
            raise model_refused("no_chat_template", "The base model has no chat template, and the rows are chats.")
        return self._template

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _by_pieces(self, row: Rendered) -> tuple[list[int], list[bool]]:
        ids: list[int] = []
        trained: list[bool] = []
        for begin, end in _pieces(row.text):
            encoding = self._tokenizer.encode(row.text[begin:end], add_special_tokens=False)
            ids += encoding.ids
            trained += _trained_tokens(encoding.offsets, [(first - begin, last - begin) for first, last in row.spans])
        return ids, trained

    def _closed(self, row: Rendered, ids: list[int], trained: list[bool], max_length: int) -> EncodedRow:
        """The row with the special tokens that its template did not write."""
        if row.closed:
            self._check_stop(ids, trained)
        else:
            ends = ids[-1:] == [self.eos_token_id]
            ids = self._leading + ids + ([] if ends else [self.eos_token_id])
            trained = [False] * len(self._leading) + trained + ([] if ends else [True])
        trained[:1] = [False]  # nothing precedes the first token that could predict it
        return EncodedRow(ids[:max_length], trained[:max_length], len(ids))

    def _check_stop(self, ids: list[int], trained: list[bool]) -> None:
        """A model that is not trained on the stop token of each of its turns does not stop there."""
        ends = (
            one for one, learned, goes_on in zip(ids, trained, [*trained[1:], False], strict=True) if learned > goes_on
        )
        if True not in trained or not self._stop_ids.issuperset(ends):
            message = "The chat template ends the assistant's turn with text that the tokenizer has no token for."
            raise model_refused("template_without_stop_token", message)


def _load(tokenizer_json: bytes) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_buffer(tokenizer_json)
    except Exception as error:  # The library raises nothing narrower.
        raise model_refused(
            "broken_tokenizer",
            f"The model's tokenizer.json cannot be read: {clip(str(error), quote=False, width=200)}.",
        ) from error


def _leading_tokens(tokenizer: Tokenizer) -> list[int]:
    """The special tokens that the tokenizer puts in front of a text."""
    encoding = tokenizer.encode("a", add_special_tokens=True)
    bare = tokenizer.encode("a", add_special_tokens=False)
    count = next((at for at, special in enumerate(encoding.special_tokens_mask) if not special), len(encoding.ids))
    leading: list[int] = encoding.ids[:count]
    return leading if encoding.ids[count : count + len(bare.ids)] == bare.ids else []


def _pieces(text: str) -> Iterator[Span]:
    begin = 0
    while len(text) - begin > PIECE_CHARACTERS:
        limit = begin + PIECE_CHARACTERS
        space = max(text.rfind(" ", begin + 1, limit), text.rfind("\n", begin + 1, limit))
        end = limit if space < 0 else space
        yield begin, end
        begin = end
    yield begin, len(text)


def _trained_tokens(offsets: list[Span], spans: Sequence[Span]) -> list[bool]:
    """True for each token that shares a character with a span."""
    trained = [False] * len(offsets)
    for begin, end in spans:
        first = bisect_right(offsets, begin, key=lambda offset: offset[1])
        last = bisect_left(offsets, end, key=lambda offset: offset[0])
        trained[first:last] = [True] * (last - first)
    return trained
