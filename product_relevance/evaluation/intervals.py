"""Bootstrap over queries: how sure a figure is, and how sure it is that one model is better than another."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

DRAWS = 1000
FEWEST = 200  # draws, where rows are so many that 1,000 would take minutes
ROWS = 20_000_000  # rows of all draws together
BLOCK = 2_000_000  # rows of the draws that are in memory at a time
FEW_ROWS = 30  # figures of fewer rows are marked: there an interval, too, says little


def bootstrap_intervals(
    labels: np.ndarray, scores: np.ndarray, called: np.ndarray, queries: ArrayLike
) -> dict[str, list[float] | None]:
    """Give 95% intervals of F1, macro-F1 and AUC, by drawing whole queries with replacement.

    Args:
        labels: 0 or 1, shape (n,).
        scores: shape (n,).
        called: True where a row is called relevant, shape (n,).
        queries: query of each row, shape (n,), any values: rows of one query are not independent.

    Returns:
        f1_interval, macro_f1_interval, auc_interval: each [low, high], the percentiles of 1,000 draws (fewer, but at
        least 200, above 20,000 rows); auc_interval is None where one class is missing.
    """
    order, starts = _ranked(scores)
    positive = (labels == 1)[order].astype(np.float64)
    called = called[order].astype(np.float64)
    _, place = np.unique(np.asarray(queries)[order], return_inverse=True)
    # of each query: rows, relevant ones, called ones, both; so that a draw costs queries and not rows
    counts = np.stack([np.bincount(place, each) for each in (None, positive, called, positive * called)], axis=1)
    count = draw_count(len(labels))
    drawn = {"f1": np.empty(count), "macro_f1": np.empty(count), "auc": np.empty(count)}
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw may hold one class only
        for i, times in enumerate(_draws(len(counts), 0, count)):
            rows, relevant, yes, both = times @ counts
            drawn["f1"][i] = 2 * both / (yes + relevant)
            negative_f1 = 2 * (rows - yes - relevant + both) / (2 * rows - yes - relevant)
            drawn["macro_f1"][i] = (drawn["f1"][i] + negative_f1) / 2
            drawn["auc"][i] = _area(positive, starts, times[place])
    areas = drawn.pop("auc")
    areas = areas[np.isfinite(areas)]
    result = {f"{name}_interval": list(percentile_interval(np.nan_to_num(values))) for name, values in drawn.items()}
    return result | {"auc_interval": list(percentile_interval(areas)) if len(areas) else None}


def draw_count(rows: int) -> int:
    """Return how many draws an interval of so many rows is made of: 1,000, or fewer where they would take minutes."""
    return int(np.clip(ROWS // rows, FEWEST, DRAWS))


def wilson_interval(part: ArrayLike, whole: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Give 95% intervals of shares (Wilson 1927), which hold for few rows and for shares of 0 and 1, too.

    Args:
        part: how many have it, shape (n,), not necessarily whole numbers.
        whole: of how many, shape (n,), above 0.

    Returns:
        (low, high), each of shape (n,).
    """
    part, whole, z = np.asarray(part, dtype=float), np.asarray(whole, dtype=float), 1.959964
    share, spread = part / whole, z**2 / whole
    middle = (share + spread / 2) / (1 + spread)
    half = np.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return np.clip(middle - half, 0, share), np.clip(middle + half, share, 1)


def draw_queries(groups: np.ndarray, seed: int = 0, count: int = DRAWS) -> np.ndarray:
    """Draw whole queries with replacement (Efron and Tibshirani 1993, chapter 8: what is drawn must be independent).

    Args:
        groups: query of each row, shape (n,), any values.
        seed: of the draws, which all rows of a study share: differences are paired.
        count: draws.

    Returns:
        How often each row counts, int array of shape (count, n).
    """
    return np.concatenate([*query_draws(groups, seed, count)])


def query_draws(groups: np.ndarray, seed: int = 0, count: int = DRAWS) -> Iterator[np.ndarray]:
    """Yield the draws of `draw_queries` in blocks that fit in memory, int arrays of shape (some draws, n)."""
    _, place = np.unique(groups, return_inverse=True)
    size, block = max(1, BLOCK // len(place)), []
    for times in _draws(place.max() + 1, seed, count):
        block.append(times[place])
        if len(block) == size:
            yield np.stack(block)
            block = []
    if block:
        yield np.stack(block)


def _draws(size: int, seed: int, count: int) -> Iterator[np.ndarray]:
    """Yield how often each of `size` queries is drawn, (size,), one draw at a time: all would not fit in memory."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield np.bincount(rng.integers(0, size, size), minlength=size)


def weighted_auc(labels: np.ndarray, scores: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve where row i counts `times[..., i]` times; equal scores count half.

    Args:
        labels: 0 or 1, shape (n,).
        scores: shape (n,).
        times: shape (..., n).

    Returns:
        Areas, shape (...); NaN where a draw has rows of one label only.
    """
    order, starts = _ranked(scores)
    with np.errstate(invalid="ignore"):
        return _area((labels == 1)[order].astype(float), starts, times[..., order])


def _ranked(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of scores and, in that order, where each distinct one begins."""
    order = np.argsort(scores)
    return order, np.unique(scores[order], return_index=True)[1]


def _area(positive: np.ndarray, starts: np.ndarray, times: np.ndarray) -> np.ndarray:
    above = times * positive
    below = times - above
    if len(starts) < len(positive):  # equal scores
        above, below = (np.add.reduceat(side, starts, axis=-1) for side in (above, below))
    under = np.cumsum(below, axis=-1) - below / 2
    area: np.ndarray = (above * under).sum(axis=-1) / (above.sum(axis=-1) * below.sum(axis=-1))
    return area


def weighted_f1(labels: np.ndarray, called: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the F1 of the positive class where row i counts `times[..., i]` times, shape (...)."""
    value: np.ndarray = 2 * (times @ ((labels == 1) & called)) / (times @ called + times @ (labels == 1))
    return value


def weighted_macro_f1(labels: np.ndarray, called: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the mean of both classes' F1 where row i counts `times[..., i]` times, shape (...)."""
    value: np.ndarray = (weighted_f1(labels, called, times) + weighted_f1(1 - labels, ~called, times)) / 2
    return value


def percentile_interval(differences: np.ndarray, share: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of bootstrap differences, shape (draws,)."""
    low, high = np.quantile(differences, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
