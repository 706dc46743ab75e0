import json

import pytest

from product_relevance.text.cleaning import clean_columns
from product_relevance.text.templates import PairFacts, Template, first_text, second_text

QUERIES, ENGLISH = ['%Bolso  rojo"', "Red Bag", "neu"], ["red bag", "red bag", None]
PATHS = ["bags,totes, big", "bags", None]


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("original", ["Bolso rojo", "Red Bag", "neu"]),
        ("translation", ["red bag", "Red Bag", "neu"]),
        ("both", ["Bolso rojo - red bag", "Red Bag", "neu"]),
    ],
)
def test_input_styles_join_only_a_translation_that_differs(style, expected):
    texts, _ = Template(input_style=style).render(QUERIES, PATHS, PairFacts(translations=ENGLISH))
    assert texts == expected


def test_without_translations_both_is_the_original():
    assert Template(input_style="both").render(QUERIES, PATHS) == Template().render(QUERIES, PATHS)


def test_the_map_functions_and_the_template_give_the_same_texts():
    batch = {"task": ["QC"] * 3, "origin_query": QUERIES, "target": PATHS, "language": ["es", "en", "de"]}
    batch |= clean_columns(batch, lowercase=True) | {"translated_query": ENGLISH}
    template = Template(input_style="both", language_tag=True, path_style="markers", lowercase=True)
    texts = (first_text(batch, "both", True)["text"], second_text(batch, "markers")["text_pair"])
    assert template.render(QUERIES, PATHS, PairFacts(batch["language"], ENGLISH)) == texts
    assert texts[0][0] == "[es] bolso rojo - red bag"
    assert texts[1] == ["bags > totes, big", "bags", ""]


def test_rendering_clean_texts_again_changes_nothing():
    template = Template(path_style="raw", lowercase=True)
    once = template.render(QUERIES, PATHS)
    assert template.render(*once) == once


def test_the_tag_uses_the_corrected_language_and_asks_for_one():
    template = Template(language_tag=True, language_fix="identify")
    query = "étagère en bois pour la cuisine"
    assert template.render([query], ["a"], PairFacts(["en"]))[0] == [f"[fr] {query}"]
    with pytest.raises(ValueError, match="found no languages"):
        template.render([query], ["a"])


def test_titles_are_not_rendered_as_paths():
    _, titles = Template(task="QI", path_style="markers").render(["cup"], ["Cup,blue,large"])
    assert titles == ["Cup,blue,large"]


def test_a_template_survives_json_and_refuses_unknown_keys():
    template = Template("QI", "both", True, "none", "raw", True)
    assert Template.from_dict(json.loads(json.dumps(template.to_dict()))) == template
    with pytest.raises(ValueError, match="unknown keys prefix_style"):
        Template.from_dict({"task": "QC", "prefix_style": "raw"})
    with pytest.raises(ValueError, match="path style: found 'tree'"):
        Template(path_style="tree")


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="targets: found 1, expected 2"):
        Template().render(["a", "b"], ["c"])
