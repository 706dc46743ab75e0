"""Turn logits into probabilities of the labels, and those of grades into one score."""

import numpy as np
from numpy.typing import ArrayLike

from product_relevance.evaluation.confusion import require_finite


def to_probabilities(logits: ArrayLike) -> np.ndarray:
    """Turn the two logits of each pair into its probability of relevance, or those of K grades into its score.

    Args:
        logits: Irrelevant and relevant, shape (n, 2); or of each grade, shape (n, K).

    Returns:
        Of two logits the softmax of the second; of more the expected grade divided by K - 1. float64, shape (n,).

    Raises:
        ValueError: Another shape, or a logit that is not finite.
    """
    return compute_expected_grade(to_distribution(logits))


def to_distribution(logits: ArrayLike) -> np.ndarray:
    """Turn the logits of each pair into the probabilities of its K labels, their softmax.

    Args:
        logits: Shape (n, K), K at least 2.

    Returns:
        float64, shape (n, K); each row sums to 1.

    Raises:
        ValueError: Another shape, or a logit that is not finite.
    """
    logits = np.asarray(logits, dtype=np.float64)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(f"logits: found shape {logits.shape}, expected (n, 2), or (n, K) of K grades")
    require_finite(logits, "logits")
    shifted: np.ndarray = np.exp(logits - logits.max(axis=1, keepdims=True))  # the largest exponent is 0: no overflow
    found: np.ndarray = shifted / shifted.sum(axis=1, keepdims=True)
    return found


def compute_expected_grade(shares: np.ndarray) -> np.ndarray:
    """Return the expected grade of distributions, as a score from 0 to 1.

    It is linear: the mean of the folds' scores is the score of the mean of their distributions.

    Args:
        shares: Probabilities of K labels, shape (..., K).

    Returns:
        Expected grade divided by K - 1, shape (...); of two labels the probability of the second.
    """
    if shares.shape[-1] == 2:
        return shares[..., 1].copy()  # rows that lie side by side are summed as they always were
    best = shares.shape[-1] - 1
    # One operation per column, in order: a matrix product would round otherwise for other numbers of rows.
    total = sum((grade / best * shares[..., grade] for grade in range(1, best + 1)), np.zeros(shares.shape[:-1]))
    return np.minimum(total, 1.0)
