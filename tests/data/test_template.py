import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotune.contracts.errors import DatasetRefused, RequestRefused
from spotune.data.rows import Message
from spotune.data.template import ChatTemplate, special_tokens
from tests.data import templates

CHAT = (
    Message("user", "Which queue?"),
    Message("assistant", " Printing. "),
    Message("user", "Why?"),
    Message("assistant", "It is out of paper."),
)
PIECES = [*"ab \n<|>/[]{}%\"'é€𝄞", *templates.CONTROL_TOKENS, "assistant\n", "{% generation %}"]
SAID = st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map("".join).filter(str.strip)


def template(source: str) -> ChatTemplate:
    return ChatTemplate.from_tokenizer_config(templates.NAMES, source)


def learned(source: str, messages: tuple[Message, ...]) -> list[str]:
    rendered = template(source).render(messages)
    return [rendered.text[begin:end] for begin, end in rendered.spans]


@pytest.mark.parametrize("family", templates.FAMILIES)
def test_the_loss_is_on_each_answer_and_its_end_of_turn(family: str) -> None:
    source, stop = templates.FAMILIES[family]
    answers = learned(source, CHAT)
    assert all(answer.endswith(stop) for answer in answers)
    assert [answer.removesuffix(stop).strip() for answer in answers] == ["Printing.", "It is out of paper."]


@pytest.mark.parametrize("family", templates.FAMILIES)
@given(turns=st.lists(st.tuples(SAID, SAID), min_size=1, max_size=3))
@settings(max_examples=40)
def test_no_text_of_any_turn_moves_the_loss(family: str, turns: list[tuple[str, str]]) -> None:
    source, stop = templates.FAMILIES[family]
    messages = [Message(role, text) for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True)]
    answers = learned(source, tuple(messages))
    assert [answer.removesuffix(stop).strip() for answer in answers] == [answer.strip() for _, answer in turns]


@pytest.mark.parametrize("family", templates.FAMILIES)
def test_the_prompt_is_what_comes_before_the_answer(family: str) -> None:
    source, _ = templates.FAMILIES[family]
    rendered = template(source).render(CHAT)
    assert rendered.text[: rendered.spans[-1][0]] == template(source).prompt(CHAT[:3])


@pytest.mark.parametrize("family", templates.FAMILIES)
def test_an_answer_of_weight_0_is_context(family: str) -> None:
    source, stop = templates.FAMILIES[family]
    [answer] = learned(source, (CHAT[0], Message("assistant", "Printing.", weight=0), *CHAT[2:]))
    assert answer.strip() == f"It is out of paper.{stop}"


@pytest.mark.parametrize(
    "source",
    [templates.THINKS_IN_THE_LAST_TURN, templates.NO_END_OF_TURN, "{% for m in messages %}{{ m.content }}{% endfor %}"],
)
def test_a_template_that_does_not_show_the_answers_is_refused(source: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        template(source).render(CHAT)
    assert refused.value.code == "template_without_loss_mask"
    assert refused.value.remedy


def test_what_the_template_lets_the_model_write_before_an_answer_is_learned() -> None:
    [answer] = learned(templates.THINKS_IN_THE_LAST_TURN, CHAT[:2])
    assert answer == "<think>\n\n</think>\n\n Printing. <|im_end|>"


def test_a_template_that_changes_earlier_turns_serves_where_these_carry_no_loss() -> None:
    messages = (CHAT[0], Message("assistant", "Printing.", weight=0), *CHAT[2:])
    [answer] = learned(templates.THINKS_IN_THE_LAST_TURN, messages)
    assert answer.endswith("It is out of paper.<|im_end|>")


def test_white_space_after_the_end_of_turn_is_not_learned() -> None:
    source = templates.WITH_GENERATION.replace("'<|im_end|>' }}{%- endgeneration", "'<|im_end|>\n' }}{%- endgeneration")
    assert [answer[-10:] for answer in learned(source, CHAT)] == ["<|im_end|>"] * 2


def test_a_generation_block_without_the_end_of_turn_is_refused() -> None:
    source = templates.WITH_GENERATION.replace("m.content + '<|im_end|>'", "m.content")
    with pytest.raises(RequestRefused, match="no end-of-turn") as refused:
        template(source).render(CHAT)
    assert refused.value.code == "template_without_loss_mask"


def test_generation_blocks_for_some_answers_only_are_refused() -> None:
    source = templates.WITH_GENERATION.replace("m.role == 'assistant'", "m.role == 'assistant' and loop.last")
    with pytest.raises(RequestRefused) as refused:
        template(source).render(CHAT)
    assert refused.value.code == "template_without_loss_mask"


def test_a_chat_that_the_template_refuses_is_the_rows_fault() -> None:
    with pytest.raises(DatasetRefused, match="roles must alternate") as refused:
        template(templates.MISTRAL_LIKE).render((CHAT[0], *CHAT))
    assert refused.value.code == "template_refused_row"


@pytest.mark.parametrize(
    "source",
    [
        "{{ 1 + messages }}",
        "{{ messages[99].content }}",
        "{{ nothing.here }}",
        "{{ 1 / 0 }}",
        "{{ ''.__class__.mro() }}",
    ],
)
def test_whatever_a_template_does_wrong_is_a_refusal(source: str) -> None:
    with pytest.raises(DatasetRefused):
        template(source).render(CHAT)


def test_what_a_template_says_is_clipped() -> None:
    with pytest.raises(DatasetRefused) as refused:
        template("{{ raise_exception('x' * 100000 ~ '\ud800') }}").render(CHAT)
    assert len(str(refused.value)) < 500


def test_marks_of_ours_in_a_turn_are_refused_not_mistaken() -> None:
    with pytest.raises(DatasetRefused, match="FDD0"):
        template(templates.WITH_GENERATION).render((Message("user", "\ufdd0"), CHAT[1]))


def test_a_template_that_is_not_jinja_is_refused_by_line() -> None:
    with pytest.raises(RequestRefused, match="line 2") as refused:
        template("{{ bos_token }}\n{% for %}").render(CHAT)
    assert refused.value.code == "broken_chat_template"


def test_todays_date_never_changes_the_text() -> None:
    source = "{{ strftime_now('%Y-%m-%d') }}" + templates.CHATML
    assert template(source).render(CHAT).text.startswith("2025-01-01<|im_start|>")


def test_the_template_is_found_wherever_a_model_folder_keeps_it() -> None:
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": templates.CHATML}]
    for config, file in (
        ({"chat_template": templates.CHATML}, None),
        ({"chat_template": named}, None),
        ({"chat_template": "x"}, templates.CHATML),
    ):
        assert ChatTemplate.from_tokenizer_config(config, file).render(CHAT[:2]).text.startswith("<|im_start|>user\n")
    with pytest.raises(RequestRefused) as refused:
        ChatTemplate.from_tokenizer_config({}, None)
    assert refused.value.code == "no_chat_template"


def test_special_tokens_are_read_as_text_or_as_objects() -> None:
    config = {
        "bos_token": {"content": "<s>", "lstrip": False},
        "eos_token": "</s>",
        "unk_token": None,
        "add_bos_token": True,
    }
    assert special_tokens(config) == {"bos_token": "<s>", "eos_token": "</s>"}
