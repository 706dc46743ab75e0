"""Shorten category paths at random to their last levels while a model trains, anew in each epoch."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from product_relevance.text.path_format import form_of
from product_relevance.text.taxonomy import join_path
from product_relevance.training.batches.dataset import PairDataset


@dataclass(frozen=True)
class ShortPaths:
    """The short forms of pairs, and the draw of which one an epoch shows.

    The draw is a hash of seed, epoch and row, so it is the same on every process and after a resume.

    Attributes:
        forms: of each row, the token ids of the pair with its path's last 1, 2, ... levels, never all of them; none
            for a path of one level or an item title.
        keys: identifies each row, n strings.
        share: of the rows with short forms that show one, 0 to 1; each form as likely as another.
        seed: another one gives other draws.
    """

    forms: list[list[np.ndarray]]
    keys: list[str]
    share: float
    seed: int

    def add_to(self, rows: PairDataset, split) -> PairDataset:
        """Let the training rows of a split show short forms too."""
        forms = [self.forms[i] for i in split.train]
        rows.short = replace(self, forms=forms, keys=[self.keys[i] for i in split.train])
        return rows

    def shown(self, row: int, epoch: int) -> np.ndarray | None:
        """Return the short form that an epoch shows of a row; None where it shows the whole path."""
        forms = self.forms[row] if row < len(self.forms) else []  # rows of an unlabelled file come behind
        if not forms:
            return None
        digest = hashlib.sha256(f"{self.seed}\x1f{epoch}\x1f{self.keys[row]}".encode()).digest()
        drawn, which = (int.from_bytes(part) / 2**64 for part in (digest[:8], digest[8:16]))
        return forms[int(which * len(forms))] if drawn < self.share else None

    def lengths(self, whole: np.ndarray, epoch: int) -> np.ndarray:
        """Return the tokens of each row in an epoch, shape (n,), given those of the whole paths."""
        shown = [self.shown(row, epoch) for row in range(len(whole))]
        return np.array([n if form is None else len(form) for n, form in zip(whole, shown, strict=True)])


def shorten_paths(frame: pd.DataFrame, share: float, training, encode) -> ShortPaths:
    """Tokenise the short forms of all pairs once.

    Args:
        frame: records with columns.
        share: `--random_levels`.
        training: TrainingArguments.
        encode: from records to lists of token ids, without the tree of paths.

    Raises:
        ValueError: an order of rows that does not know its epoch.
    """
    if training.train_sampling_strategy != "group_by_length":
        raise ValueError(
            f"--train_sampling_strategy {training.train_sampling_strategy}: --random_levels needs group_by_length, "
            "the order that knows which epoch a row is shown in"
        )
    rows = zip(frame["target"], frame["task"], strict=True)
    form = form_of(frame)
    levels = [form.split(target) if task == "QC" else [] for target, task in rows]
    depth = np.array([len(names) for names in levels])
    forms: list[list[np.ndarray]] = [[] for _ in levels]
    for count in range(1, depth.max(initial=0)):
        deeper = np.flatnonzero(depth > count)
        paths = [join_path(levels[i][-count:], form) for i in deeper]
        part = frame.iloc[deeper].drop(columns="clean_target", errors="ignore").assign(target=paths)
        for i, ids in zip(deeper, encode(part), strict=True):
            forms[i].append(np.array(ids, dtype=np.int32))  # lists of Python numbers would take eight times as much
    keys = [f"{task}\x1f{name}" for task, name in zip(frame["task"], frame["id"], strict=True)]
    seed = training.seed if training.data_seed is None else training.data_seed
    return ShortPaths(forms, keys, share, seed)
