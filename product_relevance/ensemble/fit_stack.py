"""Fit a stack: a logistic regression over the logits of several runs' out-of-fold scores."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from product_relevance.data.records import read_records
from product_relevance.ensemble.compare_stack import Blend, compare_features, compare_ways
from product_relevance.ensemble.files.predict_file import read_as_trained
from product_relevance.ensemble.stack import KIND, NAME
from product_relevance.ensemble.stack_features import KINDS, check_features, make_features, name_features
from product_relevance.evaluation import thresholds
from product_relevance.evaluation.blending import blend_scores
from product_relevance.evaluation.reports.markdown_tables import metrics_table
from product_relevance.evaluation.thresholds import DecisionOptions
from product_relevance.utils import run_folder
from product_relevance.utils.run_record import FinishedRunRecord, StackRecord
from product_relevance.utils.tasks import LABELS, select_task

ALIKE = ("num_folds", "group_by", "prefix_levels", "fold_seed", "held_out_languages")
COLUMNS = {
    "scores": "scores", "fitted on": "fitted on", "auc": "AUC", "f1": "F1", "macro_f1": "macro-F1", "ece": "ECE",
    "log_loss": "log loss",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StackOptions:
    """How the thresholds of a stack are chosen.

    Attributes:
        by: of the thresholds: global, or language.
        shrinkage: see `thresholds.fit_decision`.
        match: what the scores of unlabelled records are matched to: `folds`, the stacks of single folds, or
            `training`, the stack's out-of-fold scores; see `thresholds.fit_spread`.
        overwrite: replace a stack that is there.
        features: kinds of features that it reads beside the scores, see `stack_features`.
        records: that the runs were trained on, for the features; None takes the file that they name.
    """

    by: str = "global"
    shrinkage: float = 1000
    match: str = "folds"
    overwrite: bool = False
    features: tuple[str, ...] = ()
    records: str | None = None

    def __post_init__(self) -> None:
        check_features(self.features)


def stack_runs(
    folders: Sequence[str],
    output: str,
    options: StackOptions | None = None,
    unlabelled: Sequence[dict[str, Any]] | None = None,
) -> str:
    """Fit a stack on the out-of-fold scores of finished runs and write its folder.

    Args:
        folders: Of the runs: one task, one data set, one division into folds. Rows that not every run has scored, as
            of a fold that one of them lacks, are left out.
        output: Folder to make; it names the runs by their relative path and holds no weights.
        options: How its thresholds are chosen; the defaults if None.
        unlabelled: From `predict_file.score_unlabelled` for each run, on the same records; with it the thresholds
            move to where the stack of the means lies.

    Returns:
        Tables for the terminal: each run, the mean of their probabilities, the stack; what its features gain.

    Raises:
        ValueError: Runs that do not go together, or an output that is there.
    """
    options = options or StackOptions()
    choice = DecisionOptions("none", options.by, options.shrinkage)
    _check_request(output, options, unlabelled)
    home = Path(output)
    runs = [select_task(run_folder.load_record(folder), None) for folder in folders]
    oof, blend = join_scores(folders, runs), Blend(len(folders), name_features(options.features))
    if options.features:
        oof = _add_features(oof, blend, runs[0], options)
    fitted = blend.fit(oof)
    scores, source = blend.apply(fitted, oof), f"{len(oof)} out-of-fold rows of {len(runs)} runs"
    decision = thresholds.fit_decision(oof["label"].to_numpy(int), scores, oof["given_language"].tolist(), choice)
    figures = compare_ways(oof, blend, folders, choice)
    decision |= {"spread": None, "from": source, "figures": figures}
    if unlabelled is not None:
        decision = thresholds.move_thresholds(decision, blend_unlabelled(unlabelled, *fitted), scores, options.match)
    graded = runs[0].relevant_from is not None  # by its grades files are read
    record = StackRecord(
        format=run_folder.FORMAT,
        kind=KIND,
        task=runs[0].task,
        data=runs[0].data,
        labels=runs[0].labels if graded else {},
        relevant_from=runs[0].relevant_from,
        members=_members(home, folders, runs, fitted[0]),
        features=_coefficients(options.features, fitted[0][len(folders) :]),
        intercept=fitted[1],
        thresholds=decision["thresholds"],
        thresholds_from=source,
        decision=decision,
        finished=run_folder.current_time(),
        versions=run_folder.package_versions(),
    )
    home.mkdir(parents=True, exist_ok=True)
    run_folder.write_json(home / NAME, record.to_json())
    gain = [f"A: stack, B: stack with features\n\n{compare_features(oof, blend, choice)}"] if blend.features else []
    return "\n\n".join([metrics_table(figures, COLUMNS), _weights(record), *gain, source])


def _check_request(output: str, options: StackOptions, unlabelled: Sequence[dict[str, Any]] | None) -> None:
    thresholds.check_match(options.match, unlabelled)
    if options.features and unlabelled is not None:
        raise ValueError("--features: found --unlabelled too, expected one of them: thresholds cannot be moved here")
    if (Path(output) / NAME).exists() and not options.overwrite:
        raise ValueError(f"{output} holds a stack already; add --overwrite to replace it")


def _add_features(oof: pd.DataFrame, blend: Blend, run: FinishedRunRecord, options: StackOptions) -> pd.DataFrame:
    texts = read_texts(run, oof["id"], options.records)
    scores, queries, targets = oof[blend.members].to_numpy(), texts["query"].tolist(), texts["target"].tolist()
    made = make_features(options.features, scores, queries, targets)
    return oof.assign(query=queries, **dict(zip(blend.features, made.T, strict=True)))


def _coefficients(kinds: Sequence[str], values: np.ndarray) -> dict[str, dict[str, float]]:
    named = dict(zip(name_features(kinds), map(float, values), strict=True))
    return {kind: {name: named[name] for name in KINDS[kind]} for kind in kinds}


def _weights(record: StackRecord) -> str:
    rows = [{"member": member["path"], "coefficient": member["coefficient"]} for member in record.members]
    rows += [{"member": name, "coefficient": n} for kind in record.features.values() for name, n in kind.items()]
    return metrics_table(rows, ["member", "coefficient"])


def read_texts(run: FinishedRunRecord, ids: pd.Series, records: str | None = None) -> pd.DataFrame:
    """Read the texts of rows that a run has scored out of fold.

    Args:
        run: Its record.
        ids: Of the rows.
        records: File that it was trained on; None takes the one that it names.

    Returns:
        `query` and `target` of each row, in the order of `ids`.

    Raises:
        ValueError: Other records, or rows that are missing there.
    """
    trained_on = run.arguments.get("data", {}).get("train_file", run.data["source"])
    source = read_as_trained(records or trained_on, run)
    frame = read_records(source, task=run.task, role="test", on_bad_rows="skip")
    if frame.attrs["sha256"] != run.data["sha256"]:
        raise ValueError(f"{source}: found other records than the runs were trained on; name those with --records")
    texts = frame.assign(id=frame["id"].astype(str)).drop_duplicates("id").set_index("id")
    if missing := sorted(set(ids.astype(str)) - set(texts.index)):
        raise ValueError(
            f"{source}: found no row {missing[0]}, expected each that was scored; name others with --records"
        )
    found = texts[["origin_query", "target"]].loc[ids.astype(str).tolist()]
    return found.rename(columns={"origin_query": "query"}).reset_index(drop=True)


def blend_unlabelled(
    unlabelled: Sequence[dict[str, Any]], coefficients: np.ndarray, intercept: float
) -> dict[str, Any]:
    """Return the stack's scores of unlabelled records, those of its single folds, and the records' source.

    Args:
        unlabelled: Of each run, scores (the mean of its folds) of shape (n,), folds of shape (n, folds), source.
        coefficients: Shape (members,).
        intercept: Of the stack.

    Raises:
        ValueError: Runs with unlike numbers of folds.
    """
    counts = {each["folds"].shape[1] for each in unlabelled}
    if len(counts) > 1:
        raise ValueError(f"unlabelled records: the runs have {sorted(counts)} folds, expected as many in each")
    means = np.column_stack([each["scores"] for each in unlabelled])
    singles = zip(*(each["folds"].T for each in unlabelled), strict=True)
    folds = [blend_scores(np.column_stack(fold), coefficients, intercept) for fold in singles]
    found = {"scores": blend_scores(means, coefficients, intercept), "folds": np.column_stack(folds)}
    return found | {"source": unlabelled[0]["source"]}


def join_scores(folders: Sequence[str], runs: Sequence[FinishedRunRecord]) -> pd.DataFrame:
    """Join the out-of-fold scores of runs by id.

    Returns:
        id, given_language, label, fold, and member-0, member-1, ... (probabilities).

    Raises:
        ValueError: Runs of unlike task, data or folds, or without scores in common.
    """
    table: pd.DataFrame | None = None
    for i, (folder, run) in enumerate(zip(folders, runs, strict=True)):
        for what, found, first in _shared(run, runs[0]):
            if found != first:
                raise ValueError(f"{folder}: {what} {found}, but {folders[0]} has {first}; a stack needs them alike")
        oof = run_folder.read_oof(Path(folder), run.fold_names)
        if oof is None:
            raise ValueError(f"{folder}: no out-of-fold scores; a stack is fitted on them: train folds")
        keys = ["id", "label", "given_language"]
        own = oof[[*keys, "fold", "score"]].rename(columns={"fold": "own_fold", "score": f"member-{i}"})
        if table is None:
            table = own.rename(columns={"own_fold": "fold"})
            continue
        table = table.merge(own, on=keys, validate="one_to_one")
        if others := int((table["fold"] != table["own_fold"]).sum()):
            raise ValueError(
                f"{folder}: {others} of {len(table)} rows lie in other folds than in {folders[0]}; a stack needs runs "
                "of the same folds: a task taken out of a run of both goes with others of that run only"
            )
        table = table.drop(columns="own_fold")
    if table is None or table.empty:
        raise ValueError(f"{', '.join(map(str, folders))}: no row that all have scored")
    return table


def _shared(run: FinishedRunRecord, first: FinishedRunRecord) -> Iterator[tuple[str, Any, Any]]:
    yield "task", run.task, first.task
    yield "data sha256", run.data["sha256"], first.data["sha256"]
    yield "number of grades", len(run.labels or LABELS), len(first.labels or LABELS)
    yield "relevant_from", run.relevant_from, first.relevant_from
    for key in ALIKE:
        yield key, run.folds_by[key], first.folds_by[key]


def _members(home: Path, folders, runs, coefficients: np.ndarray) -> list[dict[str, Any]]:
    return [
        {
            "path": Path(os.path.relpath(folder, home)).as_posix(),
            "finished": run.finished,
            "thresholds": run.thresholds,
            "coefficient": float(coefficient),
        }
        for folder, run, coefficient in zip(folders, runs, coefficients[: len(runs)], strict=True)
    ]
