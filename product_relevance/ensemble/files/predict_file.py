"""A whole file scored in chunks, each safe on disk before the next, so that an interrupted one goes on."""

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from product_relevance.data import loading
from product_relevance.data.arguments import MAX_MISSING
from product_relevance.data.grades import add_grades
from product_relevance.data.reading_arguments import ReadingArguments
from product_relevance.data.records import read_records
from product_relevance.data.sources.tables import Source
from product_relevance.ensemble import outputs
from product_relevance.ensemble.files.one_ahead import one_ahead
from product_relevance.ensemble.scoring_arguments import FileOptions
from product_relevance.ensemble.stack import RelevanceStack
from product_relevance.evaluation.grades import name_shares
from product_relevance.evaluation.probabilities import compute_expected_grade
from product_relevance.utils import console
from product_relevance.utils.files import sha256_of, write_table
from product_relevance.utils.run_folder import write_json
from product_relevance.utils.run_record import FinishedRunRecord, StackRecord
from product_relevance.utils.tasks import BOTH, LABELS

if TYPE_CHECKING:
    from tqdm import tqdm

logger = logging.getLogger(__name__)


def read_records_for(ensemble, file: str | Source, role: str, on_bad_rows: str = "error"):
    """Read records for an ensemble; for one of both tasks the file says which of them it is.

    Returns:
        (the ensemble of that task, the records)

    Raises:
        ValueError: bad records.
    """
    both = ensemble.run.task == BOTH
    file = read_as_trained(file, ensemble.run)
    frame = read_records(file, task=None if both else ensemble.run.task, role=role, on_bad_rows=on_bad_rows)
    frame = add_grades(frame, file.reading.scale.grades, ensemble.run.relevant_from)
    if (
        "given_language" in frame
    ):  # prepared records: the run corrects languages itself, and thresholds go by the given one
        frame = frame.assign(language=frame["given_language"])
    return ensemble.of_task(frame.attrs["task"]) if both else ensemble, frame


def read_as_trained(file: str | Source, run: FinishedRunRecord | StackRecord) -> Source:
    """Return records that are read with the columns and labels of the training file, unless others were asked for.

    A published run does not hold them: they are part of somebody's data.

    Raises:
        ValueError: a label map with a grade that the run does not have.
    """
    source = file if isinstance(file, Source) else Source(os.fspath(file))
    source = replace(source, reading=source.reading.with_grades(len(run.labels or LABELS)))
    trained = run.arguments.get("data", {})
    names = [name for name in ("columns", "label_map") if trained.get(name)]
    asked = source.reading
    if not names or asked.columns.given() or not asked.number_rows:
        return source
    known = ReadingArguments(**{name: trained[name] for name in names}).reading(asked.scale.grades)
    kept = replace(asked, columns=known.columns, remembered=("columns",))
    if not asked.scale.names:
        kept = replace(kept, scale=known.scale, remembered=("columns", "label_map"))
    return replace(source, reading=kept)


def score_records(
    ensemble, frame: pd.DataFrame, *, vote: str | None = None, translation: str | None = None, progress: bool = False
):
    """Score records with the columns that the run was trained with.

    A record without a usable query or target (its `defect` says so) gets the share of positives in the run's
    training data as its probability: there is nothing else to go by.

    Returns:
        (probabilities of shape (n,), fold probabilities of shape (n, folds)).
    """
    vote = ensemble.checked_vote(vote)
    return _with_prior(ensemble, frame, ensemble.score_folds(frame, translation, progress), vote)


def _with_prior(ensemble, frame: pd.DataFrame, folds: np.ndarray, vote: str) -> tuple[np.ndarray, np.ndarray]:
    scores = ensemble.combine(folds, vote)
    unusable = (frame["defect"] != "").to_numpy()
    data = ensemble.run.data
    shares = data.get("grades") if ensemble.run.grade_thresholds else None  # a stack's scores are no grades
    prior = data["positive"] if shares is None else float(compute_expected_grade(np.array(shares)))
    return np.where(unusable, prior, scores), np.where(unusable[:, None], prior, folds)


