"""Faults of a translation are told by its text; what is right in another form is no fault."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_relevance.preparation.translation.checks import (
    FAULTS,
    find_fault,
    has_numbers,
    is_repetitive,
    lost_numbers,
)

ANSWERS = frozenset({"purple octopus costume for dogs", "fruit fly trap"})
MARKS = ("german:", "english:")

GOOD = [
    ("rote Schuhe", "red shoes"),
    ("iphone 12 hülle", "case for the iPhone 12"),
    ("rtx4090 günstig", "cheap RTX 4090"),
    ("Kabel 1,5 m", "1.5 m cable"),
    ("كابل ٢ متر", "2 meter cable"),
    ("２人用テント", "two-person tent"),
    ("set de 3 toallas", "set of three towels"),
    ("12 Eier", "a dozen eggs"),
    ("sm-g973f displej", "SM-G973F display"),
    ("usb3.0 hub", "USB 3.0 hub"),
    ("größe42 hose", "size 42 trousers"),
    ("เคสโทรศัพท์", "phone case"),
    ("👟", "👟"),
    ("Nike Nike Nike Nike", "Nike Nike Nike Nike"),
    ("007 poster", "7 poster"),
    ("camiseta octopus costume for perro", "octopus costume for dog t-shirt"),
    ("piège à mouches", "fly trap"),
]
BAD = [
    ("rote Schuhe", "", "empty"),
    ("rote Schuhe", None, "empty"),
    ("rote Schuhe", " - ", "empty"),
    ("rote Schuhe", "red shoes German: Hut", "copied_prompt"),
    ("rote Schuhe", "big purple octopus costume", "copied_prompt"),
    ("ที่ดักแมลง", "Fruit fly trap", "copied_prompt"),
    ("rote Schuhe", "red red red shoes", "repeated"),
    ("rote Schuhe", "red shoe red shoe red shoe", "repeated"),
    ("rote Schuhe", "shoeshoeshoeshoe", "repeated"),
    ("rote Schuhe", "a b a c a b a c b a b c", "repeated"),
    ("rote Schuhe", "shoes that are as red as can be, with laces, soles, and everything that shoes have", "too_long"),
    ("一二三四五六七八九十" * 4, "red shoes", "too_short"),
    ("iphone 12 hülle", "iphone case", "lost_number"),
    ("iphone 12 hülle", "iphone 13 case", "lost_number"),
    ("rtx4090 günstig", "cheap graphics card 4090", "lost_number"),
    ("كابل ٢ متر", "meter cable", "lost_number"),
    ("size 112", "twelve", "lost_number"),
    ("red shoes", "หมวกกันน็อค", "not_english"),
    ("красные туфли", "красные туфли", "not_english"),
    ("rote Schuhe", "schöne rote Schuhe für die Dame", "not_english"),
]


@pytest.mark.parametrize(("text", "translation"), GOOD)
def test_a_right_translation_has_no_fault(text, translation):
    assert find_fault(text, translation, "en", MARKS, ANSWERS) is None


@pytest.mark.parametrize(("text", "translation", "fault"), BAD)
def test_a_wrong_one_is_told_by_its_first_fault(text, translation, fault):
    assert find_fault(text, translation, "en", MARKS, ANSWERS) == fault and fault in FAULTS


def test_into_other_languages_the_language_is_not_judged():
    assert find_fault("red shoes 38", "schöne rote Schuhe für die Dame 38", "de") is None
    assert find_fault("red shoes 38", "schöne rote Schuhe für die Dame", "de") == "lost_number"


def test_every_fault_has_a_case():
    assert {fault for *_, fault in BAD} == set(FAULTS)


@given(st.text())
def test_a_text_keeps_its_own_numbers(text):
    assert lost_numbers(text, text) == []
    assert find_fault(text, text) in (None, "empty", "not_english")


@given(st.text(), st.text())
def test_any_two_texts_can_be_judged(text, translation):
    assert find_fault(text, translation, "en", MARKS, ANSWERS) in (None, *FAULTS)


@given(st.integers(13, 10**9), st.text("abc xyz", max_size=20))
def test_a_number_that_is_not_there_is_lost(number, rest):
    assert lost_numbers(f"{rest} {number}", rest) == [str(number)]
    assert has_numbers(f"{rest}{number}") and not has_numbers(rest)


def test_repetition_is_of_whole_units():
    assert not is_repetitive("very very good") and not is_repetitive("1000000000") and not is_repetitive("")
    assert is_repetitive("so good so good so good") and is_repetitive("ไทไทไทไท")
    assert not is_repetitive("o" * 3) and is_repetitive("o" * 8)


def test_long_texts_are_judged_quickly():
    text = "lampe de bureau 12 " * 500
    assert find_fault(text, text.replace("lampe de bureau", "desk lamp")) is None
    words = " ".join(f"wort{chr(97 + i % 26)}{i}" for i in range(1500))
    assert find_fault(words, "ab" * 5_000) == "repeated" and find_fault(words, "red shoes") == "too_short"
