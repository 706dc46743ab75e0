"""Measure calibrations and thresholds on rows that neither was fitted on, and write the choice into a run."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import log_loss, roc_auc_score

from product_relevance.evaluation import thresholds
from product_relevance.evaluation.calibration import METHODS
from product_relevance.evaluation.confusion import measure_thresholds
from product_relevance.evaluation.decision_rule import KINDS, DecisionRule, check_decision
from product_relevance.evaluation.grade_calibration import calibrate_grades
from product_relevance.evaluation.reliability import measure_reliability
from product_relevance.evaluation.reports.grade_report import lay_out_calibration
from product_relevance.evaluation.reports.report import decision_table, write_report
from product_relevance.evaluation.thresholds import DecisionOptions
from product_relevance.utils import run_folder
from product_relevance.utils.tasks import select_task

PARTS = 5  # where a run has one fold only
OTHERS, SAME = "other folds", "the same rows (optimistic)"
ISOTONIC = DecisionOptions("isotonic")

# What is fitted on rows, and what it makes of rows: probabilities (n,) and, by kind of threshold, 0 or 1 (n,).
Fit = Callable[[pd.DataFrame], Any]
Use = Callable[[Any, pd.DataFrame], tuple[np.ndarray, dict[str, np.ndarray]]]


def name_parts(oof: pd.DataFrame) -> np.ndarray:
    """Name the part of each out-of-fold row: its fold, or one of five by its id where there is one fold only.

    A calibration and a threshold have so few parameters that rows of one query on both sides teach them nothing; the
    models themselves never saw any of these rows.
    """
    if oof["fold"].nunique() > 1:
        return oof["fold"].astype(str).to_numpy(object)
    hashes = pd.util.hash_pandas_object(oof["id"].astype(str), index=False)
    return (hashes % PARTS).astype(str).to_numpy(object)


def judge_rows(oof: pd.DataFrame, fit: Fit, use: Use) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Judge the rows of each part with what was fitted on the other parts only.

    Args:
        oof: n out-of-fold rows with id, fold and whatever `fit` and `use` read.
        fit: Gets rows with labels.
        use: Gets what was fitted, and rows whose labels it must not read.

    Returns:
        Probabilities of shape (n,), and by kind of threshold 0 or 1, shape (n,).

    Raises:
        ValueError: There is one part only.
    """
    names = name_parts(oof)
    if len(set(names)) < 2:
        raise ValueError(f"{len(oof)} out-of-fold rows in one part: too few to fit on some and judge the others")
    scores = np.empty(len(oof))
    called: dict[str, np.ndarray] = {}
    for name in sorted(set(names)):
        judged = names == name
        scores[judged], decided = use(fit(oof[~judged]), oof[judged])
        for kind, values in decided.items():
            called.setdefault(kind, np.zeros(len(oof)))[judged] = values
    return scores, called


def measure_decision(oof: pd.DataFrame, fit: Fit, use: Use, **names: Any) -> list[dict[str, Any]]:
    """Measure one way to decide, on rows that it was not fitted on and, beside it, on those that it was.

    Returns:
        Two rows with `names`, fitted on, f1 and expected_f1 (F1 at the thresholds of these kinds), macro_f1, auc, ece,
        log_loss; for a goal such as precision_0.9 the precision and the recall at its threshold. The first row is
        honest; the second shows how optimistic the usual way is.

    Raises:
        ValueError: As `judge_rows`.
    """
    honest, same = judge_rows(oof, fit, use), use(fit(oof), oof)
    labels = oof["label"].to_numpy(int)
    return [names | {"fitted on": o} | _measured(labels, *r) for o, r in ((OTHERS, honest), (SAME, same))]