def score_unlabelled(
    folder: str, file: str | Source, *, translation=None, max_missing_translations=MAX_MISSING, on_bad_rows="error"
) -> dict:
    """Score records that no fold of a run trained on, for `nested.decide_run` and a stack; no label is read.

    Args:
        folder: of the run.
        file: the records.
        translation, max_missing_translations, on_bad_rows: as in `predict_file`.

    Returns:
        scores (the mean of the folds, shape (n,)) and folds (probabilities, shape (n, folds)) of the n records that
        are of use, and source, the file's name.

    Raises:
        ValueError: no run there, or bad records.
    """
    from product_relevance.ensemble.ensemble import RelevanceEnsemble

    ensemble = RelevanceEnsemble.from_pretrained(folder).of_task(None)
    source = read_as_trained(file, ensemble.run)
    frame = read_records(source, task=ensemble.run.task, role="test", on_bad_rows=on_bad_rows)
    frame = frame[frame["defect"] == ""].reset_index(drop=True)
    loading.require_translations(frame, ensemble.run.columns, translation, max_missing_translations)
    folds = ensemble.score_folds(frame, translation, progress=True)
    return {"scores": folds.mean(axis=1), "folds": folds, "source": Path(file).name}


def predict_file(ensemble, file: str | Source, output: str, *, overwrite: bool = False, **chosen: Any) -> str:
    """Write `output`, in the format that its name asks for, and beside it `<output>.scores.parquet`.

    An output that the same file, run and options made is left as it is.

    Args:
        ensemble: RelevanceEnsemble or RelevanceStack.
        file: records to score.
        output: .txt or .jsonl for a submission, in the competition's JSON lines; .csv, .tsv, .parquet for a table.
        overwrite: replace the output.
        **chosen: of `FileOptions`, as vote, threshold, translation, with_texts.

    Returns:
        A line that says what was written.

    Raises:
        ValueError: bad records, an output of another format, or one that was made of something else.
    """
    options = FileOptions(**chosen)
    target, parts, vote = Path(output), Path(f"{output}.parts"), ensemble.checked_vote(options.vote)
    outputs.require_format(output, options.with_texts)
    ensemble, frame = read_records_for(ensemble, file, "test", options.on_bad_rows)
    loading.require_translations(frame, ensemble.run.columns, options.translation, options.max_missing_translations)
    limits = ensemble.rule.row_thresholds(frame["language"].tolist(), options.threshold, vote)
    key = _score_key(ensemble, read_as_trained(file, ensemble.run), frame, vote, options.translation)
    asked = key | {"threshold": options.threshold} | ({"with_texts": True} if options.with_texts else {})
    if target.exists() and not overwrite:
        outputs.require_same(target, asked)
        shutil.rmtree(parts, ignore_errors=True)
        return f"{target}: complete, nothing to do"
    target.parent.mkdir(parents=True, exist_ok=True)
    options = _with_rivals(ensemble, frame, options)
    claim_parts(parts, key | {"rows": options.chunk_rows})
    scores = _score_parts(ensemble, frame, parts, options)
    unknown = _look_up_paths(ensemble, frame, scores)
    scores = _decide(ensemble, scores, limits, vote)
    outputs.write_output(frame, scores, target, asked, parts)
    shutil.rmtree(parts)
    share, beside = scores["prediction"].mean(), outputs.scores_path(target).name
    shown = " to ".join(sorted({f"{limits.min():.4f}", f"{limits.max():.4f}"}))
    return f"{target}: {len(frame)} predictions, {share:.1%} relevant at {shown}; probabilities in {beside}{unknown}"


def predict_frame(ensemble, frame: pd.DataFrame, options: FileOptions) -> pd.DataFrame:
    """Score records in memory, as `predict_file` does.

    Returns:
        The table that `predict_file` writes beside a submission: id, language, score, a column per fold, prediction.
    """
    vote, size = ensemble.checked_vote(options.vote), _with_rivals(ensemble, frame, options).chunk_rows
    limits = ensemble.rule.row_thresholds(frame["language"].tolist(), options.threshold, vote)
    chunks = [frame.iloc[start : start + size] for start in range(0, len(frame), size)]
    scores = pd.concat(_score_chunks(ensemble, chunks, options), ignore_index=True)
    _look_up_paths(ensemble, frame, scores)
    return _decide(ensemble, scores, limits, vote)


def _with_rivals(ensemble, frame: pd.DataFrame, options: FileOptions) -> FileOptions:
    """Return the options with all rows in one chunk where the score of a pair depends on others of its query."""
    rivals = getattr(ensemble, "reads_rivals", False)
    return replace(options, chunk_rows=max(len(frame), 1)) if rivals else options


def _score_chunks(ensemble, chunks: Iterable[pd.DataFrame], options: FileOptions) -> Iterator[pd.DataFrame]:
    """Score chunks of records; a thread tokenises the next one meanwhile, so that a GPU does not wait for it."""
    if isinstance(ensemble, RelevanceStack):  # each of its runs has a tokenizer of its own
        for chunk in chunks:
            yield _chunk_table(ensemble, chunk, ensemble.score_folds(chunk, options.translation), options)
        return
    encode = lambda chunk: (chunk, ensemble.encode_frame(chunk, options.translation))  # noqa: E731
    for chunk, ids in one_ahead(encode, chunks):
        shares = ensemble.share_by_fold(ids)
        table = _chunk_table(ensemble, chunk, compute_expected_grade(shares), options)
        yield table if not ensemble.run.grade_thresholds else _add_grades(ensemble, chunk, table, shares)


