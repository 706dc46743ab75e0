"""An earlier run that a training builds on, as its first stage or its teacher, without a look at validation rows."""

import logging
from dataclasses import dataclass
from pathlib import Path

from product_relevance.locate import locate
from product_relevance.tasks import names

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EarlierRun:
    """A finished run whose folds the folds of a new one build on.

    Attributes:
        flag: the argument that named it, for messages.
        name: as it was given.
        home: folder or Hub id of the whole run; `name` may be one of its folds.
        content: of its run.json.
        folds: folder of each of its folds.
    """

    flag: str
    name: str
    home: str
    content: dict
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

    def described(self) -> dict:
        """Return what run.json keeps of it."""
        data = {key: self.content["data"][key] for key in ("source", "sha256", "rows")}
        return {"name": self.name, "task": self.content["task"], "folds": sorted(self.folds), "data": data}


def teacher_column(split: str) -> str:
    """Return the name of the column with a teacher's probabilities of the training rows of a split."""
    return f"teacher:{split}"


def find(flag: str, name: str | None, shared: dict, splits: list[str]) -> EarlierRun | None:
    """Find an earlier run, and check that none of its folds has seen validation rows of the fold that builds on it.

    Args:
        flag: the argument that names it.
        name: run folder, a fold's folder in it, or an ensemble on the Hub; None for none.
        shared: description of the run to come (`training_run.describe`).
        splits: names of the models to train.

    Raises:
        ValueError: nothing of that name, no fold for a split, or one that was trained on the split's validation rows.
    """
    if name is None:
        return None
    alone = Path(name) if (Path(name) / "fold.json").is_file() else None
    home = str(alone.parent) if alone else name
    found = locate(home)
    folds = {alone.name: found.folds[alone.name]} if alone else found.folds
    earlier = EarlierRun(flag, name, home, found.run, folds)
    for split in splits:
        _refuse_seen_rows(earlier, shared, split)
    return earlier


def _refuse_seen_rows(earlier: EarlierRun, shared: dict, split: str) -> None:
    first = earlier.content
    if split == "full":
        return
    common = set(names(first["task"])) & set(names(shared["task"]))
    same = {task for task in common if _data(first, task)["sha256"] == _data(shared, task)["sha256"]}
    for task in sorted(common - same):
        logger.warning(
            "%s %s: trained on other %s rows; they cannot be compared here, so make sure that none is among the "
            "validation rows of %s",
            *(earlier.flag, earlier.name, task, split),
        )
    # Folds that the files do not give are made of all rows of all tasks: with other ones beside them they are others.
    made_alike = first["folds_by"]["given"] or first["data"]["sha256"] == shared["data"]["sha256"]
    if same and (split not in earlier.folds or first["folds_by"] != shared["folds_by"] or not made_alike):
        raise ValueError(
            f"{earlier.flag} {earlier.name}: {' and '.join(earlier.folds)} saw rows that {split} "
            "validates on; take the same fold of the same folds, or a run on another task"
        )


def _data(content: dict, task: str) -> dict:
    """Return what a run says of its records of one task."""
    return content["data"].get("tasks", {task: content["data"]})[task]
