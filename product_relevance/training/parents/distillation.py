"""Score the training rows with a teacher, one run or a stack of runs, for a student to learn from."""

import gc
import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from product_relevance.data.columns import fingerprint_frame
from product_relevance.ensemble.ensemble import RelevanceEnsemble
from product_relevance.ensemble.files.predict_file import score_records
from product_relevance.ensemble.kernel_folds import forget_own_labels
from product_relevance.ensemble.stack import RelevanceStack, is_stack
from product_relevance.training import distributed
from product_relevance.training.parents.parent_run import ParentRun, find_parent, teacher_column
from product_relevance.training.run_config import RunConfig
from product_relevance.utils.files import write_table
from product_relevance.utils.run_record import ParentRecord, RunRecord

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Teacher:
    """One finished run, or the runs of a stack with what joins them.

    The coefficients of a stack, a number a run and one more, were fitted on the out-of-fold scores of all rows, so
    they know a little of the labels that a student's fold validates on; its runs do not.

    Attributes:
        name: as it was given.
        runs: checked by `find_parent`.
        stack: None for one run.
    """

    name: str
    runs: list[ParentRun]
    stack: RelevanceStack | None = None

    def describe(self) -> ParentRecord:
        """Return what run.json keeps of it."""
        described = [each.describe() for each in self.runs]
        if self.stack is None:
            return described[0]
        return replace(described[0], name=self.name, runs=[each.to_json() for each in described])

    def key(self) -> list[Any]:
        """Return what its scores depend on beside the rows."""
        found = [[each.describe().to_json(), each.record.finished] for each in self.runs]
        return found if self.stack is None else [*found, self.stack.run.finished]


def find_teacher(config: RunConfig, record: RunRecord, splits: list[str]) -> Teacher | None:
    """Find the teacher that `--teacher` names; `find_parent` says what is checked, for each run of a stack.

    Args:
        config: of the new run.
        record: of the new run.
        splits: names of its folds.

    Returns:
        None without a teacher.

    Raises:
        ValueError: nothing of that name, runs that have changed since they were stacked, a fold that saw rows that
            the student's fold of its name validates on, or a teacher that `check_teacher` refuses.
    """
    if (name := config.objective.teacher) is None:
        return None
    stack = RelevanceStack.from_pretrained(name) if is_stack(name) else None
    if stack is not None and stack.run.features:
        raise ValueError(f"--teacher {name}: found a stack with features, expected one of scores alone: stack without")
    names = [name] if stack is None else map(str, stack.folds.values())
    found = Teacher(name, [find_parent("--teacher", each, record, splits) for each in names], stack)
    check_teacher(found, config.data.translation)
    return found


def check_teacher(teacher: Teacher, translation: str) -> None:
    """Check that a teacher that reads translations gets them: otherwise it would score what it never saw.

    Raises:
        ValueError: the teacher was trained with translations.
    """
    reads = [each for each in teacher.runs if each.record.columns["translation"] != "none"]
    if translation == "none" and reads:
        raise ValueError(
            f"--teacher {reads[0].name}: trained with translations, found --translation none: give the translations "
            "here too, with --input_style original if the new model is not to read them"
        )


def add_scores(frame: pd.DataFrame, teacher: Teacher | None, splits, training, name: str = "teacher") -> pd.DataFrame:
    """Add a column `teacher:SPLIT` for each split: the teacher's probability of each of its training rows.

    A split learns from the teacher's fold of its name, which has not seen its validation rows either; from the mean
    of the teacher's folds where it has no such fold, as `full` does. Each process scores its share of the rows; the
    scores are kept in files of the run folder, for a resumed run.

    Args:
        frame: records with their columns.
        teacher: of `find_teacher`; None adds nothing.
        splits: of `make_splits`.
        training: TrainingArguments; `output_dir` says where the run is.
        name: of the files, one a split, begins with it.
    """
    if teacher is None:
        return frame
    files = {split.name: Path(training.output_dir) / f"{name}-{split.name}.parquet" for split in splits}
    keys = _keys(frame, teacher, splits)
    missing = distributed.decide_on_first(lambda: [name for name in files if not _holds(files[name], keys[name])])
    if missing:
        wanted = [split for split in splits if split.name in missing]
        with distributed.whole_weights(training):
            found = _scores(frame, teacher, wanted, training)
        for split, scores in found.items() if training.process_index == 0 else ():
            table = pd.DataFrame({"id": frame["id"].astype(str).to_numpy(), teacher_column(split): scores})
            table.attrs = keys[split]
            write_table(table, files[split])
        distributed.wait_for_all()
    columns = {teacher_column(split): file for split, file in files.items()}
    return frame.assign(**{name: pd.read_parquet(file)[name].to_numpy() for name, file in columns.items()})


def _keys(frame: pd.DataFrame, teacher: Teacher, splits) -> dict[str, dict]:
    """Return what the scores of each split depend on, as JSON."""
    read = frame[["id", "query", "target", "translated_query", "language"]].astype(str)
    common = {"teacher": teacher.key(), "source": frame.attrs["sha256"], "texts": fingerprint_frame(read)}
    return {split.name: common | {"rows": hashlib.sha256(split.train.tobytes()).hexdigest()} for split in splits}


def _holds(file: Path, key: dict) -> bool:
    return file.is_file() and pd.read_parquet(file, columns=["id"]).attrs == key


def _scores(frame: pd.DataFrame, teacher: Teacher, splits, training) -> dict[str, np.ndarray]:
    """Return the teacher's probabilities by split, of shape (rows of the frame,), NaN where it does not train."""
    of_runs = [_of_run(frame, each, splits, training) for each in teacher.runs]
    found = {split.name: np.full(len(frame), np.nan) for split in splits}
    for split in splits:
        each = np.column_stack([run[split.name] for run in of_runs])
        found[split.name][split.train] = each[:, 0] if teacher.stack is None else teacher.stack.combine(each)
    return found


def _shared_scores(ensemble: RelevanceEnsemble, rows: pd.DataFrame, trained_on: bool) -> np.ndarray:
    first = distributed.is_first()
    found = distributed.share_computation(
        rows["query"].tolist(), lambda mine: score_records(ensemble, rows.iloc[mine], progress=first)[1]
    )
    if trained_on:  # ids name the same rows
        found = forget_own_labels(found, rows["id"], list(ensemble.folds.values()))
    return ensemble.combine(found)


def load_teacher(run: ParentRun, training) -> RelevanceEnsemble:
    """Load a run on the device and in the precision that its student trains with."""
    device, dtype = "cpu" if training.use_cpu else None, "bfloat16" if training.bf16 else "auto"
    return RelevanceEnsemble.from_pretrained(run.home, device=device, dtype=dtype)


def _of_run(frame: pd.DataFrame, teacher: ParentRun, splits, training) -> dict[str, np.ndarray]:
    """Return one run's probabilities of the training rows of each split."""
    ensemble, found = load_teacher(teacher, training), dict[str, np.ndarray]()
    folds, trained_on = ensemble.folds, frame.attrs["sha256"] == teacher.record.data["sha256"]
    for split in splits:
        names = teacher.teaching(split.name)
        logger.info("teacher %s: %s scores %d rows", teacher.name, " and ".join(names), len(split.train))
        ensemble.fold_models.folds = {name: folds[name] for name in names}
        found[split.name] = _shared_scores(ensemble, frame.iloc[split.train], trained_on)
    del ensemble
    gc.collect()  # a model is full of cycles; the next one needs its memory
    return found
