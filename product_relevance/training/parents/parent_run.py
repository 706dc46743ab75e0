"""Read a parent or teacher run, and check that none of its folds has seen the validation rows of a new fold."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from product_relevance.data.folds import FoldAssignment
from product_relevance.ensemble.locate import locate_run
from product_relevance.utils.run_record import FinishedRunRecord, ParentRecord, RunRecord
from product_relevance.utils.tasks import task_names

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParentRun:
    """A finished run whose folds the folds of a new one build on.

    Attributes:
        flag: the argument that named it, for messages.
        name: as it was given.
        home: folder or Hub id of the whole run; `name` may be one of its folds.
        record: what its run.json says.
        folds: folder of each of its folds.
    """

    flag: str
    name: str
    home: str
    record: FinishedRunRecord
    folds: dict[str, Path]

    def fold(self, split: str) -> str:
        """Return the fold that a split builds on: the one of its name, or the only one.

        Raises:
            ValueError: several folds, none of that name.
        """
        if split in self.folds:
            return split
        if len(self.folds) > 1:
            raise ValueError(
                f"{self.flag} {self.name}: {split} has no namesake among {', '.join(self.folds)}: name one fold, "
                f"as {self.name}/{next(iter(self.folds))}"
            )
        return next(iter(self.folds))

    def folder(self, split: str) -> Path:
        """Return the folder of `fold`."""
        return self.folds[self.fold(split)]

    def teaching(self, split: str) -> list[str]:
        """Return the folds whose mean a split may learn from: its namesake, or all where there is none."""
        return [split] if split in self.folds else list(self.folds)

    @cached_property
    def folds_by(self) -> Mapping[str, Any]:
        """How it made its folds, with the digests of what each validates on.

        A run of an older version keeps no digests; its out-of-fold scores hold the same rows.
        """
        known = self.record.folds_by
        files = {name: folder / "oof.parquet" for name, folder in self.folds.items()}
        files = {name: file for name, file in files.items() if file.is_file()}
        if "valid_sha256" in known or not files:
            return known
        parts = [pd.read_parquet(file).assign(fold=name, **self._one_task()) for name, file in files.items()]
        rows = pd.concat(parts, ignore_index=True)
        return {**known, "valid_sha256": FoldAssignment.from_rows(rows, rows["fold"]).to_json()}

    def _one_task(self) -> dict[str, str]:
        """Return the column that the scores of one task leave out."""
        tasks = task_names(self.record.task)
        return {"task": tasks[0]} if len(tasks) == 1 else {}

    def describe(self) -> ParentRecord:
        """Return what run.json keeps of it; with its own parent runs, whose rows it knows too."""
        record = self.record
        return ParentRecord(
            name=self.name,
            task=record.task,
            folds=sorted(self.folds),
            data={key: record.data[key] for key in ("source", "sha256", "rows")},
            finished=record.finished,
            folds_by=self.folds_by,
            files={task: _data_of(record, task)["sha256"] for task in task_names(record.task)},
            parents=list_parents(record),
        )


def list_parents(record: RunRecord) -> list[dict[str, Any]]:
    """Return what run.json says of the runs that a run was built on: its first stage, and its teacher or teachers."""
    known = [each for each in (record.first_stage, record.teacher) if each]
    return [dict(run) for each in known for run in each.get("runs", [each])]


def teacher_column(split: str) -> str:
    """Return the name of the column with a teacher's probabilities of the training rows of a split."""
    return f"teacher:{split}"


def find_parent(flag: str, name: str, record: RunRecord, splits: list[str]) -> ParentRun:
    """Find a parent run, and check that none of its folds has seen validation rows of the fold that builds on it.

    Args:
        flag: the argument that names it.
        name: run folder, a fold's folder in it, or an ensemble on the Hub.
        record: of the run to come.
        splits: names of the models to train.

    Raises:
        ValueError: nothing of that name, no fold for a split, or one that was trained on the split's validation rows.
    """
    alone = Path(name) if (Path(name) / "fold.json").is_file() else None
    home = str(alone.parent) if alone else name
    found = locate_run(home)
    folds = {alone.name: found.folds[alone.name]} if alone else found.folds
    parent = ParentRun(flag, name, home, found.run, folds)
    for split in splits:
        _require_unseen_rows(parent, record, split)
    if known := set(record.folds_by["held_out_languages"]) & set(parent.record.data["languages"]):
        logger.warning(
            "%s %s: it was trained on %s too, which this run holds out: its figures are not those of unseen languages",
            *(flag, name, " ".join(sorted(known))),
        )
    return parent


def _require_unseen_rows(run: ParentRun, record: RunRecord, split: str) -> None:
    """Raise ValueError if a parent run, or one that it was built on, has seen what a split validates on."""
    if split == "full":
        return
    known = replace(run.describe(), columns=run.record.columns)
    lines = [(f"{run.flag} {run.name}", known, run.teaching(split))]
    while lines:
        label, known, folds = lines.pop()
        _compare(label, known, folds, record, split)
        for parent in map(ParentRecord.from_json, known.parents or ()):
            own = [fold for fold in folds if fold in parent.folds] or parent.folds
            lines.append((f"{label}, which was built on {parent.name}", parent, own))


def _compare(label: str, known: ParentRecord, folds: list[str], record: RunRecord, split: str) -> None:
    """Raise ValueError if the folds of a run that a split builds on have seen what the split validates on.

    Args:
        label: how messages call it.
        known: what is known of it.
        folds: the folds of it that were taken.
        record: of the run to come.
        split: name of the model to train.
    """
    digests = known.folds_by.get("valid_sha256")
    for task, ours in sorted(record.folds_by["valid_sha256"][split].items()):
        if task not in task_names(known.task):
            continue
        if digests is not None and all(digests.get(fold, {}).get(task) == ours for fold in folds):
            continue
        if known.files.get(task, known.data["sha256"]) != _data_of(record, task)["sha256"]:
            logger.warning(
                "%s: trained on other %s rows; they cannot be compared here, so make sure that none is among the "
                "validation rows of %s",
                *(label, task, split),
            )
        elif digests is None and folds == [split] and not _differences(known, record):
            logger.warning(
                "%s: an older run without a list of what its folds validate on; its folds were made by the same "
                "settings as these, so they are taken as the same",
                label,
            )
        else:
            why = f" ({'; '.join(found)})" if (found := _differences(known, record)) else ""
            raise ValueError(
                f"{label}: {' and '.join(known.folds)} saw rows that {split} validates on{why}; take the same fold "
                "of the same folds, or a run on another task"
            )


def _differences(known: ParentRecord, record: RunRecord) -> list[str]:
    """Return in what two runs differ that decides their folds; what is not known of an older one counts."""
    theirs, ours = ({**each.folds_by, **each.columns} for each in (known, record))
    keys = [key for key in ours if key not in ("valid_sha256", "full")]
    found = [f"{key} {theirs.get(key)} there, {ours[key]} here" for key in keys if theirs.get(key) != ours[key]]
    # Folds that the files do not give are made of all rows of all tasks: with other ones beside them they are others.
    if not ours["given"] and known.data["sha256"] != record.data["sha256"]:
        found.append(f"made of the rows of {known.task} there, of {record.task} here")
    return found


def _data_of(record: RunRecord, task: str) -> Mapping[str, Any]:
    """Return what a run says of its records of one task."""
    return record.data.get("tasks", {task: record.data})[task]
