"""Cuts by language lie between their own and the global one; a spread maps cuts there and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from product_relevance.evaluation import calibration, decision_rule, thresholds
from product_relevance.evaluation.confusion import measure_thresholds
from product_relevance.evaluation.decision_rule import DecisionRule
from product_relevance.evaluation.metrics import best_threshold, expected_f1_threshold
from product_relevance.evaluation.thresholds import DecisionOptions

CUT = st.floats(0.001, 0.999)


@pytest.fixture(scope="module")
def rows():
    """Languages whose scores are off by a constant logit each; de and id have few rows, id but one class."""
    rng = np.random.default_rng(0)
    codes = rng.choice(["en", "es", "de"], 3000, p=[0.6, 0.37, 0.03])
    logits = rng.normal(0.6, 1.3, 3000)
    labels = (rng.random(3000) < expit(logits)).astype(int)
    shift = np.select([codes == "en", codes == "es"], [1.0, -1.0], 0.0)
    labels, scores = np.append(labels, [1, 1]), np.append(expit(logits + shift), [0.4, 0.6])
    return labels, scores, [*codes, "id", "id"]


@given(own=CUT, whole=CUT, rows=st.integers(1, 100_000), shrinkage=st.floats(0, 1e6))
def test_a_shrunk_cut_lies_between_its_own_and_the_global_one(own, whole, rows, shrinkage):
    found = thresholds.shrink_threshold(own, whole, rows, shrinkage)
    assert min(own, whole) - 1e-9 <= found <= max(own, whole) + 1e-9
    assert thresholds.shrink_threshold(own, whole, rows, 0) == own
    assert thresholds.shrink_threshold(own, whole, rows, 1e15) == pytest.approx(whole, abs=1e-6)
    assert thresholds.shrink_threshold(own, whole, 0, shrinkage) == pytest.approx(whole)


@given(own=CUT, whole=CUT, rows=st.integers(1, 10_000))
def test_as_many_rows_as_the_shrinkage_meet_in_the_middle_of_the_logits(own, whole, rows):
    found = thresholds.shrink_threshold(own, whole, rows, rows)
    assert calibration.to_logit(found) == pytest.approx(
        (calibration.to_logit(own) + calibration.to_logit(whole)) / 2, abs=1e-6
    )


def test_without_shrinkage_a_language_has_the_cut_of_its_own_rows(rows):
    labels, scores, codes = rows
    found = thresholds.fit_decision(labels, scores, codes, DecisionOptions("none", "language", 0))
    for code in ("en", "es", "de"):
        own = np.array(codes) == code
        for kind in ("f1", "macro_f1"):
            assert found["languages"][code][kind] == best_threshold(labels[own], scores[own], kind)[0]


def test_with_endless_shrinkage_every_language_has_the_global_cut(rows):
    found = thresholds.fit_decision(*rows, DecisionOptions("none", "language", 1e12))
    for cuts in found["languages"].values():
        assert cuts == pytest.approx(found["thresholds"], abs=1e-6)


def test_languages_without_rows_or_with_one_class_get_the_global_cut(rows):
    found = thresholds.fit_decision(*rows, DecisionOptions("none", "language", 10))
    assert set(found["languages"]) == {"en", "es", "de"}
    cuts = DecisionRule.from_json(found).row_thresholds(["pl", "id", None, "en"])
    assert (cuts[:3] == found["thresholds"]["f1"]).all() and cuts[3] != cuts[0]


def test_cuts_by_language_undo_what_is_off_by_language(rows):
    labels, scores, codes = rows
    called = {}
    for by in thresholds.BY:
        decision = thresholds.fit_decision(labels, scores, codes, DecisionOptions("none", by, 100))
        called[by] = (scores >= DecisionRule.from_json(decision).row_thresholds(codes, "macro_f1")).astype(float)
    one, own = (measure_thresholds(labels, called[by], [0.5])["macro_f1"][0] for by in thresholds.BY)
    assert own > one + 0.01


@pytest.mark.parametrize("method", calibration.METHODS)
def test_calibration_leaves_searched_cuts_and_takes_the_expected_one_back_to_the_score(rows, method):
    labels, scores, codes = rows
    found = thresholds.fit_decision(labels, scores, codes, DecisionOptions(method))
    assert found["thresholds"]["f1"] == best_threshold(labels, scores)[0]
    half = expected_f1_threshold(best_threshold(labels, scores)[1])
    probabilities = calibration.apply_calibration(found["calibration"], scores)
    called = scores >= found["thresholds"]["expected_f1"]
    assert (called == (probabilities >= half)).mean() > 0.999


def test_the_expected_cut_of_calibrated_scores_is_about_the_searched_one():
    rng = np.random.default_rng(0)
    logits = rng.normal(0.5, 1.5, 40_000)
    labels, scores = (rng.random(40_000) < expit(logits)).astype(int), expit(2 * logits)
    found = thresholds.fit_decision(labels, scores, ["en"] * len(labels), DecisionOptions("temperature"))["thresholds"]
    f1 = measure_thresholds(labels, scores, [found["f1"], found["expected_f1"]])["f1"]
    assert f1[0] - 0.001 < f1[1] <= f1[0]


@given(slope=st.floats(0.2, 5), offset=st.floats(-2, 2), cut=st.floats(0.02, 0.98))
def test_a_cut_moved_to_the_mean_stretches_back_to_itself(slope, offset, cut):
    spread = {"slope": slope, "offset": offset}
    moved = decision_rule.narrow_threshold(spread, cut)
    if 1e-8 < moved < 1 - 1e-8:
        assert decision_rule.stretch_scores(spread, [moved])[0] == pytest.approx(cut, abs=1e-6)


def test_the_spread_makes_the_mean_of_models_as_wide_as_a_model():
    rng = np.random.default_rng(0)
    common = rng.normal(0.5, 1, (5000, 1))
    folds = expit(common + rng.normal(0, 0.8, (5000, 3)))
    spread = thresholds.fit_spread(folds.mean(axis=1), folds)
    assert spread["slope"] > 1.1
    wide = calibration.to_logit(decision_rule.stretch_scores(spread, folds.mean(axis=1)))
    assert wide.std() == pytest.approx(calibration.to_logit(folds).std(), rel=1e-6)
    assert wide.mean() == pytest.approx(calibration.to_logit(folds).mean(), abs=1e-6)


def test_a_spread_may_give_the_mean_the_place_of_other_scores():
    rng = np.random.default_rng(0)
    mean, reference = expit(rng.normal(-1, 0.5, 400)), expit(rng.normal(1, 2, 900))
    wide = calibration.to_logit(decision_rule.stretch_scores(thresholds.fit_spread(mean, reference), mean))
    known = calibration.to_logit(reference)
    assert (wide.mean(), wide.std()) == (pytest.approx(known.mean()), pytest.approx(known.std()))


@settings(deadline=None)
@given(st.integers(1, 5))
def test_models_that_agree_have_no_spread_to_mend(folds):
    column = np.linspace(0.1, 0.9, 50)[:, None]
    spread = thresholds.fit_spread(column[:, 0], np.repeat(column, folds, axis=1))
    assert spread["slope"] == pytest.approx(1) and spread["offset"] == pytest.approx(0, abs=1e-9)


def test_a_moved_decision_calls_relevant_on_the_mean_what_it_would_on_stretched_scores(rows):
    decision = thresholds.fit_decision(*rows, DecisionOptions("isotonic", "language", 50)) | {"spread": None}
    spread = {"slope": 1.3, "offset": -0.1}
    moved, scores = thresholds.move_to_mean(decision, spread), np.linspace(0.05, 0.95, 200)
    for code in ("en", "de", "pl"):
        one = scores >= DecisionRule.from_json(moved).row_thresholds([code] * 200)
        other = decision_rule.stretch_scores(spread, scores) >= DecisionRule.from_json(decision).row_thresholds(
            [code] * 200
        )
        assert (one == other).all()
    assert (np.diff(DecisionRule.from_json(moved).calibrate(scores)) > 0).all()


def test_a_run_without_a_decision_has_its_own_cuts_and_scores():
    found = DecisionRule({"f1": 0.3, "macro_f1": 0.6})
    assert found.row_thresholds(["en", "pl"], "macro_f1").tolist() == [0.6, 0.6]
    assert found.calibrate([0.2, 0.7]).tolist() == [0.2, 0.7]


CUTS = {"f1": 0.3, "macro_f1": 0.6, "expected_f1": 0.4}
GOOD = {"calibration": {"method": "none"}, "thresholds": CUTS, "languages": {"en": CUTS}, "shrinkage": 10.0}
GOOD |= {
    "spread": {"slope": 1.2, "offset": 0.0, "match": "folds", "rows": 9, "source": "x"},
    "from": "9 rows",
    "figures": [],
}


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1}, {"thresholds": {"f1": 0.3}}, {"thresholds": CUTS | {"f1": 1.2}}, {"languages": None},
        {"languages": {"en": {"f1": 0.3}}}, {"calibration": {}}, {"spread": {"slope": 1.2}},
        {"spread": GOOD["spread"] | {"slope": -1.0}}, {"spread": GOOD["spread"] | {"offset": float("inf")}},
        {"thresholds": CUTS | {"f1": float("nan")}},
    ],
)  # fmt: skip
def test_a_decision_with_a_defect_is_refused(change):
    decision_rule.check_decision(GOOD)
    with pytest.raises(ValueError, match="decision|calibration"):
        decision_rule.check_decision(GOOD | change)


def test_bad_choices_are_refused(rows):
    with pytest.raises(ValueError, match="threshold_by: found 'task'"):
        thresholds.fit_decision(*rows, DecisionOptions("none", "task"))
    with pytest.raises(ValueError, match="shrinkage: found -1"):
        thresholds.fit_decision(*rows, DecisionOptions("none", "language", -1))
    with pytest.raises(ValueError, match="languages: found 1 values for 3002 rows"):
        thresholds.fit_decision(*rows[:2], ["en"], DecisionOptions("none", "language"))
    with pytest.raises(ValueError, match="scores that differ"):
        thresholds.fit_spread(np.full(4, 0.5), np.full((4, 3), 0.5))
