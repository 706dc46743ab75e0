"""Judgements and rankings come back from a file as they were written; a bad line is named."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_relevance.evaluation import trec

NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8).filter(
    lambda x: len(x.split()) == 1
)
KEYS = st.lists(st.tuples(NAMES, NAMES), unique=True, max_size=20)


@given(keys=KEYS, data=st.data())
def test_judgements_come_back_as_they_were_written(tmp_path_factory, keys, data):
    path = tmp_path_factory.mktemp("qrels") / "qrels.txt"
    grades = data.draw(st.lists(st.integers(-1, 5), min_size=len(keys), max_size=len(keys)))
    table = pd.DataFrame([(*key, grade) for key, grade in zip(keys, grades, strict=True)], columns=[*trec.QRELS])
    trec.write_qrels(table, path)
    assert trec.read_qrels(path).to_numpy().tolist() == table.to_numpy().tolist()


@given(keys=KEYS, data=st.data())
def test_scores_come_back_to_the_last_bit(tmp_path_factory, keys, data):
    path = tmp_path_factory.mktemp("run") / "run.txt"
    number = st.floats(allow_nan=False, allow_infinity=False)
    scores = data.draw(st.lists(number, min_size=len(keys), max_size=len(keys)))
    table = pd.DataFrame([(*key, score) for key, score in zip(keys, scores, strict=True)], columns=[*trec.RUN])
    trec.write_run(table, path)
    found = trec.read_run(path)
    assert {(q, d): s for q, d, s in found.itertuples(index=False)} == dict(zip(keys, scores, strict=True))


def test_the_best_score_of_a_query_comes_first(tmp_path):
    table = pd.DataFrame([("q", "a", 0.1), ("q", "b", 0.9), ("p", "a", 0.5)], columns=[*trec.RUN])
    trec.write_run(table, tmp_path / "run.txt", "mine")
    assert (tmp_path / "run.txt").read_text() == "q Q0 b 1 0.9 mine\nq Q0 a 2 0.1 mine\np Q0 a 1 0.5 mine\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q 0 a 1\nq 0 b\n", ":2: found 3 fields, expected four fields"),
        ("q 0 a high\n", ":1: grade: found 'high', expected a whole number"),
        ("q 0 a 1\nq 0 a 0\n", "found the document a twice for the query q"),
    ],
)
def test_a_bad_line_of_judgements_is_named(tmp_path, text, message):
    (tmp_path / "qrels.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        trec.read_qrels(tmp_path / "qrels.txt")


@pytest.mark.parametrize("score", ["nan", "inf", "best"])
def test_a_score_that_is_no_finite_number_is_named(tmp_path, score):
    (tmp_path / "run.txt").write_text(f"q Q0 a 1 {score} mine\n")
    with pytest.raises(ValueError, match=f":1: score: found '{score}'"):
        trec.read_run(tmp_path / "run.txt")


@pytest.mark.parametrize("name", ["", "red shoes", " a", "a\n"])
def test_an_id_that_would_break_the_line_leaves_no_file(tmp_path, name):
    with pytest.raises(ValueError, match="without white space"):
        trec.write_qrels(pd.DataFrame([("q", name, 1)], columns=[*trec.QRELS]), tmp_path / "qrels.txt")
    assert not list(tmp_path.iterdir())
