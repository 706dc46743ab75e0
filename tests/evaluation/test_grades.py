"""Graded figures: against scikit-learn and brute force, and what must always hold."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, f1_score, precision_recall_fscore_support

from product_relevance.evaluation import grades
from product_relevance.evaluation.probabilities import compute_expected_grade, to_distribution, to_probabilities

rng = np.random.default_rng(0)


@given(st.integers(2, 6), st.integers(0, 10_000))
def test_kappa_and_macro_f1_are_those_of_scikit_learn(count, seed):
    draw = np.random.default_rng(seed)
    true, decided = draw.integers(0, count, 50), draw.integers(0, count, 50)
    confusion = grades.count_grades(true, decided, count)
    assert grades.compute_kappa(confusion) == pytest.approx(cohen_kappa_score(true, decided, weights="quadratic"))
    assert grades.compute_grade_f1(confusion) == pytest.approx(f1_score(true, decided, average="macro"))


def test_figures_of_each_grade_are_those_of_scikit_learn():
    true, decided = rng.integers(0, 4, 60), rng.integers(0, 3, 60)
    found = grades.measure_each_grade(grades.count_grades(true, decided, 4))
    expected = precision_recall_fscore_support(true, decided, labels=range(4), zero_division=0)
    assert np.allclose([[each[name] for each in found] for name in ("precision", "recall", "f1", "rows")], expected)


def test_kappa_of_one_grade_only_is_zero():
    assert grades.compute_kappa(grades.count_grades([1, 1], [1, 1], 3)) == 0


@given(st.integers(2, 6), st.integers(0, 10_000), st.integers(1, 40))
def test_thresholds_rise_strictly_within_0_and_1(count, seed, rows):
    draw = np.random.default_rng(seed)
    scores = draw.choice([0.0, 0.1, 0.5, 1.0, draw.random()], rows)
    limits = grades.fit_grade_thresholds(draw.integers(0, count, rows), scores, count)
    assert len(limits) == count - 1 and (np.diff(limits) > 0).all() and limits[0] > 0 and limits[-1] < 1


def test_thresholds_are_as_good_as_the_best_of_all():
    true = np.repeat([0, 1, 2], [30, 10, 20])
    scores = np.clip(true / 2 + rng.normal(0, 0.2, 60), 0, 1)
    kappa = lambda limits: grades.compute_kappa(  # noqa: E731
        grades.count_grades(true, grades.decide_grades(scores, limits), 3)
    )
    best = max(kappa(limits) for limits in itertools.combinations(np.unique(scores), 2))
    assert kappa(grades.fit_grade_thresholds(true, scores, 3)) >= best - 0.01


def test_a_score_has_the_grade_of_the_thresholds_that_it_reaches():
    assert grades.decide_grades([0, 0.2, 0.3, 0.5, 1], [0.3, 0.5]).tolist() == [0, 0, 1, 2, 2]


def test_the_distribution_sums_to_one_and_two_labels_are_as_they_were():
    logits = rng.normal(size=(50, 2)) * 9
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert (to_probabilities(logits) == shifted[:, 1] / shifted.sum(axis=1)).all()
    assert np.allclose(to_distribution(rng.normal(size=(9, 5)) * 50).sum(axis=1), 1)


@given(st.integers(3, 7), st.integers(0, 10_000))
def test_the_expected_grade_rises_with_the_logit_of_the_best_and_falls_with_that_of_the_worst(count, seed):
    logits = np.random.default_rng(seed).normal(size=(1, count)) * 3
    step = np.eye(count)
    plain = to_probabilities(logits)[0]
    assert to_probabilities(logits + step[-1])[0] > plain > to_probabilities(logits + step[0])[0]
    assert 0 <= plain <= 1


def test_the_mean_of_scores_is_the_score_of_the_mean_distribution():
    shares = to_distribution(rng.normal(size=(40, 4))).reshape(10, 4, 4)
    assert np.allclose(compute_expected_grade(shares).mean(axis=1), compute_expected_grade(shares.mean(axis=1)))


def test_measured_grades_have_an_interval_over_queries():
    true = rng.integers(0, 4, 200)
    decided = np.clip(true + rng.integers(-1, 2, 200), 0, 3)
    found = grades.measure_grades(true, decided, 4, np.arange(200) // 5)
    low, high = found["kappa_interval"]
    assert low < found["kappa"] < high and np.sum(found["confusion"]) == 200
    assert "kappa_interval" not in grades.measure_grades(true, decided, 4, None)
