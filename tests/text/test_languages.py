import pickle

import pytest

from product_relevance.text.languages import (
    LANGUAGES,
    fix_language,
    from_iso,
    identify_languages,
    identify_with_evidence,
    to_iso,
)

SAMPLES = {
    "en": "wooden shelf for the kitchen wall",
    "es": "estantería de madera para la cocina",
    "fr": "étagère en bois pour la cuisine",
    "pt": "prateleira de madeira para cozinha com gavetas",
    "ja": "キッチン 木製 棚",
    "ko": "주방 나무 선반",
    "de": "Holzregal für die Küche mit Schubladen",
    "it": "mensola in legno per la cucina della nonna",
    "pl": "drewniana półka do kuchni",
    "ar": "رف خشبي للمطبخ",
    "th": "ชั้นวางไม้สำหรับห้องครัว",
    "vn": "kệ gỗ treo tường nhà bếp",
    "id": "rak kayu untuk dapur",
}


def test_the_13_languages_are_identified_under_the_competitions_codes():
    assert set(SAMPLES) == set(LANGUAGES)
    assert identify_languages(list(SAMPLES.values())) == list(SAMPLES)


def test_iso_codes_go_there_and_back():
    assert to_iso("vn") == "vi"
    assert [from_iso(to_iso(code)) for code in LANGUAGES] == list(LANGUAGES)


def test_digits_and_model_codes_have_no_language():
    assert identify_languages(["12345", "x5 z6", "", "☂", "sx-460a"]) == ["und"] * 5


def test_a_script_outside_the_known_languages_is_unknown():
    assert identify_languages(["кроссовки", "παπούτσια"]) == ["unk", "unk"]


def test_only_english_rows_are_corrected_and_the_given_code_is_kept():
    batch = {
        "language": ["en", "en", "en", "es", "en"],
        "query": [SAMPLES["fr"], SAMPLES["en"], SAMPLES["ja"], SAMPLES["de"], "кроссовки"],
    }
    assert fix_language(batch) == {
        "given_language": ["en", "en", "en", "es", "en"],
        "language": ["fr", "en", "ja", "es", "unk"],
    }


@pytest.mark.parametrize(
    "query", ["nike", "iphone 13 pro max", "samsung a52", "ryzen 7900", "adidas samba", "chloe", "12"]
)
def test_short_brand_queries_stay_english(query):
    assert fix_language({"language": ["en"], "query": [query]})["language"] == ["en"]


def test_one_stray_foreign_character_does_not_decide():
    assert identify_languages(["聽zapatillas de mujer para correr"]) == ["es"]


def test_the_second_pass_corrects_no_further():
    batch = {"language": ["en"], "query": [SAMPLES["pl"]]}
    once = fix_language(batch)
    assert fix_language(batch | once) == once == {"given_language": ["en"], "language": ["pl"]}


def test_english_never_has_evidence_against_itself():
    assert identify_with_evidence([SAMPLES["en"]]) == [("en", 0.0)]


def test_the_translation_rule_marks_english_rows_whose_translation_differs():
    batch = {
        "language": ["en", "en", "fr", "en"],
        "query": ["Red Bag", "bolso rojo", "sac rouge", "cup"],
        "translated_query": ["red bag ", "red bag", "red bag", None],
    }
    assert fix_language(batch, "translation")["language"] == ["en", "unk", "fr", "en"]


def test_none_changes_nothing_and_what_is_missing_is_told():
    batch = {"language": ["en"], "query": [SAMPLES["fr"]]}
    assert fix_language(batch, "none")["language"] == ["en"]
    with pytest.raises(ValueError, match="translated_query"):
        fix_language(batch, "translation")
    with pytest.raises(ValueError, match="expected one of none"):
        fix_language(batch, "guess")


def test_the_map_function_is_picklable_after_use():
    identify_languages(["bag"])
    assert pickle.loads(pickle.dumps(fix_language)) is fix_language
