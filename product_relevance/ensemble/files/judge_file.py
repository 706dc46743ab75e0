"""A labelled file scored and decided as `relevance predict` would, row by row, with what is known of its rows."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from product_relevance.data import loading
from product_relevance.data.folds import hash_texts, query_keys
from product_relevance.data.sources.tables import Source
from product_relevance.ensemble.files.predict_file import read_records_for, score_records
from product_relevance.ensemble.scoring_arguments import FileOptions
from product_relevance.utils.run_folder import read_queries

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
        return int(self.ensemble.run.relevant_from) if "grade" in self.frame else 1

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
    loading.require_translations(frame, ensemble.run.columns, options.translation, options.max_missing_translations)
    ensemble.rule.threshold(options.threshold, vote)  # an unknown one is found before the scoring
    scores, folds = score_records(ensemble, frame, vote=vote, translation=options.translation)
    thresholds = ensemble.rule.row_thresholds(frame["language"].tolist(), options.threshold, vote)
    queries = query_keys(frame)[0]
    return JudgedFile(ensemble, frame, scores, folds, thresholds, queries, _known_queries(ensemble, frame, queries))


def _known_queries(ensemble: Any, frame: pd.DataFrame, queries: np.ndarray) -> np.ndarray:
    """Return which rows, shape (n,), have a query of the run's training file, and say so in the log."""
    kept = [found for found in map(read_queries, ensemble.run_folders) if found is not None]
    same = frame.attrs["sha256"] == ensemble.run.data["sha256"]
    known = np.isin(hash_texts(queries), np.concatenate(kept)) if kept else np.full(len(queries), same)
    if known.any():
        logger.warning(
            "%s: %d of %d rows have one of %d queries of the training file: the models were trained on them or chosen "
            "by them, so figures on them say little about new queries",
            *(frame.attrs["source"], known.sum(), len(known), len(set(queries[known]))),
        )
    return known
