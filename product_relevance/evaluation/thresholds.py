"""Thresholds and calibration chosen on out-of-fold scores, one for all rows or one per language."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from product_relevance.evaluation import calibration
from product_relevance.evaluation.confusion import check_scores, measure_thresholds, possible_thresholds
from product_relevance.evaluation.decision_rule import goal_kind, narrow_threshold
from product_relevance.evaluation.metrics import best_threshold, expected_f1_threshold
from product_relevance.text.language_codes import normal_codes

BY = ("global", "language")
MATCHES = ("folds", "training")


@dataclass(frozen=True)
class DecisionOptions:
    """How a decision is chosen.

    Attributes:
        calibration: none, temperature or isotonic, see `calibration.fit_calibration`.
        by: global, or language for a threshold of each language as well.
        shrinkage: Rows at which a language's own threshold and the global one count the same; 0 keeps its own.
        precision: Also choose the lowest threshold whose precision is at least this; None chooses none.
        recall: Also choose the highest threshold whose recall is at least this; None chooses none.

    Raises:
        ValueError: Unknown `calibration` or `by`, a negative shrinkage, or a goal outside 0 to 1.
    """

    calibration: str = "isotonic"
    by: str = "global"
    shrinkage: float = 1000
    precision: float | None = None
    recall: float | None = None

    @property
    def goals(self) -> dict[str, tuple[str, float]]:
        """Kind of threshold to the measure and the value that it must reach, as precision_0.9."""
        asked = {"precision": self.precision, "recall": self.recall}
        return {goal_kind(name, value): (name, value) for name, value in asked.items() if value is not None}

    def __post_init__(self) -> None:
        for name, (measure, value) in self.goals.items():
            if not 0 < value < 1:
                raise ValueError(f"{measure}: found {value}, expected a share between 0 and 1, as in {name}")
        if self.calibration not in calibration.METHODS:
            expected = ", ".join(calibration.METHODS)
            raise ValueError(f"calibration: found {self.calibration!r}, expected one of {expected}")
        if self.by not in BY:
            raise ValueError(f"threshold_by: found {self.by!r}, expected one of {', '.join(BY)}")
        if not self.shrinkage >= 0:
            raise ValueError(f"shrinkage: found {self.shrinkage}, expected a number of rows from 0 up")


def fit_decision(
    labels: ArrayLike, scores: ArrayLike, languages: Sequence[str], options: DecisionOptions
) -> dict[str, Any]:
    """Choose calibration and thresholds on rows that the scored model was not trained on.

    Thresholds are on the scores, not on the calibrated probabilities: calibration keeps the order, so a searched
    threshold is the same on both, and expected_f1 is taken back from the probability to the score.

    Args:
        labels: 0 or 1, shape (n,).
        scores: Probabilities, shape (n,).
        languages: Code of each row, shape (n,).
        options: Calibration and kind of thresholds.

    Returns:
        calibration; thresholds {f1, macro_f1, expected_f1, and the goals of the options}; languages {code: the same},
        empty when `by` is global; shrinkage, None when `by` is global.

    Raises:
        ValueError: Bad labels or scores, or a goal that no threshold reaches.
    """
    labels, scores = check_scores(labels, scores, probability=True)
    fitted = calibration.fit_calibration(options.calibration, labels, scores)
    whole = _searched(labels, scores, fitted) | _reach_goals(labels, scores, options)
    found = {"calibration": fitted, "thresholds": whole}
    if options.by == "global":
        return found | {"languages": {}, "shrinkage": None}
    codes = np.asarray(normal_codes(languages), dtype=object)
    if codes.shape != labels.shape:
        raise ValueError(f"languages: found {len(codes)} values for {len(labels)} rows, expected one per row")
    own = {}
    for code in sorted(set(codes)):
        rows = codes == code
        if labels[rows].min() < labels[rows].max():  # of one class no threshold is better than another
            searched, n = whole | _searched(labels[rows], scores[rows], fitted), int(rows.sum())
            for kind, goal in options.goals.items():  # which a language may not reach at all
                searched[kind] = _reach(labels[rows], scores[rows], *goal) or whole[kind]
            own[str(code)] = {k: shrink_threshold(searched[k], whole[k], n, options.shrinkage) for k in whole}
    return found | {"languages": own, "shrinkage": float(options.shrinkage)}


def shrink_threshold(own: float, whole: float, rows: int, shrinkage: float) -> float:
    """Pull a language's threshold to the global one: the mean of their logits, weighted rows to shrinkage.

    The weight rows / (rows + shrinkage) is that of an empirical Bayes mean (Efron and Morris 1975, Micci-Barreca
    2001); on logits, since there a language that the model scores too high or too low is off by a constant.
    """
    if rows + shrinkage == 0:
        return whole
    weight = rows / (rows + shrinkage)
    if weight == 1:
        return own
    mean = weight * calibration.to_logit(own) + (1 - weight) * calibration.to_logit(whole)
    return float(expit(mean))


def fit_spread(scores: ArrayLike, wanted: ArrayLike) -> dict[str, float]:
    """Measure on rows that no fold trained on how to stretch the scores of an ensemble; no label is read.

    Thresholds and calibration are fitted on scores of single models. The mean of several is drawn to the middle, so
    that it passes a low threshold too often and a high one too rarely (Ranjan and Gneiting 2010, "Combining
    probability forecasts").
    Its logits get the mean and deviation of the wanted scores' logits.

    Args:
        scores: Of the ensemble, shape (n,).
        wanted: Any number of probabilities: the single models' on the same rows; or the out-of-fold scores, right
            where new rows are as often relevant as those, and the model only scores them lower or higher.

    Returns:
        slope and offset of the stretched logit.

    Raises:
        ValueError: No rows, or rows that all have one score.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or not scores.size or np.ptp(scores) == 0:
        raise ValueError(f"spread: found scores of shape {scores.shape}, expected (n,) with scores that differ")
    found, wanted = calibration.to_logit(scores), calibration.to_logit(np.asarray(wanted, dtype=np.float64))
    slope = float(wanted.std() / found.std())
    return {"slope": slope, "offset": float(wanted.mean() - slope * found.mean())}


def move_thresholds(
    decision: dict[str, Any], unlabelled: Mapping[str, Any], out_of_fold: ArrayLike, match: str
) -> dict[str, Any]:
    """Return the decision with its thresholds moved to where an ensemble's scores lie on unlabelled records.

    Args:
        decision: With thresholds for single models' scores.
        unlabelled: scores (of the ensemble, shape (n,)), folds (of the single models, shape (n, folds)) and source.
        out_of_fold: The single models' scores that the decision was fitted on.
        match: `folds` or `training`, what the ensemble's scores are matched to; see `fit_spread`.
    """
    scores = unlabelled["scores"]
    spread = fit_spread(scores, unlabelled["folds"] if match == "folds" else out_of_fold)
    return move_to_mean(decision, spread | {"match": match, "rows": len(scores), "source": unlabelled["source"]})


def check_match(match: str, unlabelled: Any) -> None:
    """Raise ValueError if a match is unknown, or has no rows to match on.

    Raises:
        ValueError: What was found and what was expected.
    """
    if match not in MATCHES or (match != "folds" and unlabelled is None):
        expected = " or ".join(MATCHES)
        raise ValueError(f"match: found {match!r}, expected {expected}, with unlabelled records to match on")


def move_to_mean(decision: Mapping[str, Any], spread: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decision with its thresholds moved from single models' scores to those of their mean."""

    def narrow(thresholds: Mapping[str, float]) -> dict[str, float]:
        return {kind: narrow_threshold(spread, threshold) for kind, threshold in thresholds.items()}

    own = {code: narrow(thresholds) for code, thresholds in decision["languages"].items()}
    return {**decision, "thresholds": narrow(decision["thresholds"]), "languages": own, "spread": dict(spread)}


def _searched(labels: np.ndarray, scores: np.ndarray, fitted: dict[str, Any]) -> dict[str, float]:
    searched, highest = best_threshold(labels, scores)
    expected = calibration.invert_calibration(fitted, expected_f1_threshold(highest))
    macro = best_threshold(labels, scores, "macro_f1")[0]
    return {"f1": searched, "macro_f1": macro, "expected_f1": expected}


def _reach_goals(labels: np.ndarray, scores: np.ndarray, options: DecisionOptions) -> dict[str, float]:
    found = {}
    for kind, (measure, value) in options.goals.items():
        threshold = _reach(labels, scores, measure, value)
        if threshold is None:
            best = measure_thresholds(labels, scores, possible_thresholds(scores))[measure].max()
            raise ValueError(f"--{measure} {value:g}: no threshold reaches it, the highest {measure} is {best:.4f}")
        found[kind] = threshold
    return found


def _reach(labels: np.ndarray, scores: np.ndarray, measure: str, value: float) -> float | None:
    """Return the threshold that reaches a precision with the most recall, or a recall with the most precision."""
    candidates = possible_thresholds(scores)
    reached = np.flatnonzero(measure_thresholds(labels, scores, candidates)[measure] >= value)
    if not reached.size:
        return None
    return float(candidates[reached[0] if measure == "precision" else reached[-1]])
