import pandas as pd
import pytest

from product_relevance.data import loading
from product_relevance.data.translations import add_translation, load_translations
from product_relevance.preparation.augmentation.translated_rows import from_language_table


def frame(queries, languages=None, **columns):
    return pd.DataFrame({"query": queries, "language": languages or ["de"] * len(queries), **columns})


def test_a_translator_is_called_once_with_distinct_pairs():
    calls = []

    def translator(texts, languages):
        calls.append(list(zip(texts, languages, strict=True)))
        return [f"{text}/{code}" for text, code in zip(texts, languages, strict=True)]

    done = add_translation(frame(["rad", "taxi", "rad", "taxi"], ["de", "de", "de", "fr"]), translator)
    assert calls == [[("rad", "de"), ("taxi", "de"), ("taxi", "fr")]]
    assert done["translated_query"].tolist() == ["rad/de", "taxi/de", "rad/de", "taxi/fr"]


def test_without_a_source_each_query_is_its_own_translation():
    rows = frame(["rad", "rot"])
    assert add_translation(rows)["translated_query"].tolist() == ["rad", "rot"]
    assert "translated_query" not in rows


def test_what_has_no_translation_keeps_its_text_and_is_counted():
    done = add_translation(frame(["a", "b", "b", "c"]), lambda texts, _: ["A", None, "  "])
    assert done["translated_query"].tolist() == ["A", "b", "b", "c"]
    assert done.attrs["translation"] == {"distinct": 3, "missing": 2, "missing_rows": 3}


def test_a_translator_that_loses_texts_is_refused():
    with pytest.raises(ValueError, match="found 1 translations, expected 2"):
        add_translation(frame(["a", "b"]), lambda texts, _: ["A"])


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_tables_of_every_format_are_looked_up_by_clean_text(tmp_path, suffix):
    path = tmp_path / f"english.{suffix}"
    table = pd.DataFrame({"text": ["%Fahrrad", "nan", "leer"], "translation": ["bicycle", "null", ""]})
    if suffix == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    done = add_translation(frame(["Fahrrad", "nan", "leer", "neu"]), path, max_missing=1)
    assert done["translated_query"].tolist() == ["bicycle", "null", "leer", "neu"]
    assert done.attrs["translation"]["missing"] == 2


def test_an_unusable_table_is_told_with_its_columns(tmp_path):
    path = tmp_path / "english.csv"
    path.write_text("query,english\na,b\n", encoding="utf-8")
    with pytest.raises(ValueError, match="found the columns query, english, expected one of translation"):
        load_translations(path)
    with pytest.raises(ValueError, match="no such file"):
        load_translations(tmp_path / "absent.csv")
    (tmp_path / "english.xls").touch()
    with pytest.raises(ValueError, match=r"expected \.csv"):
        load_translations(tmp_path / "english.xls")


def test_a_column_is_used_as_it_is_and_asked_for():
    done = add_translation(frame(["rad", "rot"], translated_query=["bike", None]), "column", 0.5)
    assert done["translated_query"].tolist() == ["bike", "rot"]
    with pytest.raises(ValueError, match="expected translated_query"):
        add_translation(frame(["rad"]), "column")


@pytest.mark.parametrize("read", [load_translations, from_language_table])
def test_a_stray_quote_of_a_table_is_told_and_swallows_no_translation(tmp_path, read):
    path = tmp_path / "english.tsv"
    path.write_text(
        'query\tlanguage\ttranslation\n"24 zoll\tde\tscreen\nrad\tde\tbicycle\n30"\tde\tdesk\n"bett"\tde\tbed\n'
    )
    with pytest.raises(ValueError, match=r"english\.tsv:2: found a quote that is not closed"):
        read(path)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "english.csv"
    path.write_text("query,translation\nRotes Rad,red bicycle\nTaxi,cab\ntaxi,taxi cab\n", encoding="utf-8")
    return path


def test_lowered_queries_find_their_translations(table):
    rows = pd.DataFrame(
        {"task": "QI", "language": "de", "origin_query": ["Rotes  Rad", "TAXI"], "target": ["a", "b"], "label": 1}
    )
    assert loading.add_all_columns(rows, True, "none", table)["translated_query"].tolist() == [
        "red bicycle",
        "taxi cab",
    ]


def test_a_translation_of_the_query_as_it_is_written_comes_first(table):
    assert load_translations(table)(["taxi", "Taxi", "TAXI"], ["de"] * 3) == ["taxi cab", "cab", "cab"]


def test_a_table_of_several_languages_is_looked_up_without_regard_to_case(tmp_path):
    path = tmp_path / "into.csv"
    path.write_text("query,language,translation\nRed Bicycle,de,Rotes Rad\n", encoding="utf-8")
    assert from_language_table(path)(["red bicycle"] * 2, ["de", "fr"]) == ["Rotes Rad", None]


def test_more_missing_than_allowed_is_an_error_with_examples_and_the_way_out(table):
    rows = frame(["Rotes Rad", "neu", "alt", "hat"], ["de", "de", "de", "en"])
    message = r"2 of 3 distinct queries .* \(66.7%\), for example 'alt' \(de\), 'neu' \(de\); expected at most 10%"
    with pytest.raises(ValueError, match=f"{message}.*--max_missing_translations"):
        add_translation(rows, table)
    assert add_translation(rows, table, max_missing=0.7).attrs["translation"]["missing"] == 3


def test_a_column_with_gaps_is_held_to_the_same_limit():
    rows = frame(["neu"] * 3, translated_query=["new", None, ""])
    with pytest.raises(ValueError, match="1 of 1 distinct queries"):
        add_translation(rows, "column")


def test_english_queries_need_no_translation(table):
    assert add_translation(frame(["hat", "cup"], ["en", "en"]), table)["translated_query"].tolist() == ["hat", "cup"]


@pytest.mark.parametrize("given", [None, "column", "table"])
def test_records_to_score_are_checked_before_any_is_scored(table, given):
    trained = {"translation": "english.csv"}
    rows = frame(["neu"], translated_query=[None])
    with pytest.raises(ValueError, match="1 of 1 distinct queries"):
        loading.require_translations(rows, trained, str(table) if given == "table" else given, 0.1)
    loading.require_translations(rows, {"translation": "none"}, None, 0.1)
