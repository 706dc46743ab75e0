"""Probabilities of grades that mean what they say: one temperature for all distributions of a run."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

from product_relevance.evaluation.calibration import CLIP, TEMPERATURES
from product_relevance.evaluation.reliability import measure_reliability


def calibrate_grades(oof: pd.DataFrame, parts: np.ndarray) -> dict[str, Any]:
    """Fit the temperature on all rows, and measure such temperatures on rows that they were not fitted on.

    Args:
        oof: n out-of-fold rows with grade and share_0 to share_K-1.
        parts: Name of the part of each row, shape (n,): a part is measured with what the others gave.

    Returns:
        temperature; figures, a row before and one after it, with log_loss and ece, see `measure_shares`.
    """
    grades = oof["grade"].to_numpy(int)
    shares = oof[[f"share_{grade}" for grade in range(sum(map(_is_share, oof.columns)))]].to_numpy(float)
    honest = np.empty_like(shares)
    for part in set(parts):
        here = parts == part
        honest[here] = apply_temperature(shares[here], fit_temperature(grades[~here], shares[~here]))
    rows = {"as scored": shares, "divided by a temperature of the other folds": honest}
    figures = [{"probabilities": name} | measure_shares(grades, found) for name, found in rows.items()]
    return {"temperature": fit_temperature(grades, shares), "figures": figures}


def _is_share(column: str) -> bool:
    return column.startswith("share_")


def fit_temperature(grades: ArrayLike, shares: np.ndarray) -> float:
    """Return the number by which logits are divided for the lowest log loss of the true grades (Guo et al. 2017).

    Args:
        grades: Shape (n,), from 0.
        shares: Probability of each grade, shape (n, K).
    """
    logits, true = _to_logits(shares), np.asarray(grades, int)

    def loss(log_temperature: float) -> float:
        scaled = logits * np.exp(-log_temperature)
        return float((logsumexp(scaled, axis=1) - scaled[np.arange(len(true)), true]).mean())

    return float(np.exp(minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded").x))


def apply_temperature(shares: np.ndarray, temperature: float) -> np.ndarray:
    """Return distributions, shape (n, K), with their logits divided by a temperature; the likeliest grade stays it."""
    found: np.ndarray = softmax(_to_logits(shares) / temperature, axis=1)
    return found


def measure_shares(grades: ArrayLike, shares: np.ndarray) -> dict[str, float]:
    """Measure distributions against the true grades.

    Args:
        grades: Shape (n,), from 0.
        shares: Shape (n, K).

    Returns:
        log_loss of the true grades; ece, the mean over the grades of the calibration error of each against the others.
    """
    true = np.asarray(grades, int)
    loss = -_to_logits(shares)[np.arange(len(true)), true].mean()
    errors = [measure_reliability(true == grade, shares[:, grade])["ece"] for grade in range(shares.shape[1])]
    return {"log_loss": float(loss), "ece": float(np.mean(errors))}


def check_grade_calibration(found: Any) -> None:
    """Raise ValueError if a calibration of grades, as run.json holds it, is not valid."""
    low, high = TEMPERATURES
    value = found.get("temperature") if isinstance(found, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"grade_calibration: found {str(found)[:120]!r}, expected a temperature from {low} to {high}")


def _to_logits(shares: np.ndarray) -> np.ndarray:
    logits: np.ndarray = np.log(np.clip(shares, CLIP, 1))
    return logits
