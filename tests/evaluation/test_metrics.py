"""The cut search is exact, the numbers are scikit-learn's, and bad input is refused."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from product_relevance.evaluation import metrics
from product_relevance.evaluation.metrics import (
    RowFacts,
    best_threshold,
    compute_metrics,
    measure_floor,
    measure_reliability,
    scores_report,
)
from product_relevance.evaluation.probabilities import to_probabilities

GRID = st.integers(0, 20).map(lambda i: i / 20)  # few values, so that ties are common
ANY = st.floats(0, 1, allow_subnormal=True)
PAIRS = st.lists(st.tuples(st.integers(0, 1), GRID | ANY), min_size=1, max_size=40)


def f1_at(labels, scores, cut, metric="f1"):
    called = (np.asarray(scores) >= cut).astype(int)
    if metric == "f1":
        return f1_score(labels, called, zero_division=0)
    return f1_score(labels, called, average="macro", labels=[0, 1], zero_division=0)


def sample(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < 0.65).astype(int)
    scores = 1 / (1 + np.exp(-(rng.normal(size=rows) + labels)))
    return labels, scores, rng.choice(["en", "es", "de"], rows)


@pytest.mark.parametrize("metric", ["f1", "macro_f1"])
@settings(deadline=None, max_examples=60)
@given(pairs=PAIRS)
def test_best_threshold_finds_what_trying_every_cut_finds(metric, pairs):
    labels, scores = map(np.array, zip(*pairs, strict=True))
    cut, value = best_threshold(labels, scores, metric)
    every = [*np.unique(scores), np.inf]
    assert value == pytest.approx(max(f1_at(labels, scores, c, metric) for c in every), abs=1e-12)
    assert value == pytest.approx(f1_at(labels, scores, cut, metric), abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(pairs=PAIRS)
def test_a_monotone_transform_of_the_scores_changes_neither_auc_nor_best_f1(pairs):
    # Rounded first: a transform may merge two scores that differ in the last bit only.
    labels, scores = np.array([p[0] for p in pairs]), np.round([p[1] for p in pairs], 3)
    before, after = (scores_report(labels, s, 0.5)["auc"] for s in (scores, scores**2 / 2 + scores / 3))
    assert before == (None if after is None else pytest.approx(after))
    assert best_threshold(labels, scores)[1] == best_threshold(labels, np.exp(3 * scores) - 7)[1]


def test_the_order_of_rows_does_not_matter():
    labels, scores, languages = sample()
    turn = np.random.default_rng(1).permutation(len(labels))
    assert best_threshold(labels, scores) == best_threshold(labels[turn], scores[turn])
    one = scores_report(labels, scores, 0.5, RowFacts(languages, ["en"]))
    other = scores_report(labels[turn], scores[turn], 0.5, RowFacts(languages[turn], ["en"]))
    assert one["by_language"] == other["by_language"] and one["unseen"] == other["unseen"]


def test_a_cut_lies_halfway_between_neighbouring_scores():
    assert best_threshold([0, 0, 1, 1], [0.1, 0.3, 0.5, 0.9]) == (0.4, 1.0)


def test_neighbouring_floats_are_still_divided():
    low = 0.3
    high = np.nextafter(low, 1)
    cut, value = best_threshold([0, 1], [low, high])
    assert value == 1 and low < cut <= high


def test_of_equally_good_cuts_the_one_nearest_to_half_is_taken():
    assert best_threshold([0, 0, 0], [0.2, 0.4, 0.6], "macro_f1")[1] == 0.5  # calling none relevant
    assert best_threshold([0, 0], [0.2, 0.6], "f1") == (pytest.approx(0.4), 0.0)  # every cut has F1 0


def test_scores_of_one_can_still_all_be_called_irrelevant():
    assert best_threshold([0, 0], [1.0, 1.0], "macro_f1")[0] > 1


@pytest.mark.parametrize("share", [0.0, 0.25, 0.69, 1.0])
def test_the_floor_is_the_f1_of_calling_everything_relevant(share):
    labels = np.arange(100) < 100 * share
    assert measure_floor(labels)["f1"] == pytest.approx(2 * share / (1 + share))
    assert measure_floor(labels)["f1"] == pytest.approx(f1_at(labels, np.ones(100), 0))
    assert measure_floor(labels)["macro_f1"] == pytest.approx(f1_at(labels, np.ones(100), 0, "macro_f1"))


def test_a_calibrated_score_is_best_cut_at_half_its_f1():
    rng = np.random.default_rng(0)
    scores = rng.beta(2, 1.2, 200_000)
    cut, f1 = best_threshold(rng.random(len(scores)) < scores, scores)
    assert cut == pytest.approx(metrics.expected_f1_threshold(f1), abs=0.02)


def test_the_report_gives_the_numbers_of_scikit_learn():
    labels, scores, _ = sample()
    report, called = scores_report(labels, scores, 0.6), scores >= 0.6
    assert report["f1"] == pytest.approx(f1_score(labels, called))
    assert report["precision"] == pytest.approx(precision_score(labels, called))
    assert report["recall"] == pytest.approx(recall_score(labels, called))
    assert report["macro_f1"] == pytest.approx(f1_score(labels, called, average="macro"))
    assert report["auc"] == pytest.approx(roc_auc_score(labels, scores))
    assert report["accuracy"] == pytest.approx((labels == called).mean())


def test_languages_are_measured_as_if_they_stood_alone():
    labels, scores, languages = sample()
    report = scores_report(labels, scores, 0.55, RowFacts(languages, ["en", "es"]))
    alone = scores_report(labels[languages == "de"], scores[languages == "de"], 0.55)
    german = report["by_language"]["de"]
    assert german.pop("seen") is False
    assert german == {key: alone[key] for key in german} == report["unseen"]
    assert report["seen"]["rows"] + report["unseen"]["rows"] == len(labels)


def test_groups_without_rows_are_left_out():
    assert "unseen" not in scores_report([0, 1], [0.2, 0.8], 0.5, RowFacts(["en", "en"], ["en"]))
    assert "seen" not in scores_report([0, 1], [0.2, 0.8], 0.5, RowFacts(["de", "de"], []))


def test_a_language_with_one_class_has_no_auc_and_the_report_is_json():
    report = scores_report([1, 1, 0], [0.0, 1.0, 1.0], 0.5, RowFacts(["id", "id", "en"], ["en"]))
    assert report["by_language"]["id"]["auc"] is None and report["by_language"]["en"]["f1"] == 0
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_calibrated_scores_have_a_small_error_and_inverted_ones_a_large_one():
    rng = np.random.default_rng(0)
    scores = rng.random(50_000)
    labels = rng.random(len(scores)) < scores
    assert measure_reliability(labels, scores)["ece"] < 0.02 < 0.4 < measure_reliability(labels, 1 - scores)["ece"]
    assert measure_reliability(labels, scores)["count"].sum() == len(scores)


def test_the_curve_passes_through_the_report():
    labels, scores, _ = sample()
    curve = metrics.threshold_curve(labels, scores, 11)
    assert curve["f1"][6] == scores_report(labels, scores, curve["threshold"][6])["f1"]
    assert curve["predicted"][0] == 1 and curve["f1"][0] == pytest.approx(measure_floor(labels)["f1"])


def test_probabilities_are_a_softmax_that_does_not_overflow():
    logits = np.array([[0.0, 0.0], [1.0, 3.0], [-1e4, 1e4], [1e4, -1e4]], dtype=np.float32)
    assert to_probabilities(logits) == pytest.approx([0.5, 1 / (1 + np.exp(-2)), 1, 0])


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x, "hidden states")])
def test_the_trainer_gets_f1_at_its_best_cut(wrap):
    labels, scores, _ = sample()
    logits = np.stack([np.zeros(len(scores)), np.log(scores / (1 - scores))], axis=1)
    found = compute_metrics(SimpleNamespace(predictions=wrap(logits), label_ids=labels))
    assert found["f1"] == best_threshold(labels, scores)[1] >= found["f1_at_half"]
    assert found["f1_at_half"] == pytest.approx(f1_at(labels, scores, 0.5))
    assert found["macro_f1"] == best_threshold(labels, scores, "macro_f1")[1]
    assert found["auc"] == pytest.approx(roc_auc_score(labels, scores))


def test_the_trainer_gets_no_auc_when_there_is_one_class_only():
    assert "auc" not in compute_metrics(SimpleNamespace(predictions=np.zeros((3, 2)), label_ids=[1, 1, 1]))


def test_the_evaluate_module_gives_the_numbers_of_the_functions(monkeypatch):
    pytest.importorskip("evaluate")
    labels, scores, languages = sample()
    facts = RowFacts(languages.tolist(), ["en"])
    direct = scores_report(labels, scores, 0.61, facts)
    assert metrics.final_report(labels, scores, 0.61, facts) == direct
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    assert metrics.final_report(labels, scores, 0.61, facts) == direct


def test_the_evaluate_module_without_a_threshold_uses_the_best_one():
    pytest.importorskip("evaluate")
    labels, scores, _ = sample()
    found = metrics.load_metric().compute(predictions=scores, references=labels)
    assert (found["threshold"], found["f1"]) == best_threshold(labels, scores)


@pytest.mark.parametrize(
    ("labels", "scores", "words"),
    [
        ([0, 1], [0.1, float("nan")], "scores: row 1 has nan"),
        ([0, 1], [0.1, float("inf")], "scores: row 1 has inf"),
        ([0, 2], [0.1, 0.2], "labels: row 1 has 2, expected 0 or 1"),
        ([0, None], [0.1, 0.2], "labels: row 1 has nan"),
        ([0, 1], [0.1], "found 1 for 2 labels"),
        ([], [], "at least one row"),
        ([[0, 1]], [[0.1, 0.2]], "expected \\(n,\\)"),
        (["yes"], [0.1], "expected numbers"),
    ],
)
def test_bad_input_is_refused_with_its_place(labels, scores, words):
    for measure in (best_threshold, measure_reliability, lambda x, y: scores_report(x, y, 0.5)):
        with pytest.raises(ValueError, match=words):
            measure(labels, scores)


def test_logits_are_not_taken_for_probabilities():
    with pytest.raises(ValueError, match="pass logits through a softmax"):
        scores_report([0, 1], [-2.0, 3.0], 0.5)
    with pytest.raises(ValueError, match=r"expected \(n, 2\)"):
        to_probabilities(np.zeros((3, 1)))
    with pytest.raises(ValueError, match="logits: row 1 has nan"):
        to_probabilities([[0.0, 1.0], [0.0, float("nan")]])


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="expected 'f1' or 'macro_f1'"):
        best_threshold([0, 1], [0.1, 0.2], "auc")
    with pytest.raises(ValueError, match="found 1 values for 2 rows"):
        scores_report([0, 1], [0.1, 0.2], 0.5, RowFacts(["en"]))
    with pytest.raises(ValueError, match="seen_languages: given without languages"):
        scores_report([0, 1], [0.1, 0.2], 0.5, RowFacts(seen_languages=["en"]))
    with pytest.raises(ValueError, match="threshold: found nan"):
        scores_report([0, 1], [0.1, 0.2], float("nan"))
    with pytest.raises(ValueError, match="from 0 to 1"):
        metrics.expected_f1_threshold(1.2)


def test_metrics_need_no_torch():
    import subprocess

    code = "import sys, product_relevance.evaluation.reports.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_cut_for_each_row_counts_what_that_row_is_called():
    labels, scores, languages = sample()
    cuts = np.select([languages == "en", languages == "es"], [0.3, 0.5], 0.8)
    found = scores_report(labels, scores, 0.4, RowFacts(languages, ["en"], row_thresholds=cuts))
    assert found["f1"] == pytest.approx(f1_score(labels, scores >= cuts)) and found["threshold"] == 0.4
    for code, cut in (("en", 0.3), ("es", 0.5), ("de", 0.8)):
        rows = languages == code
        assert found["by_language"][code]["f1"] == pytest.approx(f1_at(labels[rows], scores[rows], cut))
    same = scores_report(labels, scores, 0.4, RowFacts(languages, ["en"], row_thresholds=np.full(len(labels), 0.4)))
    assert same == scores_report(labels, scores, 0.4, RowFacts(languages, ["en"]))
    assert metrics.final_report(labels, scores, 0.4, RowFacts(row_thresholds=cuts))["f1"] == found["f1"]
