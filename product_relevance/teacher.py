"""A teacher: an earlier run whose probabilities of the training rows a new one learns from (distillation)."""

import gc
import hashlib
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from product_relevance import distributed
from product_relevance.columns import fingerprint
from product_relevance.earlier import EarlierRun, teacher_column
from product_relevance.ensemble import RelevanceEnsemble
from product_relevance.files import write_table
from product_relevance.prediction import score_records

logger = logging.getLogger(__name__)


def check(teacher: EarlierRun | None, translation: str) -> None:
    """Refuse a teacher that reads translations where the new run has none: it would score what it never saw.

    Args:
        teacher: the run, or None.
        translation: `--translation` of the new run.

    Raises:
        ValueError: the teacher was trained with translations.
    """
    if teacher and translation == "none" and teacher.content["columns"]["translation"] != "none":
        raise ValueError(
            f"--teacher {teacher.name}: trained with translations, found --translation none: give the translations "
            "here too, with --input_style original if the new model is not to read them"
        )


def add_scores(
    frame: pd.DataFrame, teacher: EarlierRun | None, splits, training, name: str = "teacher.parquet"
) -> pd.DataFrame:
    """Add a column `teacher:SPLIT` for each split: the teacher's probability of each of its training rows.

    A split learns from the teacher's fold of its name, which has not seen its validation rows either; from the mean
    of the teacher's folds where it has no such fold, as `full` does. They are computed by the first process and kept
    in a file of the run folder, for the others and for a resumed run.

    Args:
        frame: records with their columns.
        teacher: the run, checked by `earlier.find`; None adds nothing.
        splits: of `make_splits`.
        training: TrainingArguments; `output_dir` says where the run is.
        name: of the file.
    """
    if teacher is None:
        return frame
    file = Path(training.output_dir) / name
    key = _key(frame, teacher, splits)
    if training.process_index == 0 and not _holds(file, key):
        scores = _scores(frame, teacher, splits, "cpu" if training.use_cpu else None)
        scores.attrs = key
        write_table(scores, file)
        gc.collect()
    distributed.wait()
    return frame.assign(**pd.read_parquet(file).drop(columns="id").set_axis(frame.index))


def _key(frame: pd.DataFrame, teacher: EarlierRun, splits) -> dict:
    read = frame[["id", "query", "target", "translated_query", "language"]].astype(str)
    rows = {split.name: hashlib.sha256(split.train.tobytes()).hexdigest() for split in splits}
    return {
        "teacher": teacher.described(),
        "finished": teacher.content["finished"],
        "source": frame.attrs["sha256"],
        "texts": fingerprint(read),
        "rows": rows,
    }


def _holds(file: Path, key: dict) -> bool:
    return file.is_file() and pd.read_parquet(file, columns=["id"]).attrs == key


def _scores(frame: pd.DataFrame, teacher: EarlierRun, splits, device: str | None) -> pd.DataFrame:
    ensemble = RelevanceEnsemble.from_pretrained(teacher.home, device=device)
    folds, found = ensemble.folds, {"id": frame["id"].astype(str).to_numpy()}
    for split in splits:
        names = teacher.teaching(split.name)
        logger.info("teacher %s: %s scores %d rows", teacher.name, " and ".join(names), len(split.train))
        ensemble.folds = {name: folds[name] for name in names}
        scores = np.full(len(frame), np.nan)
        scores[split.train] = score_records(ensemble, frame.iloc[split.train])[0]
        found[teacher_column(split.name)] = scores
    return pd.DataFrame(found)
