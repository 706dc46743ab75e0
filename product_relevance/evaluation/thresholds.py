"""The decision of a run: its calibration and its cuts, one for all rows or one a language, as run.json holds them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from product_relevance.evaluation import calibration
from product_relevance.evaluation.confusion import checked
from product_relevance.evaluation.metrics import best_threshold, expected_f1_threshold
from product_relevance.text.language_codes import normal_code, normal_codes

KINDS = ("f1", "macro_f1", "expected_f1")
BY = ("global", "language")
KEYS = ("calibration", "thresholds", "languages", "shrinkage", "spread", "from", "figures")
SPREAD_KEYS = ("slope", "offset", "match", "rows", "source")
MATCHES = ("folds", "training")


def fit_decision(
    labels: ArrayLike,
    scores: ArrayLike,
    languages: Sequence[str],
    method: str = "none",
    by: str = "global",
    shrinkage: float = 1000,
) -> dict[str, Any]:
    """Choose calibration and cuts on rows that the scored model was not trained on.

    Cuts are on the scores, not on the calibrated probabilities: calibration keeps the order, so a searched cut is the
    same on both, and expected_f1 is taken back from the probability to the score.

    Args:
        labels: 0 or 1, shape (n,).
        scores: Probabilities, shape (n,).
        languages: Code of each row, shape (n,).
        method: Of calibration, see `calibration.fit`.
        by: global, or language for a cut of each language as well.
        shrinkage: Rows at which a language's own cut and the global one count the same; 0 keeps its own.

    Returns:
        calibration; thresholds {f1, macro_f1, expected_f1}; languages {code: the same}, empty when `by` is global;
        shrinkage, None when `by` is global.

    Raises:
        ValueError: Unknown `method` or `by`, a negative shrinkage, bad labels or scores.
    """
    if by not in BY:
        raise ValueError(f"threshold_by: found {by!r}, expected one of {', '.join(BY)}")
    if not shrinkage >= 0:
        raise ValueError(f"shrinkage: found {shrinkage}, expected a number of rows from 0 up")
    labels, scores = checked(labels, scores, probability=True)
    fitted = calibration.fit(method, labels, scores)
    whole = _cuts(labels, scores, fitted)
    own = _language_cuts(labels, scores, languages, fitted, whole, shrinkage) if by == "language" else {}
    shown = float(shrinkage) if by == "language" else None
    return {"calibration": fitted, "thresholds": whole, "languages": own, "shrinkage": shown}


def shrunk(own: float, whole: float, rows: int, shrinkage: float) -> float:
    """Pull a language's cut to the global one: the mean of their logits, weighted rows to shrinkage.

    The weight rows / (rows + shrinkage) is that of an empirical Bayes mean (Efron and Morris 1975, Micci-Barreca
    2001); on logits, since there a language that the model scores too high or too low is off by a constant.
    """
    if rows + shrinkage == 0:
        return whole
    weight = rows / (rows + shrinkage)
    if weight == 1:
        return own
    mean = weight * calibration.to_logit(own) + (1 - weight) * calibration.to_logit(whole)
    return float(calibration.expit(mean))


def row_cuts(decision: Mapping[str, Any], languages: Sequence[str], kind: str = "f1") -> np.ndarray:
    """Return the cut of each row, shape (n,): its language's own, or the global one where there is none.

    Args:
        decision: From `fit_decision`.
        languages: Code of each row, shape (n,).
        kind: f1, macro_f1 or expected_f1.
    """
    own, whole = {normal_code(code): cuts for code, cuts in decision["languages"].items()}, decision["thresholds"]
    return np.array([own.get(code, whole)[kind] for code in normal_codes(languages)], dtype=np.float64)


def called(decision: Mapping[str, Any], scores: ArrayLike, languages: Sequence[str] | None, kind: str) -> np.ndarray:
    """Call pairs relevant (1) or not (0), shape (n,); arguments as in `row_cuts`, global cuts without languages."""
    codes = [None] * len(scores) if languages is None else languages
    return (np.asarray(scores) >= row_cuts(decision, codes, kind)).astype(int)


def fit_spread(scores: ArrayLike, wanted: ArrayLike) -> dict[str, float]:
    """Measure on rows that no fold trained on how to stretch the scores of an ensemble; no label is read.

    Cuts and calibration are fitted on scores of single models. The mean of several is drawn to the middle, so that it
    passes a low cut too often and a high one too rarely (Ranjan and Gneiting 2010, "Combining probability forecasts").
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


def moved(decision: dict[str, Any], unlabelled: Mapping[str, Any], out_of_fold: ArrayLike, match: str) -> dict:
    """Return the decision with its cuts moved to where an ensemble's scores lie on unlabelled records.

    Args:
        decision: With cuts for single models' scores.
        unlabelled: scores (of the ensemble, shape (n,)), folds (of the single models, shape (n, folds)) and source.
        out_of_fold: The single models' scores that the decision was fitted on.
        match: `folds` or `training`, what the ensemble's scores are matched to; see `fit_spread`.
    """
    scores = unlabelled["scores"]
    spread = fit_spread(scores, unlabelled["folds"] if match == "folds" else out_of_fold)
    return for_mean(decision, spread | {"match": match, "rows": len(scores), "source": unlabelled["source"]})