def _measured(labels: np.ndarray, scores: np.ndarray, called: dict[str, np.ndarray]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for kind, values in called.items():
        outcome = measure_thresholds(labels, np.asarray(values, dtype=np.float64), [0.5])
        if kind in KINDS:
            found[kind] = float(outcome["macro_f1" if kind == "macro_f1" else "f1"][0])
        else:  # a goal
            found |= {f"{name} at {kind}": float(outcome[name][0]) for name in ("precision", "recall")}
    both = 0 < labels.sum() < len(labels)
    found |= {"auc": float(roc_auc_score(labels, scores)) if both else None}
    return found | {
        "ece": measure_reliability(labels, scores)["ece"],
        "log_loss": float(log_loss(labels, scores, labels=[0, 1])),
    }


def make_decider(options: DecisionOptions) -> tuple[Fit, Use]:
    """Return the `fit` and `use` of a calibration and its thresholds, for rows with label, score, given_language."""

    def fit(rows: pd.DataFrame) -> dict[str, Any]:
        chosen = rows["label"], rows["score"], rows["given_language"].tolist()
        return thresholds.fit_decision(*chosen, options) | {"spread": None}

    def use(decision: dict[str, Any], rows: pd.DataFrame) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        scores, codes = rows["score"].to_numpy(float), rows["given_language"].tolist()
        rule = DecisionRule.from_json(decision)
        called = {kind: scores >= rule.row_thresholds(codes, kind) for kind in rule.thresholds}
        return rule.calibrate(scores), called

    return fit, use


def compare_calibrations(oof: pd.DataFrame, options: DecisionOptions) -> list[dict[str, Any]]:
    """Measure every calibration with global thresholds, and the given one with thresholds by language."""
    ways = [replace(options, calibration=name, by="global") for name in METHODS] + [replace(options, by="language")]
    return [
        row
        for way in ways
        for row in measure_decision(
            oof,
            *make_decider(way),
            calibration=way.calibration,
            cuts=f"by {way.by}" if way.by != "global" else way.by,
        )
    ]


def decide_run(
    folder: str | os.PathLike[str],
    options: DecisionOptions = ISOTONIC,
    unlabelled: dict[str, Any] | None = None,
    match: str = "folds",
    dry_run: bool = False,
) -> str:
    """Choose calibration and thresholds of a finished run, and write them into its run.json and report.

    Args:
        folder: Of the run.
        options: Calibration and kind of thresholds.
        unlabelled: From `prediction.score_unlabelled`; with it the thresholds are moved to where the mean of the folds
            lies.
        match: What its mean and deviation there are matched to: `folds`, the single folds' on the same rows, or
            `training`, those of the out-of-fold scores; see `thresholds.fit_spread`.
        dry_run: Compare and write nothing.

    Returns:
        A table for the terminal.

    Raises:
        ValueError: No run there, or one without out-of-fold rows; a match without rows to match on.
    """
    run = Path(folder)
    thresholds.check_match(match, unlabelled)
    record = select_task(run_folder.load_record(run), None)
    names = record.fold_names
    oof = run_folder.read_oof(run, names)
    if oof is None or "given_language" not in oof:
        raise ValueError(
            f"{folder}: no out-of-fold scores with languages to choose on; train folds (train_relevance.py --fold all)"
        )
    chosen = oof["label"], oof["score"], oof["given_language"].tolist()
    decision: dict[str, Any] = thresholds.fit_decision(*chosen, options) | {"spread": None}
    decision |= {"from": record.thresholds_from, "figures": compare_calibrations(oof, options)}
    if unlabelled is not None:
        decision = thresholds.move_thresholds(decision, unlabelled, oof["score"], match)
    check_decision(decision)
    graded = calibrate_grades(oof, name_parts(oof)) if "grade" in oof and options.calibration != "none" else None
    found = {"decision": decision} | ({"grade_calibration": graded} if "grade" in oof else {})
    if not dry_run:
        content = run_folder.load_run(run) | found  # all else stays as it was written
        run_folder.write_json(run / "run.json", content)
        honest, _ = judge_rows(oof, *make_decider(options))
        histories = {
            name: run_folder.read_json(run_folder.fold_folder(run, name) / "fold.json")["history"] for name in names
        }
        write_report(folder, content, oof.assign(calibrated=honest), histories)
    return "\n\n".join([decision_table(decision), *lay_out_calibration(graded)])
