"""A model translator asks each distinct text once, cuts long ones, skips what it may, and refuses bad output."""

import json
import runpy
import sys

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_relevance.data.translations import add_translation
from product_relevance.preparation.translation.cache import TranslationCache
from product_relevance.preparation.translation.translator import (
    ModelTranslator,
    Outcome,
    TranslatorOptions,
    load_translator,
    split_text,
    translate_all,
)
from product_relevance.text.cleaning import clean_text
from tests.conftest import ROOT, SAMPLE, rows_of, write_rows
from tests.helpers import tiny_translators

SCRIPT = ROOT / "dataset_scripts" / "translate.py"
LONG = " ".join(f"lámpara de mesa número {i}, con pantalla de tela." for i in range(230))[:10_000]
WIDE = [
    "赤い靴 27cm",
    "หมวกกันน็อคเด็กสีชมพู" * 30,
    "حذاء جري نسائي 38",
    "áo mưa trẻ em",
    "e\u0301cran 4k",
    "👨‍👩‍👧 👟" * 99,
]
ODD = [*WIDE, "\ud800 x", "a" * 10_000, "\x00\u200b\u202e y", "</s> <2en> red", "\\n\\n|"]


def english_lamps(text: str) -> str:
    return text.replace("lámpara de mesa número", "table lamp number").replace("con pantalla de tela", "with fabric")


class Dictionary:
    """An engine that answers from a dictionary or function, and notes what it is asked."""

    settings = {"engine": "dictionary"}
    batch_size = 4
    prompt_marks = ("german:",)
    prompt_answers = frozenset({"purple octopus costume for dogs"})

    def __init__(self, words=None, languages=("de", "es", "ja", "en", "und", "unk")):
        self.words, self.languages, self.batches = words or {}, languages, []

    def supports(self, source, target):
        return source in self.languages and target == "en"

    def translate(self, texts, sources, targets):
        self.batches.append(list(zip(texts, sources, targets, strict=True)))
        answer = self.words if callable(self.words) else lambda text: self.words.get(text, f"the {text}")
        return [answer(text) for text in texts]

    @property
    def asked(self):
        return [request for batch in self.batches for request in batch]


@pytest.fixture
def make(tmp_path):
    def made(words=None, **options) -> ModelTranslator:
        engine = Dictionary(words)
        return ModelTranslator(engine, TranslationCache(engine.settings, tmp_path / "cache.sqlite3"), **options)

    return made


@pytest.fixture(scope="module")
def madlad(tmp_path_factory):
    return str(tiny_translators.save_translator(tmp_path_factory.mktemp("models") / "madlad", "madlad"))


def test_distinct_texts_go_to_the_engine_once_the_longest_first(make):
    translator = make({"rote Schuhe": "red shoes", "Hut": "hat", "blauer Mantel": "blue coat"}, batch_size=2)
    texts = ["Hut", "rote Schuhe", "Hut", "blauer Mantel", "  Hut "]
    assert translator(texts, ["de"] * 5) == ["hat", "red shoes", "hat", "blue coat", "hat"]
    assert [[text for text, *_ in batch] for batch in translator.engine.batches] == [
        ["blauer Mantel", "rote Schuhe"],
        ["Hut"],
    ]


def test_a_second_run_asks_the_engine_nothing(make):
    words = {"rote Schuhe": "red shoes"}
    first, second = make(words), make()
    assert first(["rote Schuhe", "Hut"], ["de", "de"]) == second(["rote Schuhe", "Hut"], ["de", "de"])
    assert len(first.engine.asked) == 2 and second.engine.asked == []


def test_english_and_codes_stay_as_they_are_unless_asked_for(make):
    texts = ["red shoes", "rtx4090", "12 x 30", "%led", "27インチ"]
    languages = ["en", "de", "de", "de", "ja"]
    skipping, asking = make({"27インチ": "27 inch"}), make(skip=())
    statuses = [outcome.status for outcome in skipping.translate(texts, languages)]
    assert statuses == ["english", "no_words", "no_words", "translated", "translated"]
    assert skipping(texts, languages)[:3] == texts[:3]
    asking(texts, languages)
    assert {text for text, *_ in asking.engine.asked} == {"red shoes", "rtx4090", "12 x 30"}


def test_a_query_labelled_english_that_clearly_is_not_is_translated_from_what_it_is(make):
    translator = make()
    translator(["zapatillas deportivas para niños pequeños", "running shoes"], ["en", "en"])
    assert translator.engine.asked == [("zapatillas deportivas para niños pequeños", "es", "en")]