def check_match(match: str, unlabelled: Any) -> None:
    """Refuse an unknown match, or one without rows to match on.

    Raises:
        ValueError: What was found and what was expected.
    """
    if match not in MATCHES or (match != "folds" and unlabelled is None):
        expected = " or ".join(MATCHES)
        raise ValueError(f"match: found {match!r}, expected {expected}, with unlabelled records to match on")


def stretched(spread: Mapping[str, Any] | None, scores: ArrayLike) -> np.ndarray:
    """Turn scores of a mean into what a single model would give; unchanged without a spread."""
    scores = np.asarray(scores, dtype=np.float64)
    if spread is None:
        return scores
    return calibration.expit(spread["slope"] * calibration.to_logit(scores) + spread["offset"])


def narrowed(spread: Mapping[str, Any], cut: float) -> float:
    """Turn a cut on scores of single models into the cut on their mean; the inverse of `stretched`."""
    return float(calibration.expit((calibration.to_logit(cut) - spread["offset"]) / spread["slope"]))


def for_mean(decision: Mapping[str, Any], spread: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decision with its cuts moved from single models' scores to those of their mean."""

    def narrow(cuts: Mapping[str, float]) -> dict[str, float]:
        return {kind: narrowed(spread, cut) for kind, cut in cuts.items()}

    own = {code: narrow(cuts) for code, cuts in decision["languages"].items()}
    return {**decision, "thresholds": narrow(decision["thresholds"]), "languages": own, "spread": dict(spread)}


def of_run(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decision of a run; of one that never saw `relevance decide`, its searched cuts and no calibration."""
    plain = {"calibration": {"method": "none"}, "thresholds": run["thresholds"], "languages": {}, "spread": None}
    return run.get("decision") or plain


def calibrated(decision: Mapping[str, Any], scores: ArrayLike) -> np.ndarray:
    """Return the calibrated probabilities of an ensemble's scores, shape (n,)."""
    return calibration.apply(decision["calibration"], stretched(decision["spread"], scores))


def check(decision: Any) -> None:
    """Refuse a decision with a defect, such as one from a file that was edited.

    Raises:
        ValueError: What was found and what was expected.
    """
    if not isinstance(decision, dict) or decision.keys() != set(KEYS):
        raise ValueError(f"decision: found {str(decision)[:120]!r}, expected the keys {', '.join(KEYS)}")
    calibration.check(decision["calibration"])
    _check_cuts(decision["thresholds"], "thresholds")
    if not isinstance(decision["languages"], dict):
        raise ValueError("decision.languages: expected cuts by language")
    for code, cuts in decision["languages"].items():
        _check_cuts(cuts, f"languages.{code}")
    spread = decision["spread"]
    if spread is not None:
        numbers = [spread.get(key) for key in ("slope", "offset")] if isinstance(spread, dict) else [None]
        good = all(type(n) in (int, float) and np.isfinite(n) for n in numbers) and spread.keys() == set(SPREAD_KEYS)
        if not good or spread["slope"] <= 0:
            raise ValueError(f"decision.spread: found {str(spread)[:120]!r}, expected slope above 0 and offset")


def _check_cuts(cuts: Any, where: str) -> None:
    good = isinstance(cuts, dict) and cuts.keys() == set(KINDS)
    if not good or not all(is_threshold(kind, cut) for kind, cut in cuts.items()):
        raise ValueError(f"decision.{where}: found {str(cuts)[:120]!r}, expected {', '.join(KINDS)} between 0 and 1")


def is_threshold(kind: str, value: Any) -> bool:
    """Tell whether a threshold can be one that was chosen: at 0 all pairs are relevant, above 1 none.

    A searched one lies between two scores, or between a score and 0 or 1; expected_f1 may come out at the ends.
    """
    number = type(value) in (int, float) and bool(np.isfinite(value))
    return number and (0 < value < 1 or (kind == "expected_f1" and 0 <= value <= 1))


def _cuts(labels: np.ndarray, scores: np.ndarray, fitted: dict[str, Any]) -> dict[str, float]:
    searched, highest = best_threshold(labels, scores)
    expected = calibration.inverse(fitted, expected_f1_threshold(highest))
    macro = best_threshold(labels, scores, "macro_f1")[0]
    return {"f1": searched, "macro_f1": macro, "expected_f1": expected}


def _language_cuts(labels, scores, languages, fitted, whole, shrinkage) -> dict[str, dict[str, float]]:
    codes, found = np.asarray(normal_codes(languages), dtype=object), {}
    if codes.shape != labels.shape:
        raise ValueError(f"languages: found {len(codes)} values for {len(labels)} rows, expected one a row")
    for code in sorted(set(codes)):
        rows = codes == code
        if labels[rows].min() == labels[rows].max():  # one class: no cut is better than another
            continue
        own = _cuts(labels[rows], scores[rows], fitted)
        found[str(code)] = {k: shrunk(own[k], whole[k], int(rows.sum()), shrinkage) for k in KINDS}
    return found
