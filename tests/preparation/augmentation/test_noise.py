"""Noisy variants differ in one place, keep numbers, labels and folds, and leave other scripts' letters in place."""

import re
import unicodedata
from collections import Counter

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from product_relevance.data.leakage import require_no_leak
from product_relevance.preparation.augmentation.noise import (
    ANY_SCRIPT,
    KINDS,
    NEIGHBOURS,
    NoiseSource,
    add_noise,
    make_variant,
)
from product_relevance.text.cleaning import clean_text
from tests.helpers.made_rows import ODD, prepared, with_odd_queries

TEXTS = st.one_of(st.text(max_size=40), st.from_regex(r"[a-zà-ÿ0-9]{1,9}( [a-zà-ÿ0-9]{1,9}){0,5}", fullmatch=True))


def variant(query: str, kind: str, language: str = "en", english: str = "", key: str = "1") -> str | None:
    found = make_variant(NoiseSource(clean_text(query), language, english or query, key), [kind], 0)
    return found[0] if found else None


def variants(query: str, kind: str, language: str = "en", english: str = "") -> set:
    return {variant(query, kind, language, english, str(key)) for key in range(60)}


@given(TEXTS, st.sampled_from(sorted(KINDS)), TEXTS, st.sampled_from(["en", "fr", "de", "ja"]))
@settings(max_examples=300, deadline=None)
def test_a_variant_is_clean_another_text_and_has_the_same_numbers(query, kind, english, language):
    query, english = clean_text(query), clean_text(english)
    found = make_variant(NoiseSource(query, language, english, "1"), [kind], 0)
    if found:
        text, name = found
        assert name == kind and text and text != query and clean_text(text) == text
        assert Counter(re.findall(r"\d+", text)) == Counter(re.findall(r"\d+", query))


@given(st.text(st.characters(categories=["Lo", "Mn", "So", "Nd"]), min_size=1, max_size=30), st.integers(0, 9))
@example("\u00aa\u0309", 0)  # which cleaning turns into a Latin letter
@settings(max_examples=200, deadline=None)
def test_other_scripts_get_deletions_and_transpositions_only(query, key):
    query = clean_text(query)
    letters = [c for c in query if c.isalpha()]
    found = make_variant(NoiseSource(query, "ja", "some english words", str(key)), list(KINDS), 0)
    if found and letters and not any("LATIN" in unicodedata.name(c, "") for c in letters):
        text, kind = found
        assert kind in ANY_SCRIPT and not Counter(text) - Counter(query)


@pytest.mark.parametrize("query", ["เคสโทรศัพท์มือถือ", "زجاج حماية الهاتف", "スマートフォンケース", "여성겨울운동화"])
def test_marks_stay_on_their_letters(query):
    marks = [i for i, c in enumerate(query) if unicodedata.category(c)[0] == "M"]
    pairs = {query[i - 1 : i + 1] for i in marks if i - 1 not in marks}
    for kind in ANY_SCRIPT:
        for text in variants(query, kind):
            found = {text[i - 1 : i + 1] for i, c in enumerate(text) if unicodedata.category(c)[0] == "M"}
            assert text != query and not {p for p in found if unicodedata.category(p[0])[0] != "M"} - pairs


def test_neighbours_are_those_of_the_language_s_keyboard():
    assert set(NEIGHBOURS["qwerty"]["s"]) == set("adwezx") and set(NEIGHBOURS["qwerty"]["p"]) == set("ol")
    assert "q" in NEIGHBOURS["azerty"]["a"] or "z" in NEIGHBOURS["azerty"]["a"]
    assert set("tu") <= set(NEIGHBOURS["qwertz"]["z"])
    for layout in NEIGHBOURS.values():
        assert all(letter in layout[near] for letter, around in layout.items() for near in around)
    for language, layout in (("es", "qwerty"), ("fr", "azerty"), ("de", "qwertz")):
        for text in variants("zapatillas", "neighbour", language):
            (place,) = [i for i, (a, b) in enumerate(zip(text, "zapatillas", strict=True)) if a != b]
            assert place > 0 and text[place] in NEIGHBOURS[layout]["zapatillas"[place]]


