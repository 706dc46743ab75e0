"""Calibration moves probabilities to what they mean and never the order of the scores."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from product_relevance.evaluation import calibration
from product_relevance.evaluation.reliability import measure_reliability

SCORE = st.floats(0, 1) | st.integers(0, 20).map(lambda i: i / 20)
ROWS = st.lists(st.tuples(st.integers(0, 1), SCORE), min_size=1, max_size=40)
METHOD = st.sampled_from(calibration.METHODS)
APART = 1e-9  # scores closer than this may be rounded to one probability


def made(rows: int, sharper: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels drawn from true probabilities, and scores whose logits are `sharper` times the true ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.5, 1.2, rows)
    return (rng.random(rows) < expit(logits)).astype(int), expit(sharper * logits), expit(logits)


@settings(deadline=None, max_examples=100)
@given(rows=ROWS, method=METHOD, scores=st.lists(SCORE, min_size=2, max_size=60))
def test_order_is_never_inverted_and_distinct_scores_stay_distinct(rows, method, scores):
    fitted = calibration.fit_calibration(method, *zip(*rows, strict=True))
    ordered = np.sort(np.array(scores))
    found = calibration.apply_calibration(fitted, ordered)
    assert found.min() >= 0 and found.max() <= 1
    assert (np.diff(found) >= -1e-15).all()
    # every pair, not neighbours only: a chain of close scores may be as long as one likes
    wide = ordered[:, None] - ordered[None, :] > APART
    assert (found[:, None] > found[None, :])[wide].all()


@pytest.mark.parametrize("method", calibration.METHODS)
def test_auc_is_the_same_before_and_after(method):
    labels, scores, _ = made(2000, 2.0)
    fitted = calibration.fit_calibration(method, *made(500, 2.0, seed=1)[:2])
    assert roc_auc_score(labels, calibration.apply_calibration(fitted, scores)) == roc_auc_score(labels, scores)


@pytest.mark.parametrize("sharper", [0.5, 1.0, 2.5])
def test_temperature_finds_by_how_much_logits_are_too_sharp(sharper):
    labels, scores, _ = made(20_000, sharper)
    assert calibration.fit_calibration("temperature", labels, scores)["temperature"] == pytest.approx(
        sharper, rel=0.05
    )


def test_temperature_divides_the_logit():
    found = calibration.apply_calibration({"method": "temperature", "temperature": 2.0}, [0.9])
    assert found[0] == pytest.approx(expit(np.log(9) / 2), abs=calibration.KEPT)


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_new_rows_are_better_calibrated_than_before(method):
    fitted = calibration.fit_calibration(method, *made(5000, 2.5)[:2])
    labels, scores, true = made(5000, 2.5, seed=1)
    found = calibration.apply_calibration(fitted, scores)
    assert measure_reliability(labels, found)["ece"] < 0.4 * measure_reliability(labels, scores)["ece"]
    assert np.abs(found - true).mean() < 0.3 * np.abs(scores - true).mean()


def test_isotonic_gives_no_probability_of_0_or_1_even_to_scores_that_divide_the_labels():
    labels, scores = np.repeat([0, 1], 20), np.linspace(0.1, 0.9, 40)
    found = calibration.apply_calibration(
        calibration.fit_calibration("isotonic", labels, scores), [0.0, 0.1, 0.9, 1.0]
    )
    assert found.min() > 0.01 and found.max() < 0.99


@settings(deadline=None, max_examples=60)
@given(rows=ROWS, method=METHOD, probability=st.floats(0, 1))
def test_inverse_is_the_lowest_score_that_reaches_the_probability(rows, method, probability):
    fitted = calibration.fit_calibration(method, *zip(*rows, strict=True))
    score = calibration.invert_calibration(fitted, probability)
    below, reached = calibration.apply_calibration(fitted, [max(score - 1e-7, 0), 1.0])
    assert 0 <= score <= 1
    if reached >= probability:
        assert calibration.apply_calibration(fitted, [score])[0] >= probability
    assert score < 1e-7 or below <= probability


@settings(deadline=None, max_examples=60)
@given(rows=ROWS, method=METHOD)
def test_a_calibration_is_plain_json_that_passes_its_check(rows, method):
    fitted = calibration.fit_calibration(method, *zip(*rows, strict=True))
    again = json.loads(json.dumps(fitted, allow_nan=False))
    calibration.check_calibration(again)
    assert again == fitted


@pytest.mark.parametrize(
    "bad",
    [
        None, {"method": "platt"}, {"method": "none", "temperature": 1.0}, {"method": "temperature"},
        {"method": "temperature", "temperature": 0.0}, {"method": "temperature", "temperature": float("nan")},
        {"method": "temperature", "temperature": True},
        {"method": "isotonic", "scores": [0.5, 0.1], "probabilities": [0.1, 0.9]},
        {"method": "isotonic", "scores": [0.1, 0.5], "probabilities": [0.9, 0.1]},
        {"method": "isotonic", "scores": [0.1], "probabilities": [0.1, 0.9]},
        {"method": "isotonic", "scores": [], "probabilities": []},
        {"method": "isotonic", "scores": [0.1, 1.5], "probabilities": [0.1, 0.9]},
        {"method": "isotonic", "scores": ["0.1"], "probabilities": [0.1]},
    ],
)  # fmt: skip
def test_a_calibration_with_a_defect_is_refused(bad):
    with pytest.raises(ValueError, match="calibration: "):
        calibration.check_calibration(bad)


def test_an_unknown_method_and_bad_scores_are_refused():
    with pytest.raises(ValueError, match="found 'platt', expected one of none, temperature, isotonic"):
        calibration.fit_calibration("platt", [0, 1], [0.1, 0.9])
    with pytest.raises(ValueError, match="expected probabilities"):
        calibration.fit_calibration("none", [0, 1], [-3.0, 3.0])
