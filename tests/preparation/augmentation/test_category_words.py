"""Queries get the names of categories in other languages: the longest names, singular or plural, and no other word."""

import augment as program
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_relevance.data.provenance import read_prepared, write_rows
from product_relevance.preparation.augmentation.category_tree import Category
from product_relevance.preparation.augmentation.category_words import CategoryWords, from_tree
from tests.helpers.made_rows import prepared

NAMES = {"Boxes": "Schachteln", "Batteries": "Akkus", "Water": "Wasser", "Water Heaters": "Boiler", "Glass": "Glas"}
WORDS = CategoryWords.from_categories(
    [Category(("Home", english), {"en": (english,), "de": (german,)}) for english, german in NAMES.items()]
)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("red box 20 cm", "red schachteln 20 cm"),
        ("Red Boxes", "Red Schachteln"),
        ("battery charger", "akkus charger"),
        ("gas water heater", "gas boiler"),
        ("water filter", "wasser filter"),
        ("glass water heater glass", "glas boiler glas"),
    ],
)
def test_the_longest_name_gives_way_in_singular_and_plural(query, expected):
    assert WORDS.translate(query, "de") == expected


@pytest.mark.parametrize("query", ["red chair", "boxer shorts", "", "underwater"])
def test_a_query_without_a_name_has_no_translation(query):
    assert WORDS.translate(query, "de") is None


def test_a_name_that_both_languages_share_changes_nothing():
    shared = CategoryWords.from_categories([Category(("A", "Laptops"), {"en": ("Laptops",), "de": ("Laptops",)})])
    assert shared.translate("laptops", "de") is None


def test_of_several_names_for_one_english_name_the_commonest_counts():
    names = ["Fälle", "Hüllen", "Hüllen"]
    categories = [Category((f"Root {i}", "Cases"), {"en": ("Cases",), "de": (name,)}) for i, name in enumerate(names)]
    assert CategoryWords.from_categories(categories).translate("cases", "de") == "hüllen"


@given(st.lists(st.sampled_from(["red", "box", "boxes", "water", "heater", "7"]), max_size=6))
def test_all_other_words_stay_in_their_order(words):
    mixed = WORDS.translate(" ".join(words), "de") or " ".join(words)
    others = [word for word in words if word in ("red", "7")]
    assert [word for word in mixed.split() if word in ("red", "7")] == others


def test_a_language_that_the_tree_lacks_is_named_and_gives_no_row(tmp_path, caplog):
    pd.DataFrame({"path": ["Home > Boxes"], "de": ["Schachteln"]}).to_csv(tmp_path / "tree.csv", index=False)
    translate = from_tree(str(tmp_path / "tree.csv"))
    assert translate(["box", "box"], ["de", "ar"]) == ["schachteln", None]
    assert "no names in ar" in caplog.text


def test_the_program_adds_code_mixed_rows_in_the_fold_and_with_the_label_of_their_source(tmp_path, capsys):
    frame = prepared(60)
    word = frame.loc[frame["language"] == "en", "query"].iloc[0].split()[0]
    pd.DataFrame({"path": [f"Home > {word}"], "de": ["Ding"]}).to_csv(tmp_path / "tree.csv", index=False)
    write_rows(frame, tmp_path / "rows.parquet")
    flags = ["--task", "QC", "--engine", "tree", "--model", str(tmp_path / "tree.csv"), "--languages", "de=1"]
    program.main(["languages", str(tmp_path / "rows.parquet"), *flags, "--output", str(tmp_path / "mixed.parquet")])
    made = read_prepared(tmp_path / "mixed.parquet", "QC")
    new = made[made["method"] == "translated"]
    source = made.set_index("id").loc[new["source_row"]]
    assert len(new) and new["query"].str.contains("ding").all()
    for column in ("label", "fold", "target"):
        assert new[column].tolist() == source[column].tolist()
    assert f"new: {len(new)} rows" in capsys.readouterr().out