def test_each_kind_does_what_it_says():
    assert variants("zapatos", "deletion") == {"zapatos"[:i] + "zapatos"[i + 1 :] for i in range(1, 7)}
    assert variants("abcd", "transposition") == {"acbd", "abdc"}
    assert variants("cargador", "truncation") == {"carg", "carga", "cargad", "cargado"}
    assert variants("abcde", "split") == {"ab cde", "abc de"}
    assert variants("red dress long", "joined") == {"reddress long", "red dresslong"}
    assert variants("cable Múltiple Łódź straße", "accents") == {"cable Multiple Lodz strasse"}
    assert variants("red Dress", "case") == {"red dress", "RED DRESS", "Red Dress"}
    mixed = variants("zapatos rojos mujer", "mix", "es", "women red shoes")
    assert mixed == {"zapatos red shoes", "zapatos rojos shoes", "women rojos mujer", "women red mujer"}


@pytest.mark.parametrize("query", ["iphone13", "a52", "xt-250 3.5mm", "🔥🔥", "usb", ""])
def test_codes_numbers_emoji_and_short_words_are_never_typed_wrong(query):
    for kind in ("neighbour", "deletion", "transposition", "truncation", "split"):
        assert variants(query, kind) == {None}
    assert variants("13 14", "joined") == {None}


def test_what_would_change_nothing_is_no_variant():
    assert variants("zapatos", "accents") == variants("zapatos", "mix") == variants("zapatos", "joined") == {None}
    assert make_variant(NoiseSource("zapatos rojos", "es", "red shoes", "1"), ["case"], 0, lowercase=True) is None


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_the_rate_is_the_share_of_rows_that_are_tried(rate):
    frame = prepared(900)
    new = add_noise(frame, rate, ["deletion"]).iloc[len(frame) :]
    assert abs(len(new) / len(frame) - rate) < 0.06


def test_variants_keep_label_target_and_fold_and_tell_their_kind():
    frame = prepared(600)
    made = add_noise(frame, 0.5, seed=7)
    new, by_id = made.iloc[len(frame) :], made.set_index("id")
    source = by_id.loc[new["source_row"]]
    for name in ("label", "target", "clean_target", "fold", "language", "task"):
        assert new[name].tolist() == source[name].tolist()
    assert set(new["detail"]) == set(KINDS) and set(new["method"]) == {"noise"} and set(new["seed"]) == {7}
    assert (
        new["query"].tolist() == new["origin_query"].tolist() and (new["query"].values != source["query"].values).all()
    )
    assert new["translated_query"].tolist() == source["translated_query"].tolist() and made["id"].is_unique
    for fold in range(3):
        require_no_leak(made, made["fold"] != fold, made["fold"] == fold)


def test_a_query_that_is_its_own_translation_stays_so():
    frame = prepared(60)
    frame["translated_query"] = frame["query"]
    new = add_noise(frame, 1.0).iloc[len(frame) :]
    assert len(new) and new["translated_query"].tolist() == new["query"].tolist()


def test_noise_makes_no_noise_of_noise():
    once = add_noise(prepared(90), 0.5)
    twice = add_noise(once, 1.0, seed=1)
    assert twice["id"].str.count("#").max() == 1 and len(twice) > len(once)


def test_the_order_of_rows_and_of_kinds_changes_nothing_and_the_seed_does():
    frame = prepared(200)
    found = [
        set(zip(made["id"], made["query"], made["detail"], strict=True))
        for made in (
            add_noise(frame, 0.5),
            add_noise(frame.sample(frac=1, random_state=1), 0.5, sorted(KINDS, reverse=True)),
            add_noise(frame, 0.5, seed=1),
        )
    ]
    assert found[0] == found[1] != found[2]


def test_odd_queries_do_not_stop_it():
    frame = with_odd_queries(prepared(60))
    new = add_noise(frame, 1.0).iloc[len(frame) :]
    assert {"1", "2", "3", "4", "9", "10"} <= set(new["source_row"])
    assert not {"6", "8", str(len(ODD) + 1)} & set(new["source_row"])
    assert new["query"].str.len().max() >= 9_999


def test_bad_options_are_told():
    with pytest.raises(ValueError, match="rate: found 2"):
        add_noise(prepared(9), 2)
    with pytest.raises(ValueError, match="found slang, expected among neighbour"):
        add_noise(prepared(9), kinds=["slang"])
    assert isinstance(add_noise(prepared(9), 0), pd.DataFrame)
