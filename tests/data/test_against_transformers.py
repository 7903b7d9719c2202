"""Our rendering and masks beside transformers' own."""

from collections.abc import Callable

import pytest

from spotune.data.rows import Example, Message
from spotune.data.template import ChatTemplate
from spotune.data.tokens import RowTokenizer
from tests.data import templates

pytestmark = pytest.mark.torch

CHATS = [
    [("user", "Hi"), ("assistant", " Hello ")],
    [
        ("user", "a\n\n"),
        ("assistant", "\n\nb"),
        ("user", "é€𝄞 <|im_end|></s>"),
        ("assistant", "<tag> & \"quotes\" 'x'"),
    ],
    [("system", " Be brief. "), ("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4")],
]
ALL = {name: source for name, (source, _) in templates.FAMILIES.items()} | {
    "tojson": "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}{{ m | tojson }}</s>{% endfor %}"
}


@pytest.mark.parametrize(
    ("family", "chat"),
    [(family, chat) for family in ALL for chat in CHATS if family != "gemma" or chat[0][0] != "system"],
)
@pytest.mark.parametrize("ask", [False, True])
def test_the_text_is_transformers_own(family: str, chat: list[tuple[str, str]], ask: bool) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    theirs = render_jinja_template(
        conversations=[[{"role": role, "content": content} for role, content in chat]],
        chat_template=ALL[family],
        add_generation_prompt=ask,
        **templates.NAMES,
    )[0][0]
    ours = ChatTemplate.from_tokenizer_config(templates.NAMES, ALL[family])
    assert ours.text([Message(role, content) for role, content in chat], add_generation_prompt=ask) == theirs


@pytest.mark.parametrize("chat", CHATS, ids=["single", "multi", "system"])
def test_ids_and_mask_are_transformers_own(
    chat: list[tuple[str, str]], tokenizer_json: bytes, row_tokenizer: Callable[..., RowTokenizer]
) -> None:
    """Theirs is given offsets with their white space: without it, it misses answers that begin with a space."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    whole = tokenizer_json.replace(b'"trim_offsets":true', b'"trim_offsets":false')
    theirs = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_buffer(whole), **templates.NAMES)
    encoded = theirs.apply_chat_template(
        [{"role": role, "content": content} for role, content in chat],
        chat_template=templates.WITH_GENERATION,
        return_assistant_tokens_mask=True,
        return_dict=True,
    )
    messages = tuple(Message(role, content) for role, content in chat)
    for source in (templates.WITH_GENERATION, templates.CHATML):
        row = row_tokenizer(source).encode(Example(1, "chat", messages), 10_000)
        assert row.ids == encoded["input_ids"]
        assert row.trained == [bool(trained) for trained in encoded["assistant_masks"]]
