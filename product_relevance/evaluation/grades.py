"""Graded labels: thresholds between the grades, and how well scores separate the grades."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from product_relevance.evaluation.confusion import divide_or_zero
from product_relevance.evaluation.intervals import DRAWS, FEWEST, ROWS, draw_queries, percentile_interval

CANDIDATES = 200  # thresholds that are tried between two neighbours: quantiles of the scores
ROUNDS = 10


def name_shares(shares: np.ndarray) -> dict[str, np.ndarray]:
    """Name the columns of distributions, shape (n, K): `share_0` to `share_K-1`."""
    return {f"share_{grade}": shares[:, grade] for grade in range(shares.shape[1])}


def decide_grades(scores: ArrayLike, thresholds: ArrayLike) -> np.ndarray:
    """Return the grade of each score: how many of the K - 1 rising thresholds it reaches.

    Args:
        scores: Expected grades divided by K - 1, any shape.
        thresholds: Rising, shape (K - 1,).

    Returns:
        Grades from 0 to K - 1, of the shape of `scores`.
    """
    found: np.ndarray = np.searchsorted(np.asarray(thresholds, float), np.asarray(scores, float), side="right")
    return found


def space_thresholds(count: int) -> list[float]:
    """Return the K - 1 thresholds halfway between the scores of K grades, where there are no rows to choose on."""
    return [(grade + 0.5) / (count - 1) for grade in range(count - 1)]


def count_grades(grades: ArrayLike, decided: ArrayLike, count: int) -> np.ndarray:
    """Count rows by true grade (row) and decided grade (column), of K = `count` grades; shape (K, K)."""
    cells = np.asarray(grades, int) * count + np.asarray(decided, int)
    return np.bincount(cells, minlength=count * count).reshape(count, count)


def compute_kappa(confusion: np.ndarray) -> float:
    """Return Cohen's kappa with quadratic weights (Cohen 1968) of a confusion of K grades.

    Args:
        confusion: Counts, shape (K, K).

    Returns:
        1 for equal grades, 0 for what chance gives; 0 where all rows have one grade.
    """
    places = np.arange(len(confusion))
    apart = (places[:, None] - places) ** 2
    chance = np.outer(confusion.sum(1), confusion.sum(0)) / max(confusion.sum(), 1)
    expected = (apart * chance).sum()
    return float(1 - (apart * confusion).sum() / expected) if expected else 0.0


def compute_grade_f1(confusion: np.ndarray) -> float:
    """Return the mean F1 of the grades that a confusion, shape (K, K), has rows or decisions of."""
    both = confusion.sum(0) + confusion.sum(1)
    return float(np.mean(2 * np.diag(confusion)[both > 0] / both[both > 0]))


def measure_each_grade(confusion: np.ndarray) -> list[dict[str, float]]:
    """Return rows, precision, recall and F1 of each grade of a confusion, shape (K, K); 0 without a denominator."""
    right, true, decided = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    ratios = {
        "precision": divide_or_zero(right, decided),
        "recall": divide_or_zero(right, true),
        "f1": divide_or_zero(2 * right, true + decided),
    }
    return [
        {"rows": int(true[k])} | {name: float(values[k]) for name, values in ratios.items()} for k in range(len(true))
    ]


def fit_grade_thresholds(grades: ArrayLike, scores: ArrayLike, count: int) -> list[float]:
    """Choose the K - 1 thresholds on the score with the highest quadratic kappa.

    Each threshold in turn is moved to its best place between its neighbours, until none moves.

    Args:
        grades: Of n rows, 0 to K - 1.
        scores: Expected grades divided by K - 1, shape (n,), in 0..1.
        count: Number of grades K.

    Returns:
        K - 1 strictly rising numbers between 0 and 1.
    """
    given, found = np.asarray(grades, int), np.asarray(scores, float)
    candidates = _candidates(found)
    # below[i, k]: rows of grade k with a score below candidate i
    order = np.argsort(found, kind="stable")
    counts = np.cumsum(np.vstack([np.zeros(count, int), np.eye(count, dtype=int)[given[order]]]), axis=0)
    below = counts[np.searchsorted(found[order], candidates, side="left")]
    places = _spread_out(np.searchsorted(candidates, space_thresholds(count)), len(candidates))
    for _ in range(ROUNDS):
        before = places.copy()
        for i in range(count - 1):
            places[i] = _best_place(places, i, below, counts[-1])
        if (places == before).all():
            break
    return [float(candidates[place]) for place in places]


def _candidates(scores: np.ndarray) -> np.ndarray:
    """Return thresholds to try, strictly rising within 0..1: quantiles of the scores, and an even grid."""
    quantiles = np.quantile(scores, np.linspace(0, 1, CANDIDATES + 1))
    both = np.unique(np.concatenate([quantiles, np.linspace(0, 1, CANDIDATES + 1)]))
    inside: np.ndarray = both[(both > 0) & (both < 1)]
    return inside


def _spread_out(places: np.ndarray, count: int) -> np.ndarray:
    """Return rising places below `count`, near the given ones."""
    rising = np.maximum.accumulate(np.clip(places, 0, count - len(places)) - np.arange(len(places)))
    spread: np.ndarray = rising + np.arange(len(places))
    kept: np.ndarray = np.minimum(spread, count - len(places) + np.arange(len(places)))
    return kept


def _best_place(places: np.ndarray, i: int, below: np.ndarray, whole: np.ndarray) -> int:
    """Return where threshold i, between its neighbours, gives the highest kappa; where it is if that is as good."""
    first = places[i - 1] + 1 if i else 0
    last = places[i + 1] if i + 1 < len(places) else len(below)
    best, highest = int(places[i]), _kappa_at(places, below, whole)
    for place in range(first, last):
        moved = places.copy()
        moved[i] = place
        if (value := _kappa_at(moved, below, whole)) > highest + 1e-12:
            best, highest = place, value
    return best


def _kappa_at(places: np.ndarray, below: np.ndarray, whole: np.ndarray) -> float:
    edges = np.vstack([np.zeros_like(whole), below[places], whole])
    return compute_kappa(np.diff(edges, axis=0).T)


def measure_grades(grades: ArrayLike, decided: ArrayLike, count: int, queries: ArrayLike | None) -> dict[str, Any]:
    """Measure decided grades against the true ones.

    Args:
        grades: Of n rows.
        decided: Of n rows.
        count: Number of grades K.
        queries: Of the n rows, for an interval from a bootstrap over queries; none if None.

    Returns:
        kappa (quadratic), macro_f1 (over the grades), accuracy, confusion (K rows of K counts, by true grade); with
        queries kappa_interval.
    """
    confusion = count_grades(grades, decided, count)
    found: dict[str, Any] = {"kappa": compute_kappa(confusion), "macro_f1": compute_grade_f1(confusion)}
    found |= {"accuracy": float(np.trace(confusion) / confusion.sum()), "confusion": confusion.astype(int).tolist()}
    if queries is not None:
        found["kappa_interval"] = list(percentile_interval(draw_kappas(grades, decided, count, queries)))
    return found


def draw_kappas(grades: ArrayLike, decided: ArrayLike, count: int, queries: ArrayLike) -> np.ndarray:
    """Return the quadratic kappa of each of up to 1,000 draws of whole queries; arguments as in `measure_grades`.

    The draws depend on the queries alone, so that differences between two models are paired.
    """
    places = np.unique(np.asarray(queries), return_inverse=True)[1]
    size, cells = int(places.max()) + 1, np.asarray(grades, int) * count + np.asarray(decided, int)
    of_queries = np.zeros((size, count * count))
    np.add.at(of_queries, (places, cells), 1)
    draws = int(np.clip(ROWS // size, FEWEST, DRAWS))
    times = draw_queries(np.arange(size), count=draws)
    return np.array([compute_kappa(drawn.reshape(count, count)) for drawn in times @ of_queries])
