"""A labelled file scored and decided as `relevance predict` would, row by row, with what is known of its rows."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from product_relevance.data import loading
from product_relevance.data.folds import hash_texts, query_keys
from product_relevance.data.sources.tables import Source
from product_relevance.ensemble import outputs
from product_relevance.ensemble.files.predict_file import read_records_for, score_records
from product_relevance.ensemble.scoring_arguments import FileOptions
from product_relevance.evaluation.reports.error_report import JudgedRows, compute_losses, write_error_report
from product_relevance.text.taxonomy import split_path
from product_relevance.utils.run_folder import read_queries
from product_relevance.utils.tasks import LABELS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JudgedFile:
    """What a run says of n labelled rows.

    Attributes:
        ensemble: The run, of the file's task.
        frame: The records, with labels.
        scores: Probabilities of the ensemble, shape (n,).
        folds: Of each fold, shape (n, folds).
        thresholds: From which each row counts as relevant, shape (n,).
        queries: Key of each row's query, shape (n,): equal texts have equal keys.
        known: Whether the run's training file had the query, shape (n,).
    """

    ensemble: Any
    frame: pd.DataFrame
    scores: np.ndarray
    folds: np.ndarray
    thresholds: np.ndarray
    queries: np.ndarray
    known: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """The labels, shape (n,)."""
        return self.frame["label"].to_numpy(int)

    @property
    def gains(self) -> np.ndarray:
        """The grades of a graded run, else the labels, shape (n,)."""
        return self.frame["grade" if "grade" in self.frame else "label"].to_numpy(int)

    @property
    def relevant_from(self) -> int:
        """The lowest of the gains that counts as relevant."""
        return int(self.ensemble.run["relevant_from"]) if "grade" in self.frame else 1

    @property
    def relevant(self) -> np.ndarray:
        """Whether each row counts as relevant, shape (n,)."""
        found: np.ndarray = self.scores >= self.thresholds
        return found


def judge_file(ensemble: Any, file: str | Source, options: FileOptions) -> JudgedFile:
    """Score and decide a labelled file; queries of the training file are reported in the log.

    Args:
        ensemble: RelevanceEnsemble or RelevanceStack.
        file: Labelled records.
        options: How they are read, scored and decided.

    Raises:
        ValueError: Bad records, or records without labels.
    """
    vote = ensemble.checked_vote(options.vote)
    ensemble, frame = read_records_for(ensemble, file, "any", options.on_bad_rows)
    if "label" not in frame or frame["label"].isna().any():
        raise ValueError(f"{frame.attrs['source']}: rows without a label; predict needs none, this command does")
    loading.require_translations(frame, ensemble.run, options.translation, options.max_missing_translations)
    ensemble.rule.threshold(options.threshold, vote)  # an unknown one is found before the scoring
    scores, folds = score_records(ensemble, frame, vote=vote, translation=options.translation)
    thresholds = ensemble.rule.row_thresholds(frame["language"].tolist(), options.threshold, vote)
    queries = query_keys(frame)[0]
    return JudgedFile(ensemble, frame, scores, folds, thresholds, queries, _known_queries(ensemble, frame, queries))


def _known_queries(ensemble: Any, frame: pd.DataFrame, queries: np.ndarray) -> np.ndarray:
    """Return which rows, shape (n,), have a query of the run's training file, and say so in the log."""
    kept = [found for found in map(read_queries, ensemble.run_folders) if found is not None]
    same = frame.attrs["sha256"] == ensemble.run["data"]["sha256"]
    known = np.isin(hash_texts(queries), np.concatenate(kept)) if kept else np.full(len(queries), same)
    if known.any():
        logger.warning(
            "%s: %d of %d rows have one of %d queries of the training file: the models were trained on them or chosen "
            "by them, so figures on them say little about new queries",
            *(frame.attrs["source"], known.sum(), len(known), len(set(queries[known]))),
        )
    return known


def report_errors(judged: JudgedFile, threshold: str, folder: str) -> Path:
    """Write the page of `evaluation.error_report` on a judged file, and beside it `rows.csv`; returns the page's path.

    The table holds each row with its texts, those with the largest loss first.
    """
    frame, tree = judged.frame, getattr(judged.ensemble, "taxonomy", None)
    levels = None
    if (frame["task"] == "QC").all():
        first = {path: (split_path(path, tree) or [path])[0] for path in frame["target"].unique()}
        levels = frame["target"].map(first).tolist()
    rows = JudgedRows(frame, judged.scores, judged.thresholds, judged.queries, judged.known, levels)
    page = write_error_report(folder, rows, judged.ensemble.rule.threshold(threshold), judged.ensemble.run["data"])
    outputs.write_rows(_lay_out_judged(judged), page.with_name("rows.csv"))
    return page


def _lay_out_judged(judged: JudgedFile) -> pd.DataFrame:
    """Return id, language, query, target, score, decision, label and loss of each row; of graded rows both grades."""
    frame, scores = judged.frame, pd.DataFrame({"score": judged.scores, "prediction": judged.relevant})
    if "grade" in frame and (decided := judged.ensemble.decide_grades(judged.scores)) is not None:
        scores["grade"] = decided
    table = outputs.lay_out_rows(frame, scores).rename(columns={"grade": "decided_grade"})
    if "decided_grade" in table:
        table["true_grade"] = frame["grade"].to_numpy()
    table["label"] = [LABELS[label] for label in judged.labels]
    table["loss"] = compute_losses(judged.labels, judged.scores)
    return table.sort_values("loss", ascending=False, kind="stable")
