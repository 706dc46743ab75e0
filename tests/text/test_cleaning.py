import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from product_relevance.text.cleaning import clean_columns, clean_path, clean_text, normalise_text
from product_relevance.text.taxonomy import split_path

DEBRIS = st.lists(
    st.sampled_from(
        [
            "\\",
            '"',
            "&amp;",
            "&#44;",
            "\\u00e9",
            "\\n",
            "%",
            ",",
            ", ",
            "，",
            "bag",
            " ",
            "\u200d",
            "ا",
            "½",
            "2",
            "'",
            ".",
        ]
    )
    | st.text(max_size=3),
    max_size=12,
).map("".join)


@given(DEBRIS, st.booleans())
@settings(max_examples=400, deadline=None)
def test_cleaning_what_is_clean_changes_nothing(text, lowercase):
    for function in (clean_text, clean_path):
        once = function(text, lowercase)
        assert function(once, lowercase) == once
    assert normalise_text(normalise_text(text)) == normalise_text(text)


@given(DEBRIS)
@settings(max_examples=300, deadline=None)
def test_cleaning_a_path_neither_adds_nor_drops_levels(path):
    assert len(split_path(clean_path(path))) == len(split_path(path))


@given(DEBRIS)
@settings(max_examples=200, deadline=None)
def test_a_text_with_letters_or_digits_is_never_cleaned_to_nothing(text):
    assert clean_text(f"{text} bag7 {text}")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('\\"American Street..', "American Street"),
        ('\\\\"oak shelf\\\\"', "oak shelf"),
        ("% cotton shirt", "cotton shirt"),
        ("socket 1\\\\/4", "socket 1/4"),
        ("caf\\u00e9\\ncrema", "café crema"),
        ("toy \\ud83d\\ude00", "toy 😀"),
        ("Tom &amp;amp; Jerry &quot;cup&quot;", 'Tom & Jerry "cup"'),
        ("ｎｉｋｅ　靴", "nike 靴"),
        ("\ufeffred\u200b  bag\x07\u202e", "red bag"),
        ("***shoe***", "shoe"),
        ("2½ inch", "2 1/2 inch"),
    ],
)
def test_debris_goes(raw, expected):
    assert clean_text(raw) == expected


@pytest.mark.parametrize(
    "text", ["100%", '34" tv', '14"', "-5°", "#7 screw", ".440 screw", "c++", "$5", 'nike "air"', "AT&T"]
)
def test_symbols_that_carry_meaning_stay(text):
    assert clean_text(text) == text


def test_joiners_stay_where_a_script_or_an_emoji_needs_them_and_go_elsewhere():
    assert clean_text("می\u200cخواهم") == "می\u200cخواهم"
    assert clean_text("👨\u200d👩\u200d👧") == "👨\u200d👩\u200d👧"
    assert clean_text("ha\u200cnd\u200dbag\u200d") == "handbag"


def test_symbols_alone_are_kept_and_only_the_invisible_becomes_empty():
    assert clean_text(" *** ") == "***"
    assert clean_text("\u200b\x00 ") == ""


def test_a_full_width_comma_inside_a_level_makes_no_new_level():
    assert split_path(clean_path("food,flour，rice &#44;oats")) == ["food", "flour, rice , oats"]


def test_the_originals_stay_beside_the_clean_columns():
    batch = {"task": ["QC", "QI"], "origin_query": ["%Bag ", None], "target": ["A,b, c", "*Big* cup"]}
    assert clean_columns(batch, lowercase=True) == {"query": ["bag", ""], "clean_target": ["a,b, c", "big* cup"]}
    assert batch["origin_query"] == ["%Bag ", None]


@pytest.mark.parametrize(
    "variant", ["Straße rot", " strasse  ROT!", "ＳＴＲＡＳＳＥ　rot", '"STRASSE rot"', "strasse\u200b rot"]
)
def test_case_blanks_width_and_end_punctuation_do_not_change_the_key(variant):
    assert normalise_text(variant) == "strasse rot"


def test_accents_do_change_the_key():
    assert normalise_text("más") != normalise_text("mas")
