"""The splits of a run: K folds, one split that leaves languages out, or all rows without validation."""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from product_relevance.data import folds
from product_relevance.data.arguments import DataArguments
from product_relevance.data.folds import FoldAssignment
from product_relevance.data.leakage import LeakReport, require_no_leak
from product_relevance.data.provenance import ORIGINAL

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to train on and to validate on, with the leakage table that was checked.

    Attributes:
        name: of the model to train.
        train, valid: row numbers.
        report: the leakage table.
        assignment: of every fold of the same division, trained now or not; None where no fold validates.
    """

    name: str
    train: np.ndarray
    valid: np.ndarray
    report: str = ""
    assignment: FoldAssignment | None = None

    @property
    def valid_digests(self) -> dict[str, dict[str, str]]:
        """What run.json keeps of the assignment; empty where no fold validates."""
        return self.assignment.to_json() if self.assignment else {}


def make_splits(frame: pd.DataFrame, arguments: DataArguments) -> list[Split]:
    """Make the splits that `--fold` and its companions name, each checked for leaks.

    Rows that were made from others (`method` other than "original") are trained on, never validated on, and never
    where their source is held out.

    Args:
        frame: records with columns; a column `fold`, as dataset_scripts/prepare.py writes it, is taken as it is.
        arguments: of the run.

    Returns:
        One split a model to train.

    Raises:
        LeakageError: training and validation rows share a query, a translation or a group.
        ValueError: given folds that are not 0 to `--num_folds` less 1.
    """
    if arguments.held_out_languages:
        train, valid = folds.leave_languages_out(frame, arguments.held_out_languages)
        train, valid = _without_made_rows(frame, train, valid)
        name = "held-out-" + "-".join(sorted(arguments.held_out_languages))
        assignment = FoldAssignment.from_rows(frame, np.where(valid, name, ""))
        report = require_no_leak(frame, train, valid)
        return [_make_split(name, train, assignment, report)]
    if arguments.fold == "full":
        return [Split("full", np.arange(len(frame)), np.arange(0), "full: no validation rows")]
    numbers = _given(frame, arguments.num_folds) if "fold" in frame else _assigned(frame, arguments)
    original = (frame["method"] == ORIGINAL).to_numpy() if "method" in frame else np.ones(len(frame), dtype=bool)
    names = np.char.add("fold-", numbers.astype(str))
    assignment = FoldAssignment.from_rows(frame, np.where(original, names, ""))
    wanted = range(arguments.num_folds) if arguments.fold == "all" else [int(arguments.fold)]
    return [_fold(frame, numbers, assignment, k, arguments) for k in wanted]


def _fold(
    frame: pd.DataFrame, numbers: np.ndarray, assignment: FoldAssignment, k: int, arguments: DataArguments
) -> Split:
    train, purged = folds.training_rows(frame, numbers, k, arguments.group_by)
    if purged:
        logger.info("fold-%d: %d training rows share a query with the validation side and are left out", k, purged)
    train, valid = _without_made_rows(frame, train, numbers == k)
    report = require_no_leak(frame, train, valid, arguments.group_by, arguments.prefix_levels)
    return _make_split(f"fold-{k}", train, assignment, report)


def _make_split(name: str, train: np.ndarray, assignment: FoldAssignment, report: LeakReport) -> Split:
    valid = np.flatnonzero(assignment.validated_by(name))
    return Split(name, np.flatnonzero(train), valid, f"{name}\n{report.to_text()}", assignment)


def _given(frame: pd.DataFrame, num_folds: int) -> np.ndarray:
    found = pd.to_numeric(frame["fold"], errors="coerce")
    if set(found.unique()) != set(range(num_folds)):
        given = sorted(frame["fold"].astype(str).unique())[:8]
        raise ValueError(
            f"{frame.attrs.get('source', 'records')}: field 'fold': found {', '.join(given)}, expected each of 0 to "
            f"{num_folds - 1}: give --num_folds as the file was prepared, or leave that field out"
        )
    return found.to_numpy(int)


def _assigned(frame: pd.DataFrame, arguments: DataArguments) -> np.ndarray:
    if "method" in frame and (frame["method"] != ORIGINAL).any():
        raise ValueError(
            f"{frame.attrs.get('source', 'records')}: found made rows (field 'method') but no field 'fold': only the "
            "folds that they were made in keep them from their validation rows; prepare the file with folds"
        )
    by = (arguments.group_by, arguments.prefix_levels)
    return folds.assign_folds(frame, arguments.num_folds, *by, arguments.fold_seed)


def _without_made_rows(frame: pd.DataFrame, train: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if "method" not in frame:
        return train, valid
    valid = valid & (frame["method"] == ORIGINAL).to_numpy()
    ids, sources = (frame["task"] + "\x1f" + frame[column].astype(str) for column in ("id", "source_row"))
    derived = sources.isin(set(ids[valid])).to_numpy()
    return train & ~(derived & ~valid), valid
