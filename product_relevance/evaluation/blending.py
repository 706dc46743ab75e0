"""A logistic regression over the logits of several runs' scores."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from product_relevance.evaluation.calibration import to_logit

RIDGE = 1e-4  # on the coefficients, of the mean loss: keeps them finite where a member makes no error


def fit_blend(scores: np.ndarray, labels: np.ndarray, features: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """Fit label = sigmoid(logits @ coefficients + intercept) with no coefficient of a member below 0.

    A member that would count against itself is left out instead (Breiman 1996, "Stacked Regressions"), so that a stack
    keeps every order that its members agree on.

    Args:
        scores: Out-of-fold probabilities of each member, shape (n, members).
        labels: 0 or 1, shape (n,).
        features: Shape (n, features), read as they are; their coefficients may have any sign.

    Returns:
        Coefficients of shape (members + features,), and the intercept.
    """
    inputs = np.column_stack([_inputs(scores, features), np.ones(len(scores))])

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits, ridge = inputs @ weights, RIDGE * np.append(weights[:-1], 0)
        value = (np.logaddexp(0, logits) - labels * logits).mean() + ridge @ weights / 2
        return value, inputs.T @ (expit(logits) - labels) / len(labels) + ridge

    members = scores.shape[1]
    others = inputs.shape[1] - members
    start = np.append(np.full(members, 1 / members), np.zeros(others))
    bounds = [(0, None)] * members + [(None, None)] * others
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12}).x
    return found[:-1], float(found[-1])


def blend_scores(
    scores: np.ndarray,
    coefficients: Sequence[float] | np.ndarray,
    intercept: float,
    features: np.ndarray | None = None,
) -> np.ndarray:
    """Return the stack's probabilities, shape (n,), of its members', shape (n, members), and their features."""
    blended: np.ndarray = expit(_inputs(scores, features) @ np.asarray(coefficients) + intercept)
    return blended


def _inputs(scores: np.ndarray, features: np.ndarray | None) -> np.ndarray:
    return to_logit(scores) if features is None else np.column_stack([to_logit(scores), features])
