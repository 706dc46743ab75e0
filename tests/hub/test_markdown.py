"""Whatever text a run holds, its cards keep their headings, tables, links and metadata."""

import copy
import re

import pytest
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st

from product_relevance.hub.markdown import base_name, to_markdown, to_word
from tests.helpers.card_runs import RUN, blocks, rows, single, whole

NASTY = [
    "\n---\nlicense: mit\n---\n", "| a | b |", "<script>alert(1)</script>", "{{ 7 * 7 }}{% for %}", "```\n# Title",
    "![x](https://example.org/x.png)", "a: [b, 'c", "\u2028# T\u2029", "\x1b[31m\x00\u202e", "- &x *x !!python/ob",
    "\ud800", "$$x$$", "\\|", "x" * 5000, "'''\"\"\"", "#", "~~~",
]  # fmt: skip


def spoilt(text: str) -> dict:
    """The run with one text in every place that holds free text."""
    run = copy.deepcopy(RUN)
    run["base"] = {"name": text, "revision": text, "fingerprint": text}
    run["adapter"]["target_modules"] = [text]
    run["data"] |= {"source": text, "sha256": text, "languages": ["en", text]}
    run["recipe"]["optim"] = run["pooling"] = run["device"] = run["thresholds_from"] = run["finished"] = text
    run["versions"] = {"product_relevance": text, "torch": text}
    run["folds_by"] |= {"group_by": text, "held_out_languages": [text]}
    group = run["metrics"]["by_language"]["en"]
    for values in (run["metrics"], run["folds"][1]["metrics"]):
        values["by_language"] = {"en": group, "xx" + text: group}
    return run


def outline(card: str) -> list:
    """Headings, fences, rules, marks and table widths of a card's body."""
    body = ModelCard(card).text
    lines = [line for line in body.splitlines() if re.match(r"#|```|~~~|---|===", line)]
    lines += [f"{body.count(mark)} {mark}" for mark in ("`", "](", "*", "$", "<")]
    return lines + [len(re.findall(r"(?<!\\)\|", line)) for line in body.splitlines() if line.startswith("|")]


PLAIN = {build: outline(build(spoilt("plain"))) for build in (whole, single, rows)}


@pytest.mark.parametrize("text", NASTY, ids=lambda text: repr(text[:20]))
def test_a_hostile_string_of_a_run_breaks_no_card(text):
    check_cards_with(text)


@settings(deadline=None, max_examples=20)
@given(st.one_of(st.text(min_size=1), st.text("`|<>[]()*_#-~\n {}%$\\'\":", min_size=1)))
def test_no_string_of_a_run_breaks_a_card(text):
    check_cards_with(text)


def check_cards_with(text: str) -> None:
    for build in PLAIN:
        card = build(spoilt(text))
        card.encode("utf-8")
        assert outline(card) == PLAIN[build]
        assert not re.search(
            r"<\w|\]\((?!https://|#|figures/)", re.sub(r"```.*?```", "", ModelCard(card).text, flags=re.S)
        )
        for code in blocks(card):
            compile(code, "card", "exec")
    data = ModelCard(whole(spoilt(text))).data
    assert data.license == "other" and data.license_name == "unknown"
    assert data.eval_results[0].metric_value == RUN["metrics"]["f1"]


def test_a_text_is_shown_and_not_obeyed():
    assert to_markdown("a|b <i>*x*</i>\n[y](z)") == "a&#124;b &#60;i&#62;&#42;x&#42;&#60;/i&#62; &#91;y&#93;(z)"
    assert to_markdown(to_markdown("a|b")) == "a&#124;b"
    assert [to_markdown(v) for v in (None, True, 12345, 0.5, ["a", 1])] == [
        "not recorded",
        "yes",
        "12,345",
        "0.5000",
        "a, 1",
    ]


@pytest.mark.parametrize(
    ("text", "kept"),
    [("/home/ann/x.txt", "x.txt"), ("C:\\data\\x.txt", "x.txt"), ("../x.txt", "x.txt"), ("~/runs/", "runs")]
    + [("org/name", "org/name"), ("embedded:e5-small", "embedded:e5-small")],
)
def test_an_absolute_path_loses_its_folders(text, kept):
    assert base_name(text) == kept


def test_a_word_has_nothing_to_escape():
    assert to_word('0.1.0+cpu"}\n```') == "0.1.0+cpu" and to_word(None) == "unknown"
