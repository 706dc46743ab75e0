"""A comparison is paired: equal models differ by nothing, and a surely better one is found."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from product_relevance.evaluation import intervals
from product_relevance.evaluation.comparison import Judged, compare_models, comparison_table


def made(seed: int, strength: float, rows: int = 600) -> tuple[np.ndarray, np.ndarray, Judged]:
    rng = np.random.default_rng(0)
    labels, queries = rng.integers(0, 2, rows), rng.integers(0, rows // 4, rows)
    noise = np.random.default_rng(seed).random(rows)
    scores = np.clip(strength * labels + (1 - strength) * noise, 0, 1)
    return labels, queries, Judged(scores, scores >= 0.5)


def test_a_model_does_not_differ_from_itself():
    labels, queries, model = made(1, 0.3)
    found = compare_models(labels, queries, model, model)
    assert found.changed == 0
    assert {(m.difference, m.low, m.high) for m in found.measures.values()} == {(0.0, 0.0, 0.0)}


def test_the_figures_are_those_of_scikit_learn():
    labels, queries, a = made(1, 0.3)
    b = made(2, 0.4)[2]
    found = compare_models(labels, queries, a, b).measures
    assert found["auc"].b == pytest.approx(roc_auc_score(labels, b.scores))
    assert found["f1"].a == pytest.approx(f1_score(labels, a.relevant))
    assert found["macro_f1"].difference == pytest.approx(
        f1_score(labels, b.relevant, average="macro") - f1_score(labels, a.relevant, average="macro")
    )


def test_exchanging_the_models_turns_the_sign():
    labels, queries, a = made(1, 0.3)
    b = made(2, 0.35)[2]
    one, other = compare_models(labels, queries, a, b), compare_models(labels, queries, b, a)
    for name, value in one.measures.items():
        assert (value.low, value.high) == pytest.approx((-other.measures[name].high, -other.measures[name].low))


def test_a_much_better_model_is_surely_better_and_a_noisy_copy_is_not():
    labels, queries, a = made(1, 0.2)
    assert compare_models(labels, queries, a, made(2, 0.45)[2]).is_at_least("auc", 0.0)
    copy = Judged(np.clip(a.scores + np.random.default_rng(3).normal(0, 1e-3, 600), 0, 1), a.relevant)
    found = compare_models(labels, queries, a, copy)
    assert not found.is_at_least("auc", 0.0) and found.is_at_least("auc", -0.02)


def test_changed_rows_are_counted_by_which_model_was_right():
    labels = np.array([1, 1, 0, 0])
    a = Judged(np.array([0.9, 0.1, 0.1, 0.9]), np.array([True, False, False, True]))
    b = Judged(np.array([0.9, 0.9, 0.9, 0.9]), np.array([True, True, True, True]))
    found = compare_models(labels, ["q", "q", "r", "s"], a, b)
    assert (found.changed, found.mended) == (2, 1)
    assert "2 of 4 rows changed: 1 became right, 1 became wrong" in comparison_table(found)


def test_rows_of_one_label_have_no_auc_and_say_so():
    model = Judged(np.array([0.2, 0.8]), np.array([False, True]))
    found = compare_models([1, 1], ["a", "b"], model, model)
    assert "auc" not in found.measures
    with pytest.raises(ValueError, match="--measure auc: the file has rows of one label only"):
        found.is_at_least("auc", 0.0)


def test_values_that_do_not_belong_to_the_rows_are_an_error():
    model = Judged(np.array([0.2, 0.8]), np.array([False, True]))
    with pytest.raises(ValueError, match="expected one per row"):
        compare_models([1, 0, 1], ["a", "b", "c"], model, model)


def test_blocks_of_draws_are_the_draws(monkeypatch):
    groups = np.array(["a", "b", "a", "c"])
    whole = intervals.draw_queries(groups, count=7)
    monkeypatch.setattr(intervals, "BLOCK", 8)
    blocks = list(intervals.query_draws(groups, count=7))
    assert [len(block) for block in blocks] == [2, 2, 2, 1] and (np.concatenate(blocks) == whole).all()
