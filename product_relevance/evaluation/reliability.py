"""Scores held against the share of relevant rows: bins, their intervals, and the calibration error."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from product_relevance.evaluation.confusion import check_scores, divide_or_zero
from product_relevance.evaluation.intervals import wilson_interval

ECE_BINS = 15  # Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.1


def measure_reliability(
    labels: ArrayLike, scores: ArrayLike, bins: int = ECE_BINS, queries: ArrayLike | None = None
) -> dict[str, Any]:
    """Compare scores with the share of relevant rows, in bins of equal width.

    Args:
        labels: 0 or 1, shape (n,).
        scores: Probabilities, shape (n,).
        bins: Number of bins between 0 and 1.
        queries: Query of each row, any values, shape (n,); each row its own if None.

    Returns:
        "edges" (bins + 1,), "count", "score" (mean) and "positive" (share), each (bins,) and 0 in an empty bin;
        "low" and "high" (bins,), the share's 95% interval (Wilson 1927), which counts queries instead of rows, since
        rows of one query are not independent, and is 0 to 1 in an empty bin; and "ece", the expected calibration
        error: the mean of |positive - score| weighted by rows (Naeini et al. 2015; here on the positive class's
        probability).

    Raises:
        ValueError: Bad labels or scores.
    """
    labels, scores = check_scores(labels, scores, probability=True)
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    score = divide_or_zero(np.bincount(place, weights=scores, minlength=bins), count)
    positive = divide_or_zero(np.bincount(place, weights=labels, minlength=bins), count)
    ece = float(np.sum(count * np.abs(positive - score)) / len(labels))
    names = np.arange(len(labels)) if queries is None else np.unique(queries, return_inverse=True)[1]
    distinct = np.bincount(np.unique(np.stack([place, names]), axis=1)[0], minlength=bins)
    low, high = np.zeros(bins), np.ones(bins)
    low[count > 0], high[count > 0] = wilson_interval((positive * distinct)[count > 0], distinct[count > 0])
    return {
        "edges": edges, "count": count, "score": score, "positive": positive, "low": low, "high": high, "ece": ece,
    }  # fmt: skip
