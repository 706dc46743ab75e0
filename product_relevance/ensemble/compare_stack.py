"""What each way to combine runs is worth on rows that it was not fitted on: one run, their mean, a stack, features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from product_relevance.evaluation import decision as nested
from product_relevance.evaluation.blending import blend_scores, fit_blend
from product_relevance.evaluation.comparison import Judged, compare_models, comparison_table
from product_relevance.evaluation.thresholds import DecisionOptions
from product_relevance.text.cleaning import normalise_text


@dataclass(frozen=True)
class Blend:
    """A regression on columns of joined scores: those of the runs, and features.

    Attributes:
        runs: How many there are.
        features: Names of their columns.
    """

    runs: int
    features: list[str]

    @property
    def members(self) -> list[str]:
        """The columns of the runs' scores."""
        return [f"member-{i}" for i in range(self.runs)]

    def fit(self, rows: pd.DataFrame) -> tuple[np.ndarray, float]:
        """Return coefficients and intercept, fitted on rows with labels."""
        return fit_blend(
            rows[self.members].to_numpy(), rows["label"].to_numpy(int), rows[self.features].to_numpy(float)
        )

    def apply(self, fitted: tuple[np.ndarray, float], rows: pd.DataFrame) -> np.ndarray:
        """Return the probabilities of rows, shape (n,), by what `fit` gave."""
        return blend_scores(rows[self.members].to_numpy(), *fitted, rows[self.features].to_numpy(float))


def compare_ways(
    oof: pd.DataFrame, blend: Blend, folders: Sequence[str], choice: DecisionOptions
) -> list[dict[str, Any]]:
    """Measure each run, their mean, the stack and, where it has any, the stack with features.

    Args:
        oof: Joined out-of-fold scores.
        blend: The regression.
        folders: Of the runs, for their names.
        choice: How thresholds are chosen.

    Returns:
        Two rows for each, see `measure_decision`.
    """
    singles = [(Path(folder).name, oof[name]) for name, folder in zip(blend.members, folders, strict=True)]
    singles.append(("mean", oof[blend.members].mean(axis=1)))
    fit_rule, use_rule = nested.make_decider(choice)
    found = [nested.measure_decision(oof.assign(score=s), fit_rule, use_rule, scores=title) for title, s in singles]
    found.append(nested.measure_decision(oof, *_decide_by(replace(blend, features=[]), choice), scores="stack"))
    if blend.features:
        found.append(nested.measure_decision(oof, *_decide_by(blend, choice), scores="stack with features"))
    return [row for pair in found for row in pair]


def compare_features(oof: pd.DataFrame, blend: Blend, choice: DecisionOptions) -> str:
    """Compare the stack with features and the stack of scores alone; both judge rows that they were not fitted on.

    Args:
        oof: Joined out-of-fold scores with features and `query`.
        blend: The regression with features.
        choice: How thresholds are chosen.

    Returns:
        A table of differences with their 95% intervals over queries.
    """
    found = []
    for way in (replace(blend, features=[]), blend):
        scores, called = nested.judge_rows(oof, *_decide_by(way, choice))
        found.append(Judged(scores, called["f1"] == 1))
    return comparison_table(compare_models(oof["label"], oof["query"].map(normalise_text), *found))


def _decide_by(blend: Blend, choice: DecisionOptions) -> tuple[nested.Fit, nested.Use]:
    """Return the `fit` and `use` of a regression and its thresholds."""
    fit_rule, use_rule = nested.make_decider(choice)

    def fit(rows: pd.DataFrame) -> Any:
        fitted = blend.fit(rows)
        return fitted, fit_rule(rows.assign(score=blend.apply(fitted, rows)))

    def use(model: Any, rows: pd.DataFrame) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        fitted, decision = model
        return use_rule(decision, rows.assign(score=blend.apply(fitted, rows)))

    return fit, use
