"""Noise of labels from repeated pairs: made noise is found again, and a perfect model reaches the ceiling."""

import numpy as np
import pytest

from product_relevance.evaluation.intervals import weighted_auc
from product_relevance.evaluation.reports.label_noise import auc_ceiling, error_rate, estimate_noise, noise_lines


def made(error: float, share: float, pairs: int, seed: int = 0):
    """True labels of pairs, and the labels of two copies of each that are wrong by chance."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(pairs) < share).astype(int)
    return truth, [np.where(rng.random(pairs) < error, 1 - truth, truth) for _ in range(2)]


@pytest.mark.parametrize("error", [0.0, 0.05, 0.15, 0.3])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.9])
def test_made_noise_and_its_ceiling_are_found(error, share):
    truth, (first, second) = made(error, share, 200_000)
    labels = np.concatenate([first, second]).tolist()
    pairs = [(i, i + len(truth)) for i in range(len(truth))]
    found = estimate_noise(labels, ["de"] * len(labels), pairs)
    assert [one.language for one in found] == ["all", "de"]
    assert found[0].error == pytest.approx(error, abs=0.01)
    reached = weighted_auc(np.array(labels), np.tile(truth, 2).astype(float), np.ones(len(labels)))
    assert found[0].ceiling == pytest.approx(reached, abs=0.02)
    low, high = found[0].error_interval
    assert low <= found[0].error <= high


def test_one_pair_in_four_is_an_error_of_one_in_seven():
    assert error_rate(0.25) == pytest.approx(0.1464, abs=1e-4)
    assert auc_ceiling(error_rate(0.25), 0.69) == pytest.approx(0.7939, abs=1e-4)
    assert error_rate(0.8) == 0.5 and auc_ceiling(0.5, 0.7) == 0.5 and auc_ceiling(0.0, 0.7) == 1.0


def test_each_two_of_three_copies_count_and_languages_stand_apart():
    labels = [1, 1, 0, 0, 0, 1, None]
    found = estimate_noise(labels, ["de", "de", "de", "en", "en", "fr", "fr"], [(0, 1, 2), (3, 4)])
    assert [(one.language, one.copies, one.disagreeing) for one in found] == [("all", 4, 2), ("de", 3, 2)]
    assert found[0].positive_share == 0.5 and found[1].positive_share == pytest.approx(2 / 3)


def test_no_repeated_pair_says_nothing():
    assert estimate_noise([1, 0], ["de", "de"], []) == []


def test_a_line_says_rate_and_ceiling_with_intervals():
    (line, _) = noise_lines(estimate_noise([1, 0] * 4 + [1] * 12, ["de"] * 20, [(i, i + 1) for i in range(0, 20, 2)]))
    assert (
        line.startswith("all 4 of 10 repeated pairs disagree: 27.6% of the labels wrong [") and "AUC at most" in line
    )
