"""Paired bootstrap over queries: how sure it is that one row of a study is better than another."""

import numpy as np

DRAWS = 1000


def draws(groups: np.ndarray, seed: int = 0, count: int = DRAWS) -> np.ndarray:
    """Draw whole queries with replacement (Efron and Tibshirani 1993, chapter 8: what is drawn must be independent).

    Args:
        groups: query of each row, shape (n,), any values.
        seed: of the draws, which all rows of a study share: differences are paired.
        count: draws.

    Returns:
        How often each row counts, int array of shape (count, n).
    """
    _, place = np.unique(groups, return_inverse=True)
    size, rng = place.max() + 1, np.random.default_rng(seed)
    return np.stack([np.bincount(rng.integers(0, size, size), minlength=size)[place] for _ in range(count)])


def auc(labels: np.ndarray, scores: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve where row i counts `times[..., i]` times; equal scores count half.

    Args:
        labels: 0 or 1, shape (n,).
        scores: shape (n,).
        times: shape (..., n).

    Returns:
        Areas, shape (...); NaN where a draw has rows of one label only.
    """
    order = np.argsort(scores)
    _, starts = np.unique(scores[order], return_index=True)
    sums = [
        np.add.reduceat(times[..., order] * side, starts, axis=-1) for side in (labels[order] == 1, labels[order] == 0)
    ]
    positive, negative = (side.astype(float) for side in sums)
    below = np.cumsum(negative, axis=-1) - negative / 2
    with np.errstate(invalid="ignore"):
        return (positive * below).sum(axis=-1) / (positive.sum(axis=-1) * negative.sum(axis=-1))


def f1(labels: np.ndarray, called: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the F1 of the positive class where row i counts `times[..., i]` times, shape (...)."""
    return 2 * (times @ ((labels == 1) & called)) / (times @ called + times @ (labels == 1))


def macro_f1(labels: np.ndarray, called: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the mean of both classes' F1 where row i counts `times[..., i]` times, shape (...)."""
    return (f1(labels, called, times) + f1(1 - labels, ~called, times)) / 2


def interval(differences: np.ndarray, share: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of bootstrap differences, shape (draws,)."""
    low, high = np.quantile(differences, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
