"""Pairs in the forms that people paste: read alike, or refused with their place and what was found."""

import numpy as np
import pandas as pd
import pytest

from product_relevance.data.pairs import read_pairs, read_targets

QUERIES, TARGETS = ["zapatos", "usb kabel"], ["shoes,women's shoes", "consumer electronics,cables"]
BOTH = list(zip(QUERIES, TARGETS, strict=True))


def dicts(query: str, target: str, /, **more) -> list[dict]:
    return [{query: q, target: t} | more for q, t in BOTH]


FORMS = {
    "tuples": BOTH,
    "lists": [list(pair) for pair in BOTH],
    "an array": np.array(BOTH),
    "an iterator": iter(BOTH),
    "zip": zip(QUERIES, TARGETS, strict=True),
    "a generator": (pair for pair in BOTH),
    "transformers": dicts("text", "text_pair"),
    "records": dicts("origin_query", "category_path", id=7, language="es", label=1),
    "records with columns made of them": dicts("origin_query", "category_path", text="y", text_pair="z"),
    "records of both tasks": dicts("origin_query", "category_path", item_title=None),
    "a frame": pd.DataFrame(dicts("origin_query", "category_path")),
    "rows of a frame": [row for _, row in pd.DataFrame(dicts("text", "text_pair")).iterrows()],
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same_queries_and_targets(form):
    assert read_pairs(FORMS[form])[:2] == (QUERIES, TARGETS)


def test_a_data_set_is_read_as_its_rows():
    datasets = pytest.importorskip("datasets")
    assert read_pairs(datasets.Dataset.from_list(dicts("text", "text_pair")))[:2] == (QUERIES, TARGETS)


REFUSED = {
    "one text": ("zapatos", "pairs: found the text 'zapatos'"),
    "two texts": (["手机", "鞋类"], r"pair 0: found the text '手机'.*\[\(query, target\)\]"),
    "one pair": (("zapatos", "shoes"), "pair 0: found the text 'zapatos'"),
    "one dict": ({"text": "a", "text_pair": "b"}, "found a dict with the keys text, text_pair"),
    "a set": ({("a", "b")}, "pairs: found a set of 1"),
    "None": (None, "pairs: found None"),
    "a null target": ([*BOTH, ("a", None)], "pair 2: found None as its target"),
    "a NaN query": ([(float("nan"), "b")], "pair 0: found NaN as its query"),
    "a missing value of pandas": ([{"text": "a", "text_pair": pd.NA}], "pair 0: found <NA> as its target"),
    "a number": ([("a", 7)], "pair 0: found the number 7 as its target"),
    "three": ([("a", "b", "c")], "pair 0: found a tuple of 3"),
    "half a pair": ([("a",)], "pair 0: found a tuple of 1"),
    "a set of two": ([{"a", "b"}], "pair 0: found a set of 2"),
    "half a dict": ([{"text": "a"}], "pair 0: found a dict with the keys text, expected text and text_pair"),
    "names of another tool": (
        [{"q": "a", "doc": "b"}],
        "pair 0: found a dict with the keys q, doc, expected text",
    ),
    "a record of both": (
        [{"origin_query": "a", "category_path": "b", "item_title": "c"}],
        "pair 0: found a dict with the keys origin_query, category_path, item_title",
    ),
    "bytes": ([("a", b"b")], "pair 0: found a bytes as its target"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_pair_is_refused_with_its_place_and_what_was_found(case):
    value, told = REFUSED[case]
    with pytest.raises(ValueError, match=told):
        read_pairs(value)


def test_a_record_of_the_other_task_is_refused():
    with pytest.raises(ValueError, match="found a dict with the keys origin_query, item_title, expected .*category_p"):
        read_pairs([{"origin_query": "a", "item_title": "b"}], task="QC")


def test_languages_and_translations_of_dicts_are_read():
    rows = [{"text": "zapatos", "text_pair": "b", "language": "es", "translation": "shoes"}, ("a", "b")]
    assert read_pairs(rows)[2:] == (["es", None], ["shoes", None])


def test_a_missing_translation_of_a_record_is_none():
    rows = dicts("origin_query", "category_path", language="es", translated_query=float("nan"))
    assert read_pairs(rows)[2:] == (["es", "es"], None)


def test_lists_that_are_given_win_over_those_of_dicts():
    rows = dicts("text", "text_pair", language="es")
    assert read_pairs(rows, languages=iter(["de", "fr"])).languages == ["de", "fr"]


def test_one_language_for_all_is_refused_as_a_text():
    with pytest.raises(ValueError, match="languages: found the text 'es', expected a list"):
        read_pairs(BOTH, languages="es")


def test_an_empty_list_has_no_pairs():
    assert read_pairs([])[:2] == ([], [])


def test_targets_of_a_ranking_are_read_once():
    assert read_targets("zapatos", iter(["a", "b"])) == ["a", "b"]


@pytest.mark.parametrize(
    ("query", "targets", "top_k", "told"),
    [
        ("zapatos", "toys", None, "targets: found the text 'toys', expected a list"),
        ("zapatos", None, None, "targets: found None"),
        ("zapatos", ["a", None], None, "target 1: found None, expected a text"),
        ("zapatos", ["a", float("nan")], None, "target 1: found NaN"),
        (["zapatos"], ["a"], None, "query: found a list of 1, expected one text"),
        ("zapatos", ["a", "b"], -1, "top_k: found -1"),
        ("zapatos", ["a", "b"], 0, "top_k: found 0"),
    ],
)
def test_a_ranking_of_something_else_is_refused(query, targets, top_k, told):
    with pytest.raises(ValueError, match=told):
        read_targets(query, targets, top_k)
