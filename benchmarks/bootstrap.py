"""Paired bootstrap over queries: how sure it is that one row of a study is better than another."""

import numpy as np
from sklearn.metrics import roc_auc_score

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


def auc(labels: np.ndarray, scores: np.ndarray, times: np.ndarray) -> float:
    """Return the area under the ROC curve where row i counts `times[i]` times."""
    return float(roc_auc_score(labels, scores, sample_weight=times))


def f1(labels: np.ndarray, called: np.ndarray, times: np.ndarray) -> float:
    """Return the F1 of the positive class where row i counts `times[i]` times."""
    hit = times[(labels == 1) & called].sum()
    return float(2 * hit / (times[called].sum() + times[labels == 1].sum()))


def macro_f1(labels: np.ndarray, called: np.ndarray, times: np.ndarray) -> float:
    """Return the mean of both classes' F1 where row i counts `times[i]` times."""
    return (f1(labels, called, times) + f1(1 - labels, ~called, times)) / 2


def interval(differences: np.ndarray, share: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of bootstrap differences, shape (draws,)."""
    low, high = np.quantile(differences, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
