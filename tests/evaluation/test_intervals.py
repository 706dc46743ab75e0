"""Intervals draw whole queries, cover what they should, and stay within 0 and 1 for few rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import f1_score, roc_auc_score

from product_relevance.evaluation import intervals
from product_relevance.evaluation.metrics import RowFacts, scores_report
from product_relevance.evaluation.reliability import measure_reliability

rows = st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1), st.integers(0, 3)), min_size=2, max_size=30)


@given(rows)
def test_a_row_that_counts_twice_is_worth_the_row_twice(found):
    labels, scores, times = (np.array(column) for column in zip(*found, strict=True))
    repeated = np.repeat(np.arange(len(labels)), times)
    if len(set(labels[repeated])) < 2:
        return
    called = scores >= 0.5
    assert len(set(intervals.weighted_auc(labels, scores, np.stack([times, times, times])))) == 1
    assert intervals.weighted_auc(labels, scores, times) == pytest.approx(
        roc_auc_score(labels[repeated], scores[repeated])
    )
    if called[repeated].any():
        expected = f1_score(labels[repeated], called[repeated])
        assert intervals.weighted_f1(labels, called, times) == pytest.approx(expected)


def test_queries_are_drawn_whole():
    groups = np.array(["a", "b", "a", "c", "b", "a"])
    times = intervals.draw_queries(groups, count=50)
    assert (times[:, 0] == times[:, 2]).all() and (times[:, 1] == times[:, 4]).all()
    counts = times[:, [0, 1, 3]].sum(axis=1)  # one of each query
    assert (counts == 3).all()


def made(queries: int, per_query: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    easy = np.repeat(rng.normal(size=queries), per_query)  # rows of one query are right or wrong together
    labels = (rng.random(queries * per_query) < 0.7).astype(int)
    scores = 1 / (1 + np.exp(-(2 * labels - 1) * easy - 0.3 * rng.normal(size=len(labels))))
    return labels, scores, np.repeat(np.arange(queries), per_query)


def test_every_figure_lies_in_its_interval():
    labels, scores, queries = made(80, 5)
    report = scores_report(labels, scores, 0.5, RowFacts(["en", "de"] * 200, queries=queries))
    for group in (report, *report["by_language"].values()):
        for name in ("f1", "macro_f1", "auc"):
            low, high = group[f"{name}_interval"]
            assert 0 <= low < group[name] < high <= 1


def test_rows_of_one_query_make_the_interval_wide():
    labels, scores, queries = made(80, 5)
    widths = [
        np.diff(scores_report(labels, scores, 0.5, RowFacts(queries=names))["auc_interval"])[0]
        for names in (queries, np.arange(len(labels)))
    ]
    assert widths[0] > 1.3 * widths[1]


def test_an_interval_is_that_of_all_draws_at_once():
    labels, scores, queries = made(40, 3)
    called, times = scores >= 0.5, intervals.draw_queries(queries)
    found = intervals.bootstrap_intervals(labels, scores, called, queries)
    assert found["auc_interval"] == pytest.approx(
        intervals.percentile_interval(intervals.weighted_auc(labels, scores, times))
    )
    assert found["f1_interval"] == pytest.approx(
        intervals.percentile_interval(intervals.weighted_f1(labels, called, times))
    )


def test_one_class_has_no_interval_of_auc():
    found = scores_report([1, 1, 1], [0.2, 0.9, 0.8], 0.5, RowFacts(queries=["a", "b", "c"]))
    assert found["auc_interval"] is None and found["f1_interval"] is not None


def test_queries_of_another_length_are_refused():
    with pytest.raises(ValueError, match="queries: found 2 values for 3 rows"):
        scores_report([1, 1, 0], [0.2, 0.9, 0.8], 0.5, RowFacts(queries=["a", "b"]))


@given(st.integers(1, 200), st.floats(0, 1))
def test_an_interval_of_a_share_is_that_of_scipy(rows, share):
    part = round(share * rows)
    low, high = intervals.wilson_interval([part], [rows])
    expected = binomtest(part, rows).proportion_ci(method="wilson")
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_a_bin_counts_its_queries_and_not_its_rows():
    labels, scores = np.array([1, 0] * 20), np.full(40, 0.5)
    wide = measure_reliability(labels, scores, bins=1, queries=np.arange(40) // 10)
    narrow = measure_reliability(labels, scores, bins=1)
    assert wide["high"] - wide["low"] > 2 * (narrow["high"] - narrow["low"])


def test_macro_f1_is_the_mean_of_both_classes_in_every_draw():
    labels, scores, queries = made(30, 2)
    called, times = scores >= 0.5, intervals.draw_queries(queries)
    found = intervals.bootstrap_intervals(labels, scores, called, queries)["macro_f1_interval"]
    assert found == pytest.approx(intervals.percentile_interval(intervals.weighted_macro_f1(labels, called, times)))
