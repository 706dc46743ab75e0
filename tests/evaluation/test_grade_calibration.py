"""The temperature of distributions: found again where it is known, better on other rows, and no grade changes."""

import numpy as np
import pandas as pd
import pytest

from product_relevance.evaluation import grade_calibration as calibration
from product_relevance.evaluation.probabilities import to_distribution


def too_sure(rows: int = 4000, factor: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Grades drawn from distributions, and those distributions with logits that are `factor` times too large."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, 4)) * 1.5
    true = to_distribution(logits)
    grades = (rng.random(rows)[:, None] > true.cumsum(axis=1)).sum(axis=1)
    return grades, to_distribution(logits * factor)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_the_temperature_is_the_factor_of_the_logits(factor):
    assert calibration.fit_temperature(*too_sure(factor=factor)) == pytest.approx(factor, rel=0.07)


def test_probabilities_are_better_on_rows_of_other_folds_and_the_likeliest_grade_stays():
    grades, shares = too_sure()
    oof = pd.DataFrame({"grade": grades} | {f"share_{k}": shares[:, k] for k in range(4)})
    found = calibration.calibrate_grades(oof, np.arange(len(oof)) % 3)
    before, after = found["figures"]
    assert after["log_loss"] < before["log_loss"] and after["ece"] < before["ece"] / 2
    sharper = calibration.apply_temperature(shares, found["temperature"])
    assert (sharper.argmax(axis=1) == shares.argmax(axis=1)).all() and np.allclose(sharper.sum(axis=1), 1)


def test_a_temperature_of_one_changes_nothing():
    _, shares = too_sure(50)
    assert np.allclose(calibration.apply_temperature(shares, 1.0), shares)


@pytest.mark.parametrize("found", [None, {}, {"temperature": 0}, {"temperature": "1"}, {"temperature": 1e9}])
def test_a_calibration_that_was_edited_is_an_error(found):
    with pytest.raises(ValueError, match="grade_calibration: found .* expected a temperature from"):
        calibration.check_grade_calibration(found)
