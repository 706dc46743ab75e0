"""The splits of a run: K folds, one split that leaves languages out, or all rows without validation."""

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from product_relevance.data import folds
from product_relevance.data.arguments import DataArguments
from product_relevance.data.leakage import require_no_leak
from product_relevance.data.provenance import ORIGINAL

logger = logging.getLogger(__name__)


@dataclass
class Split:
    """Rows to train on and to validate on, with the leakage table that was checked.

    Attributes:
        name: of the model to train.
        train, valid: row numbers.
        report: the leakage table.
        division: of every fold of the same division, trained now or not, the `valid_digests`.
    """

    name: str
    train: np.ndarray
    valid: np.ndarray
    report: str = ""
    division: dict[str, dict[str, str]] = field(default_factory=dict)


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
        split = _checked_split(name, frame, (train, valid), "query")
        split.division = {name: valid_digests(frame[valid])}
        return [split]
    if arguments.fold == "full":
        return [Split("full", np.arange(len(frame)), np.arange(0), "full: no validation rows")]
    assigned = _given(frame, arguments.num_folds) if "fold" in frame else _assigned(frame, arguments)
    wanted = range(arguments.num_folds) if arguments.fold == "all" else [int(arguments.fold)]
    found = [_fold(frame, assigned, k, arguments) for k in wanted]
    original = (frame["method"] == ORIGINAL).to_numpy() if "method" in frame else True
    division = {f"fold-{k}": valid_digests(frame[(assigned == k) & original]) for k in range(arguments.num_folds)}
    for split in found:
        split.division = division
    return found


def valid_digests(rows: pd.DataFrame) -> dict[str, str]:
    """Name the rows that a fold validates on, by task: folds of two runs with one name leave out the same rows.

    Settings do not show it: folds depend on the corrected languages and the translations too.

    Args:
        rows: with `id` and `task`, in any order.

    Returns:
        Task to a sha256 of its ids.
    """
    return {str(task): _digest(part["id"].astype(str)) for task, part in rows.groupby("task")}


def _digest(ids: Iterable[str]) -> str:
    return hashlib.sha256("\x1f".join(sorted(ids)).encode("utf-8", "surrogatepass")).hexdigest()


def _fold(frame: pd.DataFrame, assigned: np.ndarray, k: int, arguments: DataArguments) -> Split:
    train, purged = folds.training_rows(frame, assigned, k, arguments.group_by)
    if purged:
        logger.info("fold-%d: %d training rows share a query with the validation side and are left out", k, purged)
    sides = _without_made_rows(frame, train, assigned == k)
    return _checked_split(f"fold-{k}", frame, sides, arguments.group_by, arguments.prefix_levels)


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


def _checked_split(
    name: str, frame: pd.DataFrame, sides: tuple[np.ndarray, np.ndarray], group_by: str, prefix_levels: int = 2
) -> Split:
    train, valid = sides
    report = require_no_leak(frame, train, valid, group_by, prefix_levels)
    return Split(name, np.flatnonzero(train), np.flatnonzero(valid), f"{name}\n{report.to_text()}")
