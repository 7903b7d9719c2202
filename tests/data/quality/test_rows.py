"""Languages, classes, leaks and extremes."""

from __future__ import annotations

import json

import pytest

from spotune.data.checks import check_dataset
from spotune.data.quality import QualityCheck
from spotune.data.quality.languages import language_of
from tests.data.quality.planted import Planted, chat, clean_rows
from tests.data.quality.test_planted import found, look

SENTENCES = {
    "English": "What is the capital of France? It is Paris, and it is a big city.",
    "German": "Wie heißt die Hauptstadt von Frankreich? Sie heißt Paris und ist sehr groß.",
    "French": "Quelle est la capitale de la France ? C'est Paris, une grande ville.",
    "Spanish": "¿Cuál es la capital de Francia? Es París, que es una gran ciudad.",
    "Italian": "Qual è la capitale della Francia? È Parigi, che è una grande città.",
    "Portuguese": "Qual é a capital da França? É Paris, que não é uma cidade pequena.",
    "Dutch": "Wat is de hoofdstad van Frankrijk? Het is Parijs en het is groot.",
    "Swedish": "Vad är huvudstaden i Frankrike? Det är Paris och den är stor för att vara i Europa.",
    "Polish": "Jaka jest stolica Francji? To jest Paryż i jest to duże miasto.",
    "Turkish": "Fransa'nın başkenti neresi? Paris, çok büyük bir şehir ve bu daha güzel.",
    "Indonesian": "Apa ibu kota Prancis? Paris adalah kota yang besar dan tidak kecil.",
    "Vietnamese": "Thủ đô của Pháp là gì? Paris là một thành phố lớn và đẹp.",
    "Russian": "Какая столица Франции? Это Париж, большой город.",
    "Ukrainian": "Яка столиця Франції? Це Париж, велике місто, його всі люблять.",
    "Greek": "Ποια είναι η πρωτεύουσα της Γαλλίας; Είναι το Παρίσι.",
    "Arabic": "ما هي عاصمة فرنسا؟ إنها باريس وهي مدينة كبيرة.",
    "Hebrew": "מהי בירת צרפת? זו פריז והיא עיר גדולה.",
    "Hindi": "फ्रांस की राजधानी क्या है? यह पेरिस है।",
    "Chinese": "法国的首都是什么？是巴黎，一座大城市。",
    "Japanese": "フランスの首都はどこですか。パリです。",
    "Korean": "프랑스의 수도는 어디입니까? 파리입니다.",
    "Thai": "เมืองหลวงของฝรั่งเศสคืออะไร ปารีส",
    "unknown": "1 + 1 = 2, OK?",
}


@pytest.mark.parametrize(("language", "text"), SENTENCES.items())
def test_a_language_is_known_by_its_script_or_its_small_words(language: str, text: str) -> None:
    assert language_of(text) == language


def test_rows_in_another_language_than_nearly_all_are_named() -> None:
    rows = clean_rows(60)
    rows[17] = chat(SENTENCES["German"], SENTENCES["German"])
    rows[40] = chat(SENTENCES["Japanese"], SENTENCES["Japanese"])
    report = look(Planted(rows).body).report
    assert found(report) == {"minority_language": [18, 41]}
    assert [(share.name, share.rows) for share in report.languages] == [("English", 58), ("German", 1), ("Japanese", 1)]


def test_a_file_in_two_languages_has_no_minority() -> None:
    rows = [*clean_rows(30), *(chat(f"{SENTENCES['French']} {n}", f"{SENTENCES['French']} {n * n}") for n in range(30))]
    assert "minority_language" not in found(look(Planted(rows).body).report)


