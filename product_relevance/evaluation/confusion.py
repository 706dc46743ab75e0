"""Check labels and scores, and count what each threshold between them gets right.

A score is the probability of relevance; a pair is called relevant when its score >= the threshold.
"""

import numpy as np
from numpy.typing import ArrayLike


def measure_thresholds(labels: np.ndarray, scores: np.ndarray, thresholds: ArrayLike) -> dict[str, np.ndarray]:
    """Measure many thresholds from one sort.

    Args:
        labels: 0 or 1, shape (n,).
        scores: Shape (n,).
        thresholds: Shape (m,).

    Returns:
        "precision", "recall", "f1", "macro_f1", "accuracy" and "predicted" (the share of rows called relevant),
        each of shape (m,). A ratio without a denominator is 0, as scikit-learn has it.
    """
    order = np.argsort(scores)
    below = np.searchsorted(scores[order], thresholds, side="left")  # rows called irrelevant
    positive_below = np.concatenate([[0], np.cumsum(labels[order])])[below]
    rows, positives = len(labels), labels.sum()
    above, true_positive, true_negative = rows - below, positives - positive_below, below - positive_below
    f1 = divide_or_zero(2 * true_positive, above + positives)
    negative_f1 = divide_or_zero(2 * true_negative, below + rows - positives)
    return {
        "precision": divide_or_zero(true_positive, above),
        "recall": divide_or_zero(true_positive, np.full_like(above, positives)),
        "f1": f1,
        "macro_f1": (f1 + negative_f1) / 2,
        "accuracy": (true_positive + true_negative) / rows,
        "predicted": above / rows,
    }


def possible_thresholds(scores: np.ndarray) -> np.ndarray:
    """List one threshold for every way in which scores can be divided.

    Args:
        scores: Finite, shape (n,).

    Returns:
        Ascending, shape (distinct scores + 1,): from below the lowest score to above the highest. Each lies
        halfway between its neighbours; the outermost halfway to 0 and to 1.
    """
    distinct = np.unique(scores)
    lower = np.concatenate([[min(0.0, distinct[0])], distinct])
    upper = np.concatenate([distinct, [max(1.0, np.nextafter(distinct[-1], np.inf))]])
    middle = lower / 2 + upper / 2
    # Between two neighbouring floats the middle rounds to one of them; only the upper one still divides the rows.
    return np.where(middle > lower, middle, upper)


def divide_or_zero(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide element by element, giving 0 where there is nothing to divide by."""
    divided: np.ndarray = np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)
    return divided


def check_scores(labels: ArrayLike, scores: ArrayLike, probability: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Turn labels and scores into arrays fit for measuring.

    Args:
        labels: 0 or 1, shape (n,).
        scores: Shape (n,).
        probability: Whether scores must lie in 0..1.

    Returns:
        Labels as int64 and scores as float64, both (n,).

    Raises:
        ValueError: Empty or unequal shapes, a label outside 0/1, or a score that is not finite or no probability.
    """
    labels, scores = check_labels(labels), _vector(scores, "scores")
    if labels.shape != scores.shape:
        raise ValueError(f"scores: found {len(scores)} for {len(labels)} labels, expected one per row")
    require_finite(scores, "scores")
    if probability and (scores.min() < 0 or scores.max() > 1):
        found = f"values from {scores.min():g} to {scores.max():g}"
        raise ValueError(f"scores: found {found}, expected probabilities from 0 to 1: pass logits through a softmax")
    return labels, scores


def check_labels(labels: ArrayLike) -> np.ndarray:
    """Turn labels into an int64 array (n,), or raise ValueError at the first that is not 0 or 1."""
    labels = _vector(labels, "labels")
    bad = np.flatnonzero(~np.isin(labels, (0, 1)))
    if len(bad):
        raise ValueError(f"labels: row {bad[0]} has {labels[bad[0]]:g}, expected 0 or 1 ({len(bad)} such rows)")
    return labels.astype(np.int64)


def _vector(values: ArrayLike, name: str) -> np.ndarray:
    try:
        vector = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected numbers, one per row ({error})") from error
    if vector.ndim != 1 or not len(vector):
        raise ValueError(f"{name}: found shape {vector.shape}, expected (n,) with at least one row")
    return vector


def require_finite(values: np.ndarray, name: str) -> None:
    """Raise ValueError at the first row with NaN or an infinity."""
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        found = values[tuple(bad[0])]
        raise ValueError(f"{name}: row {bad[0][0]} has {found}, expected finite numbers ({len(bad)} such values)")
