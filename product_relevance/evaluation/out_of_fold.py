"""Choose a run's thresholds on its out-of-fold scores, and write its figures and reports, for each of its tasks."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from product_relevance.evaluation import metrics
from product_relevance.evaluation.decision import name_parts
from product_relevance.evaluation.grades import decide_grades, fit_grade_thresholds, measure_grades, space_thresholds
from product_relevance.evaluation.ranking import measure_out_of_fold
from product_relevance.evaluation.reports.loss_curve import History
from product_relevance.evaluation.reports.markdown_tables import metrics_table
from product_relevance.evaluation.reports.report import write_report
from product_relevance.utils import run_folder
from product_relevance.utils.files import atomic_write, sha256_of
from product_relevance.utils.run_record import FinishedRunRecord, RunRecord
from product_relevance.utils.tasks import BOTH, BY_TASK, select_task, task_names

logger = logging.getLogger(__name__)
COLUMNS = {
    "task": "task", "rows": "rows", "positive": "positive", "floor_f1": "floor F1", "f1": "F1",
    "threshold": "threshold",
    "macro_f1_at_macro_threshold": "macro-F1 (own threshold)", "auc": "AUC", "report": "report",
}  # fmt: skip


def compute_metrics_by_task(prediction: Any, tasks: ArrayLike) -> dict[str, float]:
    """Measure an evaluation of a model of two tasks: each at its own thresholds, as it decides, and their mean.

    Args:
        prediction: as in `metrics.compute_metrics`.
        tasks: of its rows, shape (n,).

    Returns:
        What `metrics.compute_metrics` gives, as the mean over the tasks (without a threshold, which has none), and as
        `NAME_TASK` for each of them.

    Raises:
        ValueError: as `metrics.compute_metrics`.
    """
    logits, tasks = prediction.predictions, np.asarray(tasks)
    logits, labels = np.asarray(logits[0] if isinstance(logits, tuple) else logits), np.asarray(prediction.label_ids)
    parts = {}
    for task in np.unique(tasks).tolist():
        rows = tasks == task
        parts[task] = metrics.compute_metrics(SimpleNamespace(predictions=logits[rows], label_ids=labels[rows]))
    common = set.intersection(*(set(part) for part in parts.values())) - {"threshold"}
    means = {name: float(np.mean([part[name] for part in parts.values()])) for name in sorted(common)}
    return means | {f"{name}_{task}": value for task, part in parts.items() for name, value in part.items()}


def fold_metrics(record: RunRecord, oof: pd.DataFrame) -> dict[str, Any]:
    """Measure the scores of one fold at its own best threshold; of both tasks by task.

    Args:
        record: of the run.
        oof: label, score, language, query_digest (older runs lack it), and task where there are two.
    """
    if "task" in oof:
        return {str(task): fold_metrics(record, part.drop(columns="task")) for task, part in oof.groupby("task")}
    threshold = metrics.best_threshold(oof["label"], oof["score"])[0]
    facts = metrics.RowFacts(oof["language"], queries=oof.get("query_digest"))
    return metrics.scores_report(oof["label"], oof["score"], threshold, facts) | _measure_ranking(record, oof)


def _measure_ranking(record: RunRecord, oof: pd.DataFrame) -> dict[str, Any]:
    """Return `ranking`, as of `ranking.measure_out_of_fold`; nothing where the run names no measures."""
    names = record.arguments.get("data", {}).get("ranking_measures")  # older runs have none
    return {"ranking": measure_out_of_fold(oof, names, record.relevant_from or 1)} if names else {}


def task_rows(oof: pd.DataFrame | None, task: str) -> pd.DataFrame | None:
    """Return the out-of-fold rows of one of two tasks; None without any, as of a language that it lacks."""
    part = None if oof is None else oof[oof["task"] == task].drop(columns="task").reset_index(drop=True)
    return part if part is not None and len(part) else None


def choose_thresholds(record: RunRecord, oof: pd.DataFrame | None) -> dict[str, Any]:
    """Choose the thresholds of a run and measure it at them.

    Args:
        record: of the run.
        oof: out-of-fold rows; None where no fold validated.

    Returns:
        thresholds, thresholds_from, metrics; each by task where there are two. Of graded rows also grade_thresholds.
    """
    if record.task == BOTH:
        by_task: dict[str, dict[str, Any]] = {}
        for task in task_names(BOTH):
            alone = replace(record, task=task, data=record.data["tasks"][task])
            by_task[task] = choose_thresholds(alone, task_rows(oof, task))
        return {key: {task: part[key] for task, part in by_task.items()} for key in BY_TASK}
    if oof is None:
        default = {"thresholds": {"f1": 0.5, "macro_f1": 0.5}, "thresholds_from": "default", "metrics": None}
        return default | ({"grade_thresholds": space_thresholds(count)} if (count := len(record.labels)) > 2 else {})
    labels, scores = oof["label"], oof["score"]
    chosen: dict[str, float] = {}
    best: dict[str, float] = {}
    for kind in ("f1", "macro_f1"):
        chosen[kind], best[kind] = metrics.best_threshold(labels, scores, kind)
    seen = record.data["languages"] if record.folds_by["held_out_languages"] else None
    facts = metrics.RowFacts(oof["language"].tolist(), seen, queries=oof.get("query_digest"))
    found = metrics.final_report(labels, scores, chosen["f1"], facts) | _measure_ranking(record, oof)
    found["macro_f1_at_macro_threshold"] = best["macro_f1"]
    graded = choose_grades(oof, len(record.labels)) if "grade" in oof else None
    if graded is not None:
        found["grades"] = graded["measured"]
    chosen_grades = {} if graded is None else {"grade_thresholds": graded["thresholds"]}
    return chosen_grades | {"thresholds": chosen, "thresholds_from": f"{len(oof)} out-of-fold rows", "metrics": found}


def choose_grades(oof: pd.DataFrame, count: int) -> dict[str, Any]:
    """Choose the thresholds between the grades on all rows, and measure such thresholds on rows of other folds.

    Args:
        oof: grade, score, id, fold, and query_digest where known.
        count: Number of grades K.

    Returns:
        thresholds (K - 1, rising); measured, as `measure_grades` gives it.
    """
    grades, scores, parts = oof["grade"].to_numpy(int), oof["score"].to_numpy(float), name_parts(oof)
    decided = np.zeros(len(oof), int)
    for part in set(parts):
        here = parts == part
        fitted = (
            fit_grade_thresholds(grades[~here], scores[~here], count) if not here.all() else space_thresholds(count)
        )
        decided[here] = decide_grades(scores[here], fitted)
    measured = measure_grades(grades, decided, count, oof.get("query_digest"))
    return {"thresholds": fit_grade_thresholds(grades, scores, count), "measured": measured}


def write_reports(
    folder: Path, record: FinishedRunRecord, oof: pd.DataFrame | None, histories: Mapping[str, History]
) -> str:
    """Write report.md with its pictures; of both tasks one in a folder of each, and a page that names them.

    Args:
        folder: of the run.
        record: of the run.
        oof: out-of-fold rows; None where no fold validated.
        histories: fold name to the Trainer's log_history.

    Returns:
        A table for the terminal.
    """
    if record.task != BOTH:
        return write_report(folder, record.to_json(), oof, histories)
    tables: list[str] = []
    rows: list[dict[str, Any]] = []
    for task in task_names(BOTH):
        alone = select_task(record, task)
        own = Path(folder) / task
        own.mkdir(exist_ok=True)
        tables.append(f"{task}\n{write_report(own, alone.to_json(), task_rows(oof, task), histories)}")
        rows.append({**(alone.metrics or {})} | {"task": task, "report": f"[{task}/report.md]({task}/report.md)"})
    base, mixing = Path(record.base["name"]).name, record.arguments["data"]["task_mixing"]
    text = f"# {BOTH}: {base}\n\nOne model for both tasks, mixing {mixing}; thresholds are each task's own.\n\n"
    with atomic_write(Path(folder) / "report.md") as file:
        file.write(f"{text}{metrics_table(rows, COLUMNS)}\n")
    return "\n\n".join(tables)


def finish_run(folder: Path, record: RunRecord) -> tuple[FinishedRunRecord, str]:
    """Join the finished folds: thresholds from the out-of-fold scores, run.json, report.md and pictures.

    Args:
        folder: of the run, with its finished folds.
        record: of the run before any fold.

    Returns:
        What run.json says, and a table for the terminal.

    Raises:
        ValueError: folds that were made in different ways.
    """
    names = run_folder.finished_folds(folder)
    run_folder.check_shared(folder, record)
    folds, oof = run_folder.read_folds(folder, names), run_folder.read_oof(folder, names)
    tree = folder / "taxonomy.json"
    finished = replace(
        run_folder.join_folds(record, folds),
        taxonomy_sha256=sha256_of(tree) if tree.is_file() else None,
        **choose_thresholds(record, oof),
    )
    if oof is None:
        logger.warning("no fold validated: the threshold is 0.5, which is rarely the best; train folds to choose one")
    else:
        oof.to_parquet(folder / "oof.parquet", index=False)
    run_folder.write_json(folder / "run.json", finished.to_json())
    return finished, write_reports(folder, finished, oof, {fold.name: fold.history or [] for fold in folds})
