"""Probabilities that mean what they say, in the order of the scores they come from: temperature and isotonic.

A calibration is a plain dict, as run.json holds it: `method` and what the method has fitted.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from product_relevance.evaluation.confusion import check_scores

METHODS = ("none", "temperature", "isotonic")
KEYS = {"none": (), "temperature": ("temperature",), "isotonic": ("scores", "probabilities")}
# The part of a calibrated probability that is the score itself. A flat step, or a sigmoid rounded to 1, would tie
# scores that differ: with it they stay apart, and it moves no probability by more than this.
KEPT = 1e-4
CLIP = 1e-9  # of scores before their logit is taken
TEMPERATURES = (0.05, 20.0)


def to_logit(scores: ArrayLike) -> np.ndarray:
    """Return log(p / (1 - p)) of probabilities, with p kept 1e-9 away from 0 and 1."""
    logits: np.ndarray = logit(np.clip(np.asarray(scores, dtype=np.float64), CLIP, 1 - CLIP))
    return logits


def fit_calibration(method: str, labels: ArrayLike, scores: ArrayLike) -> dict[str, Any]:
    """Fit a calibration on rows that the scored model was not trained on.

    Args:
        method: none; temperature, the one number by which logits are divided (Guo et al. 2017, "On Calibration of
            Modern Neural Networks", section 4.2); isotonic, the best rising step function (Zadrozny and Elkan 2002).
        labels: 0 or 1, shape (n,).
        scores: Probabilities, shape (n,).

    Returns:
        The calibration.

    Raises:
        ValueError: An unknown method, bad labels or scores.
    """
    if method not in METHODS:
        raise ValueError(f"calibration: found {method!r}, expected one of {', '.join(METHODS)}")
    labels, scores = check_scores(labels, scores, probability=True)
    if method == "temperature":
        return {"method": method, "temperature": _temperature(labels, to_logit(scores))}
    return {"method": method} | (_steps(labels, scores) if method == "isotonic" else {})


def apply_calibration(calibration: Mapping[str, Any], scores: ArrayLike) -> np.ndarray:
    """Turn scores into calibrated probabilities.

    Args:
        calibration: From `fit_calibration`.
        scores: Probabilities, shape (n,).

    Returns:
        Shape (n,), in 0..1. The higher of two scores keeps the higher probability.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if calibration["method"] == "none":
        return scores
    if calibration["method"] == "temperature":
        plain = expit(to_logit(scores) / calibration["temperature"])
    else:
        plain = np.interp(scores, calibration["scores"], calibration["probabilities"])
    probabilities: np.ndarray = (1 - KEPT) * plain + KEPT * scores
    return probabilities


def invert_calibration(calibration: dict[str, Any], probability: float) -> float:
    """Return the lowest score whose calibrated probability reaches a value; 1 where none does."""
    low, high = 0.0, 1.0
    if apply_calibration(calibration, [low])[0] >= probability:
        return low
    for _ in range(60):  # halving; 2**-60 is below the distance of neighbouring floats around .5
        middle = (low + high) / 2
        reached = apply_calibration(calibration, [middle])[0] >= probability
        low, high = (low, middle) if reached else (middle, high)
    return high


def check_calibration(calibration: Any) -> None:
    """Raise ValueError if a calibration is not valid, such as one from a file that was edited.

    Raises:
        ValueError: What was found and what was expected.
    """
    method = calibration.get("method") if isinstance(calibration, dict) else None
    if method not in METHODS or calibration.keys() != {"method", *KEYS[method]}:
        raise ValueError(f"calibration: found {str(calibration)[:120]!r}, expected a method of {', '.join(METHODS)}")
    if method == "temperature":
        found, (low, high) = calibration["temperature"], TEMPERATURES
        if type(found) not in (int, float) or not low <= found <= high:
            raise ValueError(f"calibration: found temperature {str(found)[:40]!r}, expected {low} to {high}")
    if method == "isotonic":
        steps = [calibration[key] for key in KEYS[method]]
        if not all(map(_rising, steps)) or len(steps[0]) != len(steps[1]):
            raise ValueError(
                "calibration: expected scores and probabilities, rising numbers from 0 to 1, as many each"
            )


def _rising(values: Any) -> bool:
    numbers = isinstance(values, list) and len(values) > 0 and all(type(v) in (int, float) for v in values)
    return numbers and values[0] >= 0 and values[-1] <= 1 and bool((np.diff(values) >= 0).all())


def _temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    signed = np.where(labels == 1, -logits, logits)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, signed * np.exp(-log_temperature)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded").x))


def _steps(labels: np.ndarray, scores: np.ndarray) -> dict[str, list[float]]:
    # One relevant row at the low end and one irrelevant at the high end: no probability becomes 0 or 1, which a
    # single row on the wrong side would punish without limit.
    ends = [scores.min(), scores.max()]
    fitted = IsotonicRegression(out_of_bounds="clip").fit([*scores, *ends], [*labels, 1, 0])
    return {"scores": fitted.X_thresholds_.tolist(), "probabilities": fitted.y_thresholds_.tolist()}