def test_leaks_are_told_from_near_leaks_and_from_duplicates_within_a_file() -> None:
    training = look(Planted(clean_rows(300)).body)
    rows = clean_rows(40, skip=600)
    rows[4] = clean_rows(1, skip=33)[0]
    rows[9] = json.loads(json.dumps(clean_rows(1, skip=50)[0]).replace(" and ", " plus ", 1))
    rows[20] = rows[2]
    report = look(Planted(rows).body, training=training).report
    assert found(report) == {"leaked": [5], "nearly_leaked": [10], "exact_duplicate": [21]}
    (leak,) = report.issue("leaked").findings  # type: ignore[union-attr]
    assert leak.detail == "the same as line 34 of the training data"
    near = report.issue("nearly_leaked")
    assert near is not None
    assert "line 51 of the training data" in near.findings[0].detail
    assert report.compared_with == "rows.jsonl"


def test_classes_are_counted_where_there_are_few_and_let_be_where_answers_are_answers() -> None:
    rows = [
        {**chat(f"Ticket {n}: where is it?", ("billing", "shipping")[n % 4 == 0]), "slice": f"s{n % 2}"}
        for n in range(80)
    ]
    balances = {each.field: each.classes for each in look(Planted(rows).body).report.balances}
    assert [(share.name, share.rows) for share in balances["answer"]] == [("billing", 60), ("shipping", 20)]
    assert sum(share.rows for share in balances["slice"]) == 80
    assert look(Planted(clean_rows(100)).body).report.balances == ()


def test_verdicts_and_the_place_of_the_right_choice_are_counted() -> None:
    verdicts = [{"prompt": f"Number {n} is", "completion": f" like {n * n}.", "label": n % 5 > 0} for n in range(30)]
    choices = [
        {"prompt": f"Number {n} is", "completion": f" a{n}", "choices": [f" a{n}", f" b{n}", f" c{n}"]}
        for n in range(30)
    ]
    for rows, objective, field, expected in (
        (verdicts, "kto", "label", [("good", 24), ("bad", 6)]),
        (choices, "supervised", "choice", [("1 of 3", 30)]),
    ):
        quality = QualityCheck()
        body = Planted(rows).body
        check_dataset([body], uri="x", tokenizer=None, max_length=99, objective=objective, quality=quality)  # type: ignore[arg-type]
        (balance,) = quality.report.balances
        assert (balance.field, [(share.name, share.rows) for share in balance.classes]) == (field, expected)


def test_a_row_out_of_all_proportion_is_named_and_long_rows_among_long_ones_are_not() -> None:
    rows = clean_rows(60)
    rows[30] = chat("Read this book to me, please.", " ".join(f"word{n}" for n in range(20_000)))
    assert found(look(Planted(rows).body).report) == {"too_long": [31]}
    long = [chat("Read it.", " ".join(f"word{n * m}" for n in range(3000))) for m in range(1, 30)]
    assert "too_long" not in found(look(Planted(long).body).report)


@pytest.mark.parametrize(
    ("answer", "empty"),
    [
        ("N/A", True),
        ("...", True),
        ("-", True),
        ("None.", True),
        ("[deleted]", True),
        ("No", False),
        ("7", False),
        ("是", False),
    ],
)
def test_answers_that_say_nothing(answer: str, empty: bool) -> None:
    rows = [*clean_rows(12), chat("What do you say to all of this?", answer)]
    assert found(look(Planted(rows).body).report) == ({"says_nothing": [13]} if empty else {})


def test_damage_beside_rows_that_are_whole_is_a_mix_of_encodings() -> None:
    whole, damaged = (
        chat("Un café, s'il vous plaît, et vite.", "Voilà, un café."),
        chat("Un cafÃ© pour moi.", "VoilÃ ."),
    )
    assert look(Planted([whole, damaged]).body).report.mixed_encodings
    assert not look(Planted([damaged, chat("And one for me.", "Here it is.")]).body).report.mixed_encodings
    assert not look(Planted([whole]).body).report.mixed_encodings
    quality = QualityCheck()
    body = Planted([whole]).body + '{"text": "é"}\n'.encode("latin-1")
    check_dataset([body], uri="x", tokenizer=None, max_length=9, quality=quality)
    assert quality.report.mixed_encodings
