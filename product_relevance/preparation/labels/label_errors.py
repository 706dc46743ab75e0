"""Find rows whose label the out-of-fold scores contradict, and list them for review: nothing is deleted here."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from product_relevance.utils import run_folder
from product_relevance.utils.extras import how_to_install
from product_relevance.utils.tasks import select_task

TABLE_COLUMNS = (
    "rank", "id", "language", "query", "target", "label", "probability", "suggested_label", "reason", "fold",
)  # fmt: skip
METHODS = {"self": "self-validation", "cleanlab": "confident learning"}
# Of cleanlab.filter.find_label_issues.
FILTERS = (
    "prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "predicted_neq_given",
    "low_normalized_margin", "low_self_confidence",
)  # fmt: skip
THRESHOLD = 0.9
MIN_ROWS_PER_LABEL = 50  # a language with fewer rows of either label has too few for noise rates of its own


def read_scores(folder: str | os.PathLike) -> pd.DataFrame:
    """Read a run's out-of-fold scores.

    Args:
        folder: Run folder.

    Returns:
        id, language, label, score, fold.

    Raises:
        ValueError: No run there, one of two tasks, or one without out-of-fold rows.
    """
    if (Path(folder) / "run.json").is_file():
        select_task(run_folder.load_record(folder), None)
    oof = run_folder.read_oof(Path(folder), run_folder.finished_folds(Path(folder)))
    if oof is None or oof.empty:
        raise ValueError(
            f"{folder}: found no out-of-fold scores, expected a run with at least one finished fold; train folds "
            "(train_relevance.py --fold all): a model cannot judge the rows it was trained on"
        )
    return oof


def join_scores(frame: pd.DataFrame, oof: pd.DataFrame) -> pd.DataFrame:
    """Put the out-of-fold scores beside their records.

    Args:
        frame: Records with id, language, origin_query, target, label.
        oof: From `read_scores`.

    Returns:
        One row per scored record, in the frame's order: id, language (the run's), query, target, label, score, fold.

    Raises:
        ValueError: No id in common, an id that was scored twice, or labels other than those of the training.
    """
    scores = oof.assign(key=oof["id"].astype(str)).drop(columns="id").rename(columns={"label": "trained_label"})
    if scores["key"].duplicated().any():
        raise ValueError(f"out-of-fold scores: id {scores['key'][scores['key'].duplicated()].iloc[0]} is there twice")
    columns = frame[["id", "origin_query", "target", "label"]].rename(columns={"origin_query": "query"})
    scored = columns.assign(key=frame["id"].astype(str)).merge(scores, on="key", how="inner", validate="many_to_one")
    if scored.empty:
        raise ValueError("records: found none of the run's ids, expected the records that it was trained on")
    other = scored["id"][(scored["label"] != scored["trained_label"]).fillna(True)]
    if len(other):
        raise ValueError(
            f"records: {len(other)} labels differ from those of the training (first: id {other.iloc[0]}), "
            "expected the records that the run was trained on: decisions are applied once all are made"
        )
    scored["label"] = scored["label"].astype("int64")
    return scored[["id", "language", "query", "target", "label", "score", "fold"]]


def self_validation(scored: pd.DataFrame, thresholds: Mapping[str, float] | None = None) -> pd.DataFrame:
    """List rows that the model confidently contradicts (Yin et al., arXiv 2510.21671).

    Args:
        scored: From `join_scores`.
        thresholds: The probability that the model must give to the other label. Keys: "*" all rows, "1" rows of that
            label, "de" rows of that language, "de/1" both; the most specific one counts. Default: 0.9 for all.

    Returns:
        The review table (see `TABLE_COLUMNS`), the most contradicted row first. `probability` is the score, the
        probability of relevance.

    Raises:
        ValueError: A threshold outside (0, 1], or a key that is no label or language of these rows.
    """
    flagged = contradiction(scored) >= _row_thresholds(scored, {"*": THRESHOLD} | dict(thresholds or {}))
    return _table(scored, flagged, METHODS["self"])


def check_thresholds(thresholds: Mapping[str, float]) -> None:
    """Raise ValueError if a threshold is no probability.

    Raises:
        ValueError: A threshold outside (0, 1].
    """
    for key, threshold in thresholds.items():
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold of {key}: found {threshold}, expected a probability over 0 and up to 1")


def confident_learning(
    scored: pd.DataFrame, filter_by: str = "prune_by_noise_rate", by_language: bool = False
) -> pd.DataFrame:
    """List rows whose label confident learning takes for wrong (Northcutt et al. 2021, by cleanlab).

    Args:
        scored: From `join_scores`.
        filter_by: cleanlab's rule, one of `FILTERS`.
        by_language: Estimate the noise of each language for itself; languages with fewer than 50 rows of either
            label are taken together.

    Returns:
        The review table, as from `self_validation`.

    Raises:
        ValueError: Another rule, rows of only one label, or cleanlab is not installed.
    """
    if filter_by not in FILTERS:
        raise ValueError(f"filter_by: found {filter_by!r}, expected one of {', '.join(FILTERS)}")
    groups = _groups(scored) if by_language else np.zeros(len(scored), dtype=int)
    flagged = np.zeros(len(scored), dtype=bool)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        labels, scores = scored["label"].to_numpy()[rows], scored["score"].to_numpy()[rows]
        if len(np.unique(labels)) < 2:
            languages = ", ".join(sorted(set(scored["language"].iloc[rows])))
            raise ValueError(
                f"confident learning: rows of {languages} have one label only; without by_language it works"
            )
        flagged[rows] = load_cleanlab()(labels, np.stack([1 - scores, scores], axis=1), filter_by=filter_by, n_jobs=1)
    return _table(scored, flagged, METHODS["cleanlab"])


def contradiction(scored: pd.DataFrame) -> np.ndarray:
    """Return the probability that the model gives to the label a row does not have, shape (rows,)."""
    return np.where(scored["label"] == 1, 1 - scored["score"], scored["score"])


def count_flagged(table: pd.DataFrame, scored: pd.DataFrame) -> pd.DataFrame:
    """Count flagged rows.

    Args:
        table: A review table.
        scored: The rows it was made of.

    Returns:
        One row per language and label: rows, flagged, share (of the rows that are flagged).
    """
    rows = scored.groupby(["language", "label"]).size().rename("rows")
    flagged = table.groupby(["language", "label"]).size().reindex(rows.index, fill_value=0).rename("flagged")
    counts = pd.concat([rows, flagged], axis=1).reset_index()
    return counts.assign(share=counts["flagged"] / counts["rows"])


def _table(scored: pd.DataFrame, flagged: np.ndarray, method: str) -> pd.DataFrame:
    order = np.argsort(-contradiction(scored), kind="stable")
    table = scored.iloc[order[flagged[order]]].rename(columns={"score": "probability"}).reset_index(drop=True)
    table["suggested_label"] = 1 - table["label"]
    reasons = table["label"].map({0: "labelled irrelevant", 1: "labelled relevant"})
    table["reason"] = (f"{method}: " + reasons).astype("str")
    table["rank"] = np.arange(1, len(table) + 1)
    return table[list(TABLE_COLUMNS)]


def _row_thresholds(scored: pd.DataFrame, thresholds: Mapping[str, float]) -> np.ndarray:
    languages, labels = scored["language"].to_numpy(dtype=object), scored["label"].to_numpy()
    check_thresholds(thresholds)
    row_thresholds = np.full(len(scored), np.nan)
    # From the general to the special: all rows, a label, a language, a label of a language.
    for key in sorted(thresholds, key=lambda key: (key != "*", key not in ("0", "1"), "/" in key)):
        language, _, label = key.rpartition("/") if "/" in key or key in ("0", "1") else (key, "", "")
        rows = np.ones(len(scored), dtype=bool) if key == "*" else _rows_of(languages, labels, language, label)
        if not rows.any():
            found = ", ".join(sorted(set(languages)))
            raise ValueError(
                f"threshold of {key!r}: no such row, expected *, 0, 1, a language ({found}) or language/label"
            )
        row_thresholds[rows] = thresholds[key]
    return row_thresholds


def _rows_of(languages: np.ndarray, labels: np.ndarray, language: str, label: str) -> np.ndarray:
    return ((languages == language) | (language == "")) & ((labels.astype(str) == label) | (label == ""))


def _groups(scored: pd.DataFrame) -> np.ndarray:
    counts = scored.groupby(["language", "label"]).size().unstack(fill_value=0).reindex(columns=[0, 1], fill_value=0)
    large = counts.index[counts.min(axis=1) >= MIN_ROWS_PER_LABEL]
    return np.where(scored["language"].isin(large), scored["language"], "").astype(str)


def load_cleanlab() -> Callable[..., np.ndarray]:
    """Return cleanlab's search for label issues.

    Raises:
        ValueError: cleanlab is not installed.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        raise ValueError(
            f"confident learning needs cleanlab: {how_to_install('prepare')}, or use the method self"
        ) from None
    return find_label_issues
