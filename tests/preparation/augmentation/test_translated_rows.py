"""Translated rows keep label, target and fold, come in the asked shares, and never show a text of another fold."""

import subprocess
import sys

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from product_relevance.data.leakage import require_no_leak
from product_relevance.data.provenance import append_rows, read_prepared, write_rows
from product_relevance.preparation.augmentation.translated_rows import (
    BackOptions,
    LanguageOptions,
    add_back_translations,
    add_languages,
    from_language_table,
    missing_languages,
)
from tests.conftest import ROOT
from tests.helpers import warm
from tests.helpers.made_rows import prepared, translate, with_odd_queries


def new_rows(made: pd.DataFrame) -> pd.DataFrame:
    return made[made["method"] != "original"]


def test_languages_that_only_the_evaluation_has_are_missing():
    train = prepared(60)
    evaluation = train.assign(given_language=[["en", "de", "vn", "unk"][i % 4] for i in range(len(train))])
    assert missing_languages(train, evaluation) == ["de", "vn"]
    assert missing_languages(train.drop(columns="given_language"), train) == []


def test_each_language_gets_its_share_up_to_the_cap_in_the_proportions_of_labels_and_languages():
    frame = prepared(1000)
    made = add_languages(frame, translate, LanguageOptions({"de": 0.4, "it": 0.2}, cap=300))
    new = new_rows(made)
    counts = new["language"].value_counts()
    assert counts["de"] == 300 and counts["it"] == round(0.2 * len(frame))
    sources = made.set_index("id").loc[new["source_row"]]
    for column in ("label", "language"):
        taken, all_rows = sources[column].value_counts(normalize=True), frame[column].value_counts(normalize=True)
        assert (taken - all_rows).abs().max() < 0.01
    assert new["detail"].tolist() == [f"{a}>{b}" for a, b in zip(sources["language"], new["language"], strict=True)]


@given(st.integers(0, 99), st.floats(0.01, 1), st.sampled_from(["english", "query"]))
@settings(max_examples=12, deadline=None)
def test_translated_rows_keep_label_target_and_fold(seed, share, text):
    frame = prepared(90, seed)
    made = add_languages(frame, translate, LanguageOptions({"de": share, "ar": share}, text=text, seed=seed))
    new = new_rows(made)
    source = made.set_index("id").loc[new["source_row"]]
    for name in ("label", "target", "clean_target", "fold", "task"):
        assert new[name].tolist() == source[name].tolist()
    assert set(new["language"]) <= {"de", "ar"} and new["language"].tolist() == new["given_language"].tolist()
    assert made["id"].is_unique and set(new["seed"]) <= {seed}
    for fold in range(3):
        require_no_leak(made, made["fold"] != fold, made["fold"] == fold)


def test_english_is_what_is_translated_and_what_stays_as_the_translation():
    frame = prepared(200)
    frame.loc[frame["language"] == "fr", "translated_query"] = frame["query"]  # no translation known
    asked = []

    def translator(texts, codes):
        asked.extend(zip(texts, codes, strict=True))
        return translate(texts, codes)

    made = add_languages(frame, translator, LanguageOptions({"de": 1.0}))
    new, source = new_rows(made), made.set_index("id").loc[new_rows(made)["source_row"]]
    assert set(source["language"]) == {"en", "es", "ja"} and asked == sorted(set(asked))
    english = source["translated_query"].where(source["language"] != "en", source["query"]).tolist()
    assert new["translated_query"].tolist() == english and set(asked) == {(text, "de") for text in english}
    direct = new_rows(add_languages(frame, translate, LanguageOptions({"de": 1.0}, text="query")))
    french = direct[direct["detail"] == "fr>de"]
    assert len(french) and french["translated_query"].tolist() == french["query"].tolist()


def test_what_cannot_be_translated_or_comes_back_the_same_is_counted_and_left_out():
    frame = prepared(150)
    english = frame["translated_query"].where(frame["language"] != "en", frame["query"])

    def translator(texts, codes):
        return [None if "1" in t else "  " if "2" in t else t.upper() if "3" in t else f"neu {t}" for t in texts]

    made = add_languages(frame, translator, LanguageOptions({"de": 1.0}))
    untranslated = english.str.contains("1|2").sum()
    assert made.attrs["made"]["translated"]["untranslated"] == untranslated > 0
    unchanged = (english.str.contains("3") & ~english.str.contains("1|2")).sum()
    assert made.attrs["made"]["translated"]["unchanged"] == unchanged > 0
    assert new_rows(made)["query"].str.startswith("neu ").all() and len(new_rows(made)) > 10


def test_a_translation_that_is_a_query_of_another_fold_is_left_out():
    frame = prepared(60)
    other = frame[frame["fold"] != frame["fold"].iloc[0]]["query"].iloc[0]
    made = add_languages(frame, lambda texts, codes: [other] * len(texts), LanguageOptions({"de": 1.0}, text="query"))
    assert set(new_rows(made)["fold"]) <= set(frame[frame["query"] == other]["fold"])
    assert made.attrs["made"]["translated"]["crossing"] > 0


def test_made_rows_are_no_sources():
    frame = append_rows(prepared(60), [0, 1], {"origin_query": ["uno", "due"], "query": ["uno", "due"]}, "noise", 0)
    new = add_languages(frame, translate, LanguageOptions({"de": 1.0})).iloc[len(frame) :]
    assert new["id"].str.count("#").max() == 1


