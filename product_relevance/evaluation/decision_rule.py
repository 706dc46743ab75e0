"""The decision of a run: calibration, thresholds and the map of logits, applied in this one place."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from product_relevance.evaluation import calibration
from product_relevance.text.language_codes import normal_code, normal_codes
from product_relevance.utils.run_record import FinishedRunRecord, StackRecord

KINDS = ("f1", "macro_f1", "expected_f1")
GOAL = re.compile(r"(precision|recall)_0\.\d+")  # kinds of thresholds that reach a goal, beside these
KEYS = ("calibration", "thresholds", "languages", "shrinkage", "spread", "from", "figures")
SPREAD_KEYS = ("slope", "offset", "match", "rows", "source")


@dataclass(frozen=True)
class DecisionRule:
    """How scores of a run become calibrated probabilities and decisions.

    Attributes:
        thresholds: on the scores, by kind: f1, macro_f1, after `relevance decide` also expected_f1 and goals such as
            precision_0.9.
        languages: thresholds of the languages that have their own, by code and kind.
        calibration: as `calibration.fit_calibration` gives it.
        spread: slope and offset that turn the logit of a mean score into that of a single model, see `fit_spread`; the
            thresholds lie on the mean already.
        chosen: whether `relevance decide` or a stack chose the rule; else it has the searched thresholds alone.
    """

    thresholds: Mapping[str, float]
    languages: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=lambda: {"method": "none"})
    spread: Mapping[str, Any] | None = None
    chosen: bool = False

    @classmethod
    def from_run(cls, run: FinishedRunRecord | StackRecord) -> "DecisionRule":
        """Read the rule of a run or a stack from its record."""
        return cls.from_json(run.decision) if run.decision else cls(run.thresholds)

    @classmethod
    def from_json(cls, decision: Mapping[str, Any]) -> "DecisionRule":
        """Read what `fit_decision` or run.json holds."""
        fitted = decision.get("calibration", {"method": "none"})
        return cls(decision["thresholds"], decision["languages"], fitted, decision.get("spread"), chosen=True)

    def threshold(self, kind: str = "f1", vote: str = "mean") -> float:
        """Return the probability from which a pair counts as relevant, where its language has none of its own.

        Args:
            kind: of a threshold, or a number as text.
            vote: how the folds were combined; of votes half of them decides.

        Raises:
            ValueError: neither a threshold that the run has, such as f1, nor a number from 0 to 1.
        """
        if kind in self.thresholds:
            return 0.5 if vote != "mean" else self.thresholds[kind]
        try:
            value = float(kind)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            names = ", ".join(self.thresholds)
            raise ValueError(f"--threshold {kind}: expected {names}, or a number from 0 to 1")
        return value

    def row_thresholds(self, languages: Sequence[str | None], kind: str = "f1", vote: str = "mean") -> np.ndarray:
        """Return the threshold of each row, shape (n,): its language's own, or the global one where there is none.

        Args:
            languages: code of each row, n values.
            kind, vote: as in `threshold`.
        """
        whole = self.threshold(kind, vote)
        if vote != "mean" or kind not in self.thresholds:
            return np.full(len(languages), whole)
        own: dict[str | None, float] = {normal_code(code): found[kind] for code, found in self.languages.items()}
        return np.array([own.get(code, whole) for code in normal_codes(languages)], dtype=np.float64)

    def decide(
        self, scores: ArrayLike, languages: Sequence[str] | None = None, kind: str = "f1", vote: str = "mean"
    ) -> np.ndarray:
        """Decide which pairs are relevant (1) or not (0), shape (n,); without languages by the global threshold."""
        found = np.asarray(scores)
        codes: Sequence[str | None] = [None] * len(found) if languages is None else languages
        return (found >= self.row_thresholds(codes, kind, vote)).astype(int)

    def calibrate(self, scores: ArrayLike) -> np.ndarray:
        """Return the calibrated probabilities of scores, shape (n,), in the same order."""
        return calibration.apply_calibration(self.calibration, stretch_scores(self.spread, scores))


def stretch_scores(spread: Mapping[str, Any] | None, scores: ArrayLike) -> np.ndarray:
    """Turn scores of a mean into what a single model would give; unchanged without a spread."""
    scores = np.asarray(scores, dtype=np.float64)
    if spread is None:
        return scores
    found: np.ndarray = expit(spread["slope"] * calibration.to_logit(scores) + spread["offset"])
    return found


def narrow_threshold(spread: Mapping[str, Any], threshold: float) -> float:
    """Turn a threshold on scores of single models into that on their mean; the inverse of `stretch_scores`."""
    return float(expit((calibration.to_logit(threshold) - spread["offset"]) / spread["slope"]))


def goal_kind(measure: str, value: float) -> str:
    """Name the kind of threshold that reaches a precision or recall, as precision_0.9."""
    return f"{measure}_{value:g}"


def check_decision(decision: Any) -> None:
    """Raise ValueError if a decision has a defect, such as one from a file that was edited.

    Raises:
        ValueError: What was found and what was expected.
    """
    if not isinstance(decision, dict) or decision.keys() != set(KEYS):
        raise ValueError(f"decision: found {str(decision)[:120]!r}, expected the keys {', '.join(KEYS)}")
    calibration.check_calibration(decision["calibration"])
    _check_thresholds(decision["thresholds"], "thresholds")
    if not isinstance(decision["languages"], dict):
        raise ValueError("decision.languages: expected thresholds by language")
    for code, found in decision["languages"].items():
        _check_thresholds(found, f"languages.{code}")
    spread = decision["spread"]
    if spread is not None:
        good = isinstance(spread, dict) and spread.keys() == set(SPREAD_KEYS)
        good = good and all(
            type(spread[key]) in (int, float) and np.isfinite(spread[key]) for key in ("slope", "offset")
        )
        if not good or spread["slope"] <= 0:
            raise ValueError(f"decision.spread: found {str(spread)[:120]!r}, expected slope above 0 and offset")


def _check_thresholds(found: Any, where: str) -> None:
    good = isinstance(found, dict) and found.keys() >= set(KINDS)
    good = good and all(kind in KINDS or GOAL.fullmatch(kind) for kind in found)
    if not good or not all(is_threshold(kind, value) for kind, value in found.items()):
        raise ValueError(f"decision.{where}: found {str(found)[:120]!r}, expected {', '.join(KINDS)} between 0 and 1")


def is_threshold(kind: str, value: Any) -> bool:
    """Return whether a threshold can be one that was chosen: at 0 all pairs are relevant, above 1 none.

    A searched one lies between two scores, or between a score and 0 or 1; expected_f1 may come out at the ends.
    """
    return type(value) in (int, float) and (0 < value < 1 or (kind == "expected_f1" and 0 <= value <= 1))
