"""The pairs of a run, tokenised once, and the part of them that each fold trains on and is scored by."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from product_relevance.data.splits import Split
from product_relevance.models.pair_encoder import PairEncoder
from product_relevance.training.batches import path_truncation
from product_relevance.training.batches.dataset import PairDataset
from product_relevance.training.batches.path_truncation import ShortPaths
from product_relevance.training.parents import distillation, unlabelled
from product_relevance.training.parents.distillation import Teacher
from product_relevance.training.parents.parent_run import teacher_column
from product_relevance.training.run_config import RunConfig
from product_relevance.utils.tasks import mixing_weights


@dataclass(frozen=True)
class FoldData:
    """The rows of one fold.

    Attributes:
        split: the fold, by row numbers.
        train: labelled rows to train on; unlabelled ones come behind.
        watched: validation rows that are scored while it trains, longest first; None without validation rows.
        valid: all validation rows, with `query_group`.
        valid_tokens: token ids of each of them.
        tasks: of the labelled training rows.
    """

    split: Split
    train: PairDataset
    watched: PairDataset | None
    valid: pd.DataFrame
    valid_tokens: list[list[int]]
    tasks: list[str]


@dataclass(frozen=True)
class RunData:
    """All pairs of a run.

    Attributes:
        frame: records with columns, `query_group`, and a teacher's scores for each split.
        tokens: token ids of each row.
        mixing: `--task_mixing`.
        eval_rows: `--eval_rows`.
        short: forms of paths cut to their last levels; None without.
        extra: unlabelled rows; None without.
    """

    frame: pd.DataFrame
    tokens: list[list[int]]
    mixing: str
    eval_rows: int
    short: ShortPaths | None = None
    extra: unlabelled.Unlabelled | None = None

    def fold(self, split: Split) -> FoldData:
        """Return the rows of one fold; short paths and unlabelled rows change what it trains on, nothing else."""
        train = self._rows(split.train, split.name)
        train = train if self.short is None else self.short.add_to(train, split)
        train = train if self.extra is None else self.extra.add_to(train, split)
        valid = self.frame.iloc[split.valid]
        tokens, tasks = [self.tokens[i] for i in split.valid], self.frame["task"].iloc[split.train].tolist()
        return FoldData(split, train, self._watched(split), valid, tokens, tasks)

    def _watched(self, split: Split) -> PairDataset | None:
        if not len(split.valid):
            return None
        rows = sample_evaluation_rows(self.frame["query_group"].to_numpy(), split.valid, self.eval_rows)
        return self._rows(rows[np.argsort([-len(self.tokens[i]) for i in rows], kind="stable")])

    def _rows(self, rows: np.ndarray, trained_by: str | None = None) -> PairDataset:
        """Make a data set of some rows; with all that a loss needs for those that a split of this name trains on."""
        part, columns = self.frame.iloc[rows], {}
        if trained_by is not None:
            columns = {"weights": "weight", "teacher": teacher_column(trained_by)}
        found = {name: part[column].to_numpy(float) for name, column in columns.items() if column in self.frame}
        if trained_by is not None and self.mixing != "proportional":
            mixed = np.array(mixing_weights(part["task"].tolist(), self.mixing), dtype=float)
            found["weights"] = found["weights"] * mixed if "weights" in found else mixed
        tasks = part["task"].to_numpy(str) if self.frame["task"].nunique() > 1 else None
        labels = part["grade" if "grade" in part else "label"].to_numpy(int)
        return PairDataset([self.tokens[i] for i in rows], labels, tasks=tasks, **found)


def prepare_run_data(
    config: RunConfig, data: RunData, splits: list[Split], encoder: PairEncoder, teacher: Teacher | None
) -> RunData:
    """Add what the folds train on beside their rows as they stand: short paths, unlabelled rows, a teacher's scores.

    Args:
        config: of the run.
        data: records and their tokens.
        splits: that are to be trained.
        encoder: of the run.
        teacher: None without one.

    Raises:
        ValueError: bad unlabelled records, or an order of rows that cannot cut paths anew in each epoch.
    """
    frame, short, extra = data.frame, None, None
    if config.data.random_levels:
        # without the tree: the name of a last level may read like the other rendering of some path
        encode = replace(encoder, taxonomy=None).encode_frame
        short = path_truncation.shorten_paths(frame, config.data.random_levels, config.training, encode)
    if config.objective.unlabelled_file and teacher is not None:  # the options ask for both
        extra = unlabelled.load_unlabelled(config, frame, splits, teacher, encoder.encode_frame)
    frame = distillation.add_scores(frame, teacher, splits, config.training)
    return replace(data, frame=frame, short=short, extra=extra)


def sample_evaluation_rows(queries, rows: np.ndarray, limit: int) -> np.ndarray:
    """Choose a fixed subset of validation rows, whole query groups at a time, by a hash of the query.

    Args:
        queries: normalised queries of all records.
        rows: indices of the validation rows.
        limit: rows wanted; groups are added until it is reached.

    Returns:
        Sorted indices, about `limit` of them.
    """
    if len(rows) <= limit:
        return rows
    keys = np.array([hashlib.sha256(queries[i].encode()).hexdigest() for i in rows])
    order = np.argsort(keys, kind="stable")
    last = keys[order[limit - 1]]
    return np.sort(rows[order[keys[order] <= last]])