def test_an_unknown_language_is_identified_and_one_the_model_lacks_is_left_out(make):
    translator = make()
    done = translator.translate(["rote Schuhe für Damen", "áo mưa trẻ em"], ["unk", "vn"])
    assert [source for _, source, _ in translator.engine.asked] == ["de"]
    assert done[1] == Outcome(None, "unsupported")


BAD = {
    "empty": "  ",
    "copied_prompt": "purple octopus costume 12",
    "repeated": "shoe 12 shoe 12 shoe 12",
    "too_long": "a case for the iphone 12 that is said to be as strong as steel and as soft as silk in every hand",
    "lost_number": "iphone case",
    "not_english": "wasserdichte Hülle für das iphone 12 in schöner schwarzer Farbe",
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_output_is_told_and_the_original_kept(make, reason):
    query = "Handyhülle iphone 12"
    translator = make({query: BAD[reason], "Hut": "hat"})
    assert translator.translate([query, "Hut"], ["de", "de"]) == [Outcome(None, reason), Outcome("hat", "translated")]
    rows = add_translation(pd.DataFrame({"query": [query, "Hut", query], "language": "de"}), translator)
    assert rows["translated_query"].tolist() == [query, "hat", query]
    assert rows.attrs["translation"] == {"distinct": 2, "missing": 1, "missing_rows": 2}


def test_a_text_of_ten_thousand_characters_is_translated_in_parts(make):
    translator = make(english_lamps)
    (done,) = translator.translate([LONG], ["es"])
    parts = [text for text, *_ in translator.engine.asked]
    assert len(parts) > 39 and max(map(len, parts)) <= 256
    assert done == Outcome(english_lamps(clean_text(LONG)), "translated")


@pytest.mark.parametrize("text", ODD)
def test_odd_texts_reach_the_engine_whole_and_come_back(make, text):
    translator = make(lambda part: part, skip=())
    (done,) = translator.translate([text], ["ja"])
    clean = clean_text(text)
    assert {part for part, *_ in translator.engine.asked} == set(split_text(clean))
    assert done.translation in (clean, " ".join(split_text(clean))) or done.status in ("not_english", "empty")


def test_empty_texts_are_not_asked_for(make):
    translator = make()
    assert translator.translate(["", "   ", None], ["de"] * 3) == [Outcome(None, "no_text")] * 3
    assert translator([], []) == [] and translator.engine.asked == []


@given(st.text(max_size=3000), st.integers(8, 300))
def test_parts_are_short_and_lose_nothing_but_blanks(text, limit):
    parts = split_text(text, limit)
    assert all(len(part) <= limit for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


def test_a_text_is_cut_at_the_sentence_then_the_clause_then_the_blank_nearest_to_the_middle():
    assert split_text("aa bb, cc dd. ee ff, gg hh", 14) == ["aa bb, cc dd.", "ee ff, gg hh"]
    assert split_text("aa bb cc, dd ee ff gg", 14) == ["aa bb cc,", "dd ee ff gg"]
    assert split_text("aaaa bbbb cccc dddd", 10) == ["aaaa bbbb", "cccc dddd"]
    assert split_text("赤い靴。青い帽子、大きい", 8) == ["赤い靴。", "青い帽子、大きい"]
    assert [len(part) for part in split_text("ก" * 100, 30)] == [25] * 4
    assert split_text("o" * 5 + "\u0301" * 3 + "x" * 2, 8)[0].endswith("\u0301")  # no accent begins a part


def test_unknown_engines_and_missing_models_are_told(tmp_path):
    with pytest.raises(ValueError, match="expected one of seq2seq, llm, table, none"):
        load_translator("babelfish")
    with pytest.raises(ValueError, match="needs a model"):
        load_translator("seq2seq")
    with pytest.raises(ValueError, match="no such folder; give a folder, or a Hub id"):
        load_translator("llm", str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="expected among english, codes"):
        load_translator("llm", "m", TranslatorOptions(skip=["german"]))


def test_all_engines_have_one_interface(tmp_path, madlad):
    pd.DataFrame({"query": ["rot"], "translation": ["red"]}).to_csv(tmp_path / "t.csv", index=False)
    causal = str(tiny_translators.save_causal(tmp_path / "qwen2", "qwen2"))
    cache = {"cache_path": tmp_path / "cache.sqlite3"}
    engines = {
        "none": load_translator("none"),
        "table": load_translator("table", str(tmp_path / "t.csv")),
        "seq2seq": load_translator("seq2seq", madlad, TranslatorOptions(backend="transformers"), **cache),
        "llm": load_translator("llm", causal, **cache),
    }
    for name, translator in engines.items():
        plain = translator(["rot", "blau"], ["de", "es"])
        told = translate_all(translator, ["rot", "blau"], ["de", "es"])
        assert [outcome.translation for outcome in told] == plain and len(plain) == 2, name
        assert all(text is None or isinstance(text, str) for text in plain), name
    assert [outcome.status for outcome in translate_all(engines["table"], ["rot", "blau"], ["de"] * 2)] == [
        "translated",
        "missing",
    ]


def test_from_english_the_languages_are_those_to_translate_into(tmp_path, madlad):
    translator = load_translator(
        "seq2seq", madlad, TranslatorOptions(backend="transformers", skip=[]), from_english=True
    )
    translator.cache = TranslationCache({}, tmp_path / "cache.sqlite3")
    asked = []
    translator.engine.translate = lambda *batch: asked.extend(zip(*batch, strict=True)) or ["rot"] * len(batch[0])
    done = translator.translate(["red hat", "red hat", "blue hat"], ["de", "vn", "en"])
    assert sorted(asked) == [("red hat", "en", "de"), ("red hat", "en", "vn")]
    assert done[2] == Outcome("blue hat", "english")


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments) -> str:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return capsys.readouterr().out

    return call


def test_the_script_writes_a_table_that_plugs_into_training(tmp_path, monkeypatch, run, madlad):
    from product_relevance.data import loading
    from product_relevance.data.records import read_records
    from product_relevance.preparation.translation.seq2seq import Seq2Seq

    monkeypatch.setenv("HF_HOME", str(tmp_path))
    records = write_rows(tmp_path / "dev.txt", rows_of("dev_QC.txt")[:30])
    output = tmp_path / "translations.parquet"
    told = run(records, "--engine", "seq2seq", "--model", madlad, "--backend", "transformers", "--output", output)
    assert "not translated, original kept" in told and str(output) in told
    table = pd.read_parquet(output)
    assert list(table) == ["query", "language", "translation", "status"]
    assert not table["translation"].eq("").any() and not table.duplicated(["query", "language"]).any()
    bad = table[~table["status"].isin(["translated"])]
    assert (bad["translation"] == bad["query"]).all()
    frame = loading.add_all_columns(read_records(records, task="QC"), False, "none", str(output))
    known = dict(zip(table["query"], table["translation"], strict=True))
    assert frame["translated_query"].tolist() == [known[query] for query in frame["query"]]

    def no_weights(*_):
        raise AssertionError("all of it is in the cache")

    monkeypatch.setattr(Seq2Seq, "_load", no_weights)
    run(records, "--engine", "seq2seq", "--model", madlad, "--backend", "transformers", "--output", output)
    assert pd.read_parquet(output).equals(table)


def test_the_script_translates_titles_too_and_reports(tmp_path, monkeypatch, run):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    table = pd.DataFrame({"text": ["Red shoes", "หมวกกันน็อค"], "translation": ["x", "helmet"]})
    table.to_csv(tmp_path / "t.csv", index=False)
    title = {"id": 1, "task": "QI", "language": "th", "origin_query": "q", "item_title": "หมวกกันน็อค"}
    records = write_rows(tmp_path / "test.txt", [title, title | {"id": 2, "item_title": ""}])
    output = tmp_path / "titles.parquet"
    run(records, "--engine", "table", "--model", tmp_path / "t.csv", "--field", "target", "--output", output)
    assert pd.read_parquet(output).to_dict("records") == [
        {"text": "หมวกกันน็อค", "language": "en", "translation": "helmet", "status": "translated"}
    ]


def test_the_script_ends_with_one_clear_line(tmp_path, run):
    for model in ("", str(SAMPLE)):
        with pytest.raises(SystemExit) as ended:
            run(SAMPLE / "dev_QC.txt", "--engine", "seq2seq", "--model", model, "--output", tmp_path / "o.parquet")
        assert str(ended.value).startswith("error: ") and "\n" not in str(ended.value)
    assert json.loads(json.dumps(str(ended.value))) and not (tmp_path / "o.parquet").exists()
