"""Measure how well scores separate relevant pairs from irrelevant ones, and choose the threshold between them.

A score is the probability of relevance; a pair is called relevant when its score >= threshold.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from product_relevance.evaluation.confusion import (
    check_labels,
    check_scores,
    measure_thresholds,
    possible_thresholds,
)
from product_relevance.evaluation.intervals import bootstrap_intervals
from product_relevance.evaluation.probabilities import to_probabilities
from product_relevance.evaluation.reliability import measure_reliability
from product_relevance.text.language_codes import normal_code, normal_codes


@dataclass(frozen=True)
class RowFacts:
    """What is known of n scored rows besides their labels.

    Attributes:
        languages: Code of each row, shape (n,).
        seen_languages: Codes that the model was trained on; needs `languages`.
        row_thresholds: Threshold of each row, shape (n,), where languages have their own.
        queries: Query of each row, any values, shape (n,), for intervals from a bootstrap over queries.
    """

    languages: Iterable[str] | None = None
    seen_languages: Iterable[str] | None = None
    row_thresholds: ArrayLike | None = None
    queries: ArrayLike | None = None


NOTHING_KNOWN = RowFacts()


def best_threshold(labels: ArrayLike, scores: ArrayLike, metric: str = "f1") -> tuple[float, float]:
    """Find the threshold with the highest F1, by exact search over all distinct thresholds in O(n log n).

    A threshold lies halfway between two neighbouring distinct scores, so that rounding a score does not move a row
    across it. "All relevant" lies halfway between 0 and the lowest score, "none" between the highest and 1.

    Args:
        labels: 0 or 1, shape (n,).
        scores: Any finite numbers, higher is more relevant, shape (n,).
        metric: "f1" of the positive class, or "macro_f1", the mean of both classes' F1.

    Returns:
        The threshold, and the metric's value there. Of equally good thresholds the one closest to 0.5, then the lower.

    Raises:
        ValueError: Unknown metric, empty or unequal shapes, a label outside 0/1, a score that is not finite.
    """
    if metric not in ("f1", "macro_f1"):
        raise ValueError(f"metric: found {metric!r}, expected 'f1' or 'macro_f1'")
    labels, scores = check_scores(labels, scores)
    candidates = possible_thresholds(scores)
    values = measure_thresholds(labels, scores, candidates)[metric]
    tied = np.flatnonzero(values >= values.max() - 1e-12)  # macro-F1 is a sum, so equal values differ in the last bit
    best = tied[np.argmin(np.abs(candidates[tied] - 0.5))]
    return float(candidates[best]), float(values[best])


def expected_f1_threshold(f1: float) -> float:
    """Give the threshold that maximises F1 for a calibrated model whose best F1 is known.

    Args:
        f1: The highest F1 the model reaches, 0 to 1.

    Returns:
        F*/2, never above .5 (Lipton, Elkan and Naryanaswamy 2014, "Optimal Thresholding of Classifiers to
        Maximize F1 Measure", theorem 1).

    Raises:
        ValueError: The value is not in 0..1.
    """
    if not 0 <= f1 <= 1:
        raise ValueError(f"f1: found {f1}, expected a number from 0 to 1")
    return f1 / 2


def measure_floor(labels: ArrayLike) -> dict[str, float]:
    """Say what always answering "relevant" reaches.

    Args:
        labels: 0 or 1, shape (n,).

    Returns:
        "f1": 2p / (1 + p) with p the positive share; "macro_f1": half of it, as the negative class has F1 0.

    Raises:
        ValueError: No labels, or one outside 0/1.
    """
    labels = check_labels(labels)
    share = labels.mean()
    f1 = float(2 * share / (1 + share))
    return {"f1": f1, "macro_f1": f1 / 2}


def scores_report(
    labels: ArrayLike, scores: ArrayLike, threshold: float, facts: RowFacts = NOTHING_KNOWN
) -> dict[str, Any]:
    """Measure scores at a given threshold, as a whole, per language, and on seen against unseen languages.

    Args:
        labels: 0 or 1, shape (n,).
        scores: Probabilities, shape (n,).
        threshold: A row is called relevant when its score is at least this.
        facts: Languages, thresholds and queries of the rows, as far as known. With thresholds of the rows `threshold`
            is only passed on. With queries every entry has 95% intervals as well: f1_interval, macro_f1_interval and
            auc_interval, from a bootstrap over queries.

    Returns:
        rows, positive (share), f1, precision, recall, macro_f1, auc (None where only one class occurs), floor_f1,
        floor_macro_f1, threshold, accuracy, log_loss, ece (15 bins of equal width). With languages "by_language"
        maps a code to the first nine of these; with seen_languages every such entry has "seen" as well, and "seen"
        and "unseen" hold the nine for each group that has rows. Plain Python values, none of them NaN.

    Raises:
        ValueError: Bad labels or scores, a threshold that is no number, or languages of another length.
    """
    from sklearn.metrics import log_loss

    labels, scores = check_scores(labels, scores, probability=True)
    if not np.isfinite(threshold):
        raise ValueError(f"threshold: found {threshold}, expected a finite number")
    own = facts.row_thresholds
    called = scores >= (threshold if own is None else np.asarray(own, dtype=np.float64))
    queries = None if facts.queries is None else _numbered(_one_per_row(facts.queries, "queries", len(labels)))

    def measure(rows: np.ndarray) -> dict[str, Any]:
        return _group(labels[rows], scores[rows], called[rows], None if queries is None else queries[rows])

    report = measure(np.ones(len(labels), dtype=bool)) | {
        "threshold": float(threshold),
        "accuracy": float((called == labels).mean()),
        "log_loss": float(log_loss(labels, scores, labels=[0, 1])),
        "ece": measure_reliability(labels, scores)["ece"],
    }
    if facts.languages is None:
        if facts.seen_languages is not None:
            raise ValueError("seen_languages: given without languages, expected the language of each row as well")
        return report
    codes = _one_per_row([normal_code(str(code)) for code in facts.languages], "languages", len(labels))
    return report | _by_language(measure, codes.astype(object), facts.seen_languages)


def threshold_curve(labels: ArrayLike, scores: ArrayLike, points: int = 101) -> dict[str, np.ndarray]:
    """Follow the metrics over evenly spaced thresholds from 0 to 1.

    Args:
        labels: 0 or 1, shape (n,).
        scores: Probabilities, shape (n,).
        points: Number of thresholds.

    Returns:
        "threshold", "precision", "recall", "f1", "macro_f1", "accuracy" and "predicted" (the share of rows called
        relevant), each of shape (points,). Precision is 0 where no row is called relevant.

    Raises:
        ValueError: Bad labels or scores.
    """
    labels, scores = check_scores(labels, scores, probability=True)
    thresholds = np.linspace(0, 1, points)
    return {"threshold": thresholds} | measure_thresholds(labels, scores, thresholds)


def compute_metrics(prediction: Any, relevant_from: int | None = None) -> dict[str, float]:
    """Measure an evaluation of the Hugging Face Trainer, to be given as its `compute_metrics`.

    Args:
        prediction: Has `predictions`, logits (n, 2) or a tuple that begins with them, and `label_ids` (n,).
        relevant_from: Lowest label that counts as relevant, where labels are grades.

    Returns:
        f1 and macro_f1, each at its own best threshold on these rows (to compare checkpoints, not to report),
        threshold (of f1), f1_at_half, and auc unless the rows hold one class only.

    Raises:
        ValueError: Bad shapes, a label outside 0/1, or logits that are not finite.
    """
    logits = prediction.predictions
    scores = to_probabilities(logits[0] if isinstance(logits, tuple) else logits)
    given = prediction.label_ids if relevant_from is None else np.asarray(prediction.label_ids) >= relevant_from
    labels, scores = check_scores(given, scores)
    threshold, f1 = best_threshold(labels, scores)
    result = {"f1": f1, "macro_f1": best_threshold(labels, scores, "macro_f1")[1], "threshold": threshold}
    result["f1_at_half"] = float(measure_thresholds(labels, scores, [0.5])["f1"][0])
    auc = _auc(labels, scores)
    return result if auc is None else result | {"auc": auc}


def load_metric() -> Any:
    """Load the package's module for the `evaluate` library; it needs no network.

    Returns:
        An `evaluate.Metric` whose `compute(predictions=, references=, ...)` gives `scores_report`'s dict.

    Raises:
        ImportError: `evaluate` is not installed.
    """
    import evaluate

    # In memory, as ranks and parallel runs would otherwise wait for one another's lock on the same cache file.
    return evaluate.load(str(Path(__file__).parent / "relevance_f1"), keep_in_memory=True)


def final_report(
    labels: ArrayLike, scores: ArrayLike, threshold: float, facts: RowFacts = NOTHING_KNOWN
) -> dict[str, Any]:
    """Compute `scores_report` through the `evaluate` module where that is installed, directly elsewhere.

    Args:
        labels: 0 or 1, shape (n,).
        scores: Probabilities, shape (n,).
        threshold: The threshold.
        facts: As for `scores_report`.

    Returns:
        The same numbers either way.

    Raises:
        ValueError: As `scores_report`.
    """
    labels, scores = check_scores(labels, scores, probability=True)
    if find_spec("evaluate") is None or facts.row_thresholds is not None:  # it knows one threshold only
        return scores_report(labels, scores, threshold, facts)
    known = {"languages": facts.languages, "seen_languages": facts.seen_languages, "queries": facts.queries}
    given = {name: values for name, values in known.items() if values is not None}
    found: dict[str, Any] = load_metric().compute(predictions=scores, references=labels, threshold=threshold, **given)
    return found


def _by_language(
    measure: Callable[[np.ndarray], dict[str, Any]], codes: np.ndarray, seen_languages: Iterable[str] | None
) -> dict[str, Any]:
    groups = {code: measure(codes == code) for code in sorted(set(codes))}
    if seen_languages is None:
        return {"by_language": groups}
    known = set(normal_codes(seen_languages))
    seen = np.asarray([code in known for code in codes])
    parts = {"by_language": {code: found | {"seen": code in known} for code, found in groups.items()}}
    for name, rows in (("seen", seen), ("unseen", ~seen)):
        if rows.any():
            parts[name] = measure(rows)
    return parts


def _one_per_row(values: ArrayLike, name: str, rows: int) -> np.ndarray:
    found = np.asarray(values)
    if len(found) != rows:
        raise ValueError(f"{name}: found {len(found)} values for {rows} rows, expected one per row")
    return found


def _numbered(values: np.ndarray) -> np.ndarray:
    """Give equal values the same number, from 0 up."""
    numbers: np.ndarray = np.unique(values, return_inverse=True)[1]
    return numbers


def _group(labels: np.ndarray, scores: np.ndarray, called: np.ndarray, queries: np.ndarray | None) -> dict[str, Any]:
    measured = measure_thresholds(labels, called.astype(np.float64), [0.5])
    chosen = {name: float(measured[name][0]) for name in ("f1", "precision", "recall", "macro_f1")}
    lowest = {f"floor_{name}": value for name, value in measure_floor(labels).items()}
    found = {"rows": len(labels), "positive": float(labels.mean())} | chosen | {"auc": _auc(labels, scores)} | lowest
    return found if queries is None else found | bootstrap_intervals(labels, scores, called, queries)


def _auc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores)) if 0 < labels.sum() < len(labels) else None
