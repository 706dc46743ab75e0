"""The splits of a run: K folds, one split that leaves languages out, or all rows without validation."""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from product_relevance import folds
from product_relevance.arguments import DataArguments
from product_relevance.leakage import require_no_leak

logger = logging.getLogger(__name__)


@dataclass
class Split:
    """Rows to train on and to validate on, with the leakage table that was checked."""

    name: str
    train: np.ndarray
    valid: np.ndarray
    report: str = ""


def make_splits(frame: pd.DataFrame, arguments: DataArguments) -> list[Split]:
    """Make the splits that `--fold` and its companions name, each checked for leaks.

    Args:
        frame: records with columns.
        arguments: of the run.

    Returns:
        One split a model to train.

    Raises:
        LeakageError: training and validation rows share a query, a translation or a group.
    """
    if arguments.held_out_languages:
        train, valid = folds.leave_languages_out(frame, arguments.held_out_languages)
        return [_checked("held-out-" + "-".join(sorted(arguments.held_out_languages)), frame, train, valid, "query")]
    if arguments.fold == "full":
        return [Split("full", np.arange(len(frame)), np.arange(0), "full: no validation rows")]
    assigned = folds.assign_folds(
        frame, arguments.num_folds, arguments.group_by, arguments.prefix_levels, arguments.fold_seed
    )
    wanted = range(arguments.num_folds) if arguments.fold == "all" else [int(arguments.fold)]
    return [_fold(frame, assigned, k, arguments) for k in wanted]


def _fold(frame: pd.DataFrame, assigned: np.ndarray, k: int, arguments: DataArguments) -> Split:
    train, purged = folds.training_rows(frame, assigned, k, arguments.group_by)
    if purged:
        logger.info("fold-%d: %d training rows share a query with the validation side and are left out", k, purged)
    return _checked(f"fold-{k}", frame, train, assigned == k, arguments.group_by, arguments.prefix_levels)


def _checked(name: str, frame, train, valid, group_by: str, prefix_levels: int = 2) -> Split:
    report = require_no_leak(frame, train, valid, group_by, prefix_levels)
    return Split(name, np.flatnonzero(train), np.flatnonzero(valid), f"{name}\n{report.to_text()}")