def test_back_translation_goes_from_english_into_the_query_s_own_language():
    frame, asked = prepared(200), []

    def translator(texts, codes):
        asked.extend(zip(texts, codes, strict=True))
        return translate(texts, codes)

    made = add_back_translations(frame, translator, BackOptions(1.0))
    new, source = new_rows(made), made.set_index("id").loc[new_rows(made)["source_row"]]
    assert set(new["language"]) == {"es", "fr", "ja"} and new["language"].tolist() == source["language"].tolist()
    assert new["detail"].str.fullmatch(r"(..)>en>\1").all() and set(new["method"]) == {"back_translated"}
    assert set(asked) == set(zip(source["translated_query"], source["language"], strict=True))
    assert new["translated_query"].tolist() == source["translated_query"].tolist()
    assert new[["label", "fold", "target"]].values.tolist() == source[["label", "fold", "target"]].values.tolist()


def test_english_queries_go_back_through_a_pivot():
    frame, back = prepared(200), []

    def into_english(texts, codes):
        back.extend(zip(texts, codes, strict=True))
        return [f"back {text}" for text in texts]

    made = add_back_translations(frame, translate, BackOptions(1.0, "de"), into_english)
    english = made[made["detail"] == "en>de>en"]
    assert len(english) and english["query"].str.startswith("back de ").all() and {code for _, code in back} == {"de"}
    assert {"es>en>es", "fr>en>fr", "ja>en>ja", "en>de>en", ""} == set(made["detail"])
    with pytest.raises(ValueError, match="expected both a pivot"):
        add_back_translations(frame, translate, BackOptions(1.0, "de"))


def test_the_order_of_rows_changes_nothing_and_the_seed_does():
    frame = prepared(300)
    found = [
        set(zip(made["id"], made["query"], strict=True))
        for made in (
            add_languages(frame, translate, LanguageOptions({"it": 0.2, "de": 0.1})),
            add_languages(frame.sample(frac=1, random_state=1), translate, LanguageOptions({"de": 0.1, "it": 0.2})),
            add_languages(frame, translate, LanguageOptions({"de": 0.1, "it": 0.2}, seed=1)),
        )
    ]
    assert found[0] == found[1] != found[2]


def test_odd_queries_are_translated_and_empty_ones_are_not():
    frame = with_odd_queries(prepared(60))
    new = new_rows(add_languages(frame, translate, LanguageOptions({"pl": 1.0}, text="query")))
    assert new["query"].str.len().max() >= 9_999
    assert set(frame["id"].astype(str)) - set(new["source_row"]) == {"11"}


def test_bad_options_and_translators_are_told():
    frame = prepared(30)
    with pytest.raises(ValueError, match="share of de: found 1.5"):
        add_languages(frame, translate, LanguageOptions({"de": 1.5}))
    with pytest.raises(ValueError, match="text: found 'both'"):
        add_languages(frame, translate, LanguageOptions({"de": 0.5}, text="both"))
    with pytest.raises(ValueError, match="cap: found 0"):
        add_languages(frame, translate, LanguageOptions({"de": 0.5}, cap=0))
    with pytest.raises(ValueError, match="found 1 translations"):
        add_languages(frame, lambda texts, codes: ["x"], LanguageOptions({"de": 1.0}))


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_a_table_is_looked_up_by_clean_text_and_language(tmp_path, suffix):
    path = tmp_path / f"table.{suffix}"
    rows = {"text": ["%red shoes", "red shoes", "nan"], "language": ["de", "it", "de"]}
    table = pd.DataFrame(rows | {"translation": ["rote Schuhe", "scarpe rosse", "null"]})
    if suffix == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    translator = from_language_table(path)
    asked = ["red shoes", " red  shoes", "red shoes", "nan"], ["de", "it", "pl", "de"]
    assert translator(*asked) == ["rote Schuhe", "scarpe rosse", None, "null"]
    (tmp_path / "bad.csv").write_text("query,translation\na,b\n", encoding="utf-8")
    with pytest.raises(ValueError, match="found the columns query, translation, expected one of language"):
        from_language_table(tmp_path / "bad.csv")


def run_script(*words) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "dataset_scripts/augment.py"), *map(str, words)]
    return warm.run(command)


def test_the_script_makes_rows_for_the_languages_that_another_file_has(tmp_path):
    frame, source, table = prepared(60), tmp_path / "prepared.parquet", tmp_path / "table.csv"
    write_rows(frame, source)
    write_rows(frame.assign(language="de").drop(columns=["fold", "given_language"]), tmp_path / "dev.parquet")
    english = frame["translated_query"].where(frame["language"] != "en", frame["query"]).unique()
    rows = [{"query": text, "language": "de", "translation": f"neu {text}"} for text in english]
    pd.DataFrame(rows).to_csv(table, index=False)
    words = ["--task", "QC", "--engine", "table", "--model", table, "--output", tmp_path / "out.parquet"]
    done = run_script("languages", source, *words, "--like", tmp_path / "dev.parquet", "--share", "0.5")
    assert done.returncode == 0, done.stderr
    made = read_prepared(tmp_path / "out.parquet", "QC")
    assert (made["language"] == "de").sum() == round(0.5 * len(frame)) and "untranslated" in done.stdout
    done = run_script("languages", source, *words, "--languages", "de=much")
    assert done.returncode == 1 and "expected codes" in done.stderr and "Traceback" not in done.stderr