def _chunk_table(ensemble, chunk: pd.DataFrame, scored: np.ndarray, options: FileOptions) -> pd.DataFrame:
    scores, folds = _with_prior(ensemble, chunk, scored, ensemble.checked_vote(options.vote))
    table = {"id": chunk["id"].to_numpy(), "language": chunk["language"].to_numpy(), "score": scores}
    return pd.DataFrame(table | {name: folds[:, i] for i, name in enumerate(ensemble.folds)})


def _add_grades(ensemble, chunk: pd.DataFrame, table: pd.DataFrame, shares: np.ndarray) -> pd.DataFrame:
    unusable, prior = (chunk["defect"] != "").to_numpy()[:, None], ensemble.run.data.get("grades")
    mean = shares.mean(axis=1) if prior is None else np.where(unusable, prior, shares.mean(axis=1))
    return table.assign(grade=ensemble.decide_grades(compute_expected_grade(mean)), **name_shares(mean))


def _decide(ensemble, scores: pd.DataFrame, limits: np.ndarray, vote: str) -> pd.DataFrame:
    scores["prediction"] = (scores["score"] >= limits).astype(int)
    if vote == "mean" and ensemble.rule.chosen:
        scores["probability"] = ensemble.rule.calibrate(scores["score"])
    if "grade" in scores and ensemble.run.grade_calibration:
        names = [f"share_{grade}" for grade in range(ensemble.grades)]
        calibrated = ensemble.calibrate_shares(scores[names].to_numpy())
        scores = scores.assign(**{f"probability_{grade}": calibrated[:, grade] for grade in range(ensemble.grades)})
    return scores


def _look_up_paths(ensemble, frame: pd.DataFrame, scores: pd.DataFrame) -> str:
    """Add the column `path_known`: is the path in the tree of the run's training paths, in part, or not at all?"""
    tree = getattr(ensemble, "taxonomy", None)
    paths = frame["target"].where((frame["task"] == "QC") & (frame["defect"] == ""))
    if tree is None or paths.isna().all():
        return ""
    scores["path_known"] = paths.map({path: tree.match(path)[0] for path in paths.dropna().unique()}).to_numpy()
    shares = scores["path_known"].value_counts(normalize=True)
    partial, none = (shares.get(match, 0.0) for match in ("partial", "none"))
    return f"; paths unknown to the training records: {partial:.1%} in part, {none:.1%} wholly"


def _score_key(ensemble, file: Source, frame: pd.DataFrame, vote: str, translation: str | None) -> dict:
    """Return what the scores of a file depend on."""
    key = {"file": frame.attrs["sha256"], "run": run_key(ensemble), "vote": vote, "dtype": ensemble.dtype}
    key["translation"] = translation
    if translation is not None and Path(translation).is_file():
        key["translation"] = sha256_of(translation)
    if file.split:
        key["split"] = file.split  # the digest of a folder is that of all its splits
    if reading := file.reading.to_json():
        key["reading"] = reading
    return key


def run_key(ensemble) -> str:
    """Return what the scores of a model depend on beside the records."""
    return outputs.json_sha256(ensemble.run.to_json(), sorted(ensemble.folds), ensemble.reasoning_tokens)


def claim_parts(parts: Path, key: dict) -> None:
    """Keep the chunks of an interrupted prediction of the same file by the same run; drop any others."""
    manifest = parts / "manifest.json"
    try:
        same = json.loads(manifest.read_text(encoding="utf-8")) == key
    except (OSError, ValueError):
        same = False
    if not same:
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(parents=True)
        write_json(manifest, key)


def _score_parts(ensemble, frame: pd.DataFrame, parts: Path, options: FileOptions) -> pd.DataFrame:
    paths = {start: parts / f"{start:09d}.parquet" for start in range(0, len(frame), options.chunk_rows)}
    missing = [start for start, path in paths.items() if not path.exists()]
    chunks = [frame.iloc[start : start + options.chunk_rows] for start in missing]
    bar: tqdm[int]
    with console.progress_bar(total=len(frame), desc="predict", unit="pair") as bar:
        bar.update(len(frame) - sum(map(len, chunks)))
        for start, table in zip(missing, _score_chunks(ensemble, chunks, options), strict=True):
            write_table(table, paths[start])
            bar.update(len(table))
    return pd.concat(map(pd.read_parquet, paths.values()), ignore_index=True)
