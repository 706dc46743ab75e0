import pandas as pd
import pytest

from product_relevance.coverage import from_language_table
from product_relevance.translation import add_translation, from_table


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
    done = add_translation(frame(["Fahrrad", "nan", "leer", "neu"]), path)
    assert done["translated_query"].tolist() == ["bicycle", "null", "leer", "neu"]
    assert done.attrs["translation"]["missing"] == 2


def test_an_unusable_table_is_told_with_its_columns(tmp_path):
    path = tmp_path / "english.csv"
    path.write_text("query,english\na,b\n", encoding="utf-8")
    with pytest.raises(ValueError, match="found the columns query, english, expected one of translation"):
        from_table(path)
    with pytest.raises(ValueError, match="no such file"):
        from_table(tmp_path / "absent.csv")
    (tmp_path / "english.xls").touch()
    with pytest.raises(ValueError, match=r"expected \.csv"):
        from_table(tmp_path / "english.xls")


def test_a_column_is_used_as_it_is_and_asked_for():
    done = add_translation(frame(["rad", "rot"], translated_query=["bike", None]), "column")
    assert done["translated_query"].tolist() == ["bike", "rot"]
    with pytest.raises(ValueError, match="expected translated_query"):
        add_translation(frame(["rad"]), "column")


@pytest.mark.parametrize("read", [from_table, from_language_table])
def test_a_stray_quote_of_a_table_is_told_and_swallows_no_translation(tmp_path, read):
    path = tmp_path / "english.tsv"
    path.write_text('query\tlanguage\ttranslation\n"24 zoll\tde\tscreen\nrad\tde\tbicycle\n30"\tde\tdesk\n')
    with pytest.raises(ValueError, match=r"english\.tsv:2: found a quote that is not closed"):
        read(path)
