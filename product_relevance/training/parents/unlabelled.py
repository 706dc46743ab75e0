"""Add records without labels that a student learns from by its teacher's probabilities alone."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from product_relevance.data import folds, loading
from product_relevance.data.records import read_records
from product_relevance.data.sources.tables import Source
from product_relevance.data.splits import Split
from product_relevance.training.batches.dataset import PairDataset
from product_relevance.training.losses import UNLABELLED
from product_relevance.training.parents import distillation
from product_relevance.training.parents.distillation import Teacher
from product_relevance.training.parents.parent_run import teacher_column
from product_relevance.training.run_config import RunConfig
from product_relevance.utils.tasks import BOTH

logger = logging.getLogger(__name__)


@dataclass
class Unlabelled:
    """Unlabelled records that folds may learn from.

    Attributes:
        frame: records with columns, and with the teacher's for each split.
        kept: of each split the rows that share no query with its validation side.
        tokens: token ids of each row.
    """

    frame: pd.DataFrame
    kept: dict[str, np.ndarray]
    tokens: list[list[int]]

    def add_to(self, rows: PairDataset, split: Split) -> PairDataset:
        """Put a split's unlabelled rows behind its training rows."""
        kept = self.kept[split.name]
        scores = self.frame[teacher_column(split.name)].to_numpy(float)[kept]
        return PairDataset(
            [*rows.ids, *(self.tokens[i] for i in kept)],
            np.concatenate([rows.labels, np.full(len(kept), UNLABELLED)]),
            weights=None if rows.weights is None else np.concatenate([rows.weights, np.ones(len(kept))]),
            teacher=np.concatenate([rows.teacher, scores]),
            short=rows.short,
        )


def load_unlabelled(
    config: RunConfig, frame: pd.DataFrame, splits: list[Split], teacher: Teacher, encode: Callable
) -> Unlabelled:
    """Read unlabelled records and score them by the teacher, for each split without what it validates on.

    Left out of a split is what shares a query group or a held-out language with its validation rows. The teacher's
    fold of its name scores the others, as it does the labelled rows: the other folds know the labels of these rows.

    Args:
        config: of the run; labels of its `--unlabelled_file` are not read, records without a query or target are left
            out, the others get the columns of the run.
        frame: the training records, with columns.
        splits: of `make_splits`.
        teacher: that scores them.
        encode: from records to lists of token ids.

    Raises:
        ValueError: bad records, none of use, or records for two tasks.
    """
    arguments, training = config.data, config.training
    with training.main_process_first(desc="unlabelled"):
        found = _records(str(config.objective.unlabelled_file), arguments)
    columns = ["origin_query", "translated_query"]
    groups = folds.query_groups(pd.concat([frame[columns], found[columns]], ignore_index=True))
    ours, theirs = groups[: len(frame)], groups[len(frame) :]
    held_out = found["language"].isin(arguments.held_out_languages).to_numpy()
    kept = []
    for split in splits:
        free = ~np.isin(theirs, ours[split.valid]) & ~held_out
        logger.info(
            "%s: %d unlabelled rows of %s; %d more share a query with the validation side or are in a held-out "
            "language, and are left out",
            *(split.name, free.sum(), found.attrs["source"], (~free).sum()),
        )
        kept.append(Split(split.name, np.flatnonzero(free), np.arange(0)))
    found = distillation.add_scores(found, teacher, kept, training, "teacher-unlabelled")
    return Unlabelled(found, {split.name: split.train for split in kept}, encode(found))


def _records(file: str, arguments) -> pd.DataFrame:
    if arguments.task == BOTH:
        raise ValueError(f"--unlabelled_file {file}: found --task {BOTH}, expected one task, QC or QI")
    records = Source(file, reading=replace(arguments.reading(), remembered=("columns", "label_map")))
    found = read_records(records, task=arguments.task, role="test")  # which keeps what has no target, and says so
    source = dict(found.attrs)
    found = found[found["defect"] == ""].reset_index(drop=True)
    found.attrs = source
    if not len(found):
        raise ValueError(f"--unlabelled_file {file}: found no record with a query and a target")
    options = arguments.lowercase, arguments.language_fix, arguments.translation, arguments.max_missing_translations
    return loading.add_all_columns(found, *options)
