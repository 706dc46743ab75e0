"""The rows that a fold trains on, their batches, and the orders in which an epoch shows them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from product_relevance.models.batching import distinct_rows, pad_rows
from product_relevance.models.prefix_groups import MIN_PREFIX, share_prefixes

# What a row may have for its loss beside the label: a factor, a teacher's probability of relevance, its own number.
ROW_COLUMNS = ("weights", "teacher", "places")


@dataclass(eq=False)
class PairDataset(Dataset):
    """Tokenised pairs with labels and what their losses need, as the Trainer takes them; `tasks` is for metrics."""

    ids: Sequence[Sequence[int]]
    labels: Sequence[int] | np.ndarray | None = None
    weights: Sequence[float] | np.ndarray | None = None
    teacher: Sequence[float] | np.ndarray | None = None
    places: Sequence[int] | np.ndarray | None = None
    tasks: Sequence[str] | np.ndarray | None = None
    short: Any = None  # ShortPaths

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index: int) -> dict:
        # A sampler goes on counting where an epoch may show other forms of the rows than the one before.
        epoch, index = divmod(index, len(self))
        short = self.short and self.short.shown(index, epoch)
        row = {"input_ids": self.ids[index] if short is None else short}
        if self.labels is not None:
            row["labels"] = int(self.labels[index])
        for name in ROW_COLUMNS:
            if (values := getattr(self, name)) is not None:
                row[name] = float(values[index])
        return row


@dataclass(frozen=True, eq=False)
class HostRows:
    """Rows of a batch as they were before they were padded and copied to a GPU, which nobody has to wait for then.

    Attributes:
        ids: token ids of each row.
    """

    ids: list[Sequence[int]]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, shape (n,)."""
        return np.array([len(row) for row in self.ids])


class PairCollator:
    """Pads rows on the right to the longest of the batch; makes tensors of shape (batch, length).

    Args:
        pad_id: pad token.
        with_rows: keep the rows themselves too, as `HostRows` under `rows`.
    """

    def __init__(self, pad_id: int, with_rows: bool = False):
        self.pad_id, self.with_rows = pad_id, with_rows

    def __call__(self, rows: list[dict]) -> dict[str, Any]:
        ids = [row["input_ids"] for row in rows]
        batch: dict[str, Any] = pad_rows(ids, self.pad_id)
        if self.with_rows:
            batch["rows"] = HostRows(ids)
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        for name in ROW_COLUMNS:
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows], dtype=torch.float32)
        return batch


class LengthGroupedSampler(Sampler):
    """Random order in which neighbouring rows have like lengths, batch by batch.

    Rows are shuffled, cut into windows of `WINDOW` batches, sorted by length inside a window, and the batches of the
    whole epoch are shuffled again. The Trainer's own `group_by_length` keeps the sorted order of its windows, so that
    the lengths of successive batches rise and fall together, and with them language and label.
    The order depends on seed and epoch alone: it is the same on every process and after a resume.
    """

    WINDOW = 20

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, short=None):
        self.lengths, self.batch_size, self.seed, self.epoch = np.asarray(lengths), batch_size, seed, 0
        self.short = short

    def __len__(self):
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is given next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order, keys = self._shuffled(rng)
        step = self.batch_size * self.WINDOW
        windows = [order[i : i + step] for i in range(0, len(order), step)]
        order = np.concatenate([w[np.lexsort([key[w] for key in keys])] for w in windows])
        whole = len(order) // self.batch_size * self.batch_size  # a short batch stays last
        batches = rng.permutation(order[:whole].reshape(-1, self.batch_size))
        order = np.concatenate([batches.reshape(-1), order[whole:]])
        return iter((order if self.short is None else order + self.epoch * len(order)).tolist())

    def _shuffled(self, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the rows in random order and the keys, the last one first, by which a window of them is sorted."""
        lengths = self.lengths if self.short is None else self.short.lengths(self.lengths, self.epoch)
        return rng.permutation(len(lengths)), [-lengths]


class PrefixGroupedSampler(LengthGroupedSampler):
    """Random order in which rows that share a prefix, as the pairs of a query do, follow each other.

    The groups are those that save most tokens over the whole epoch (`prefixes.share`), by prefixes of at least a fifth
    of a mean row. They are shuffled, and inside a window of `LengthGroupedSampler.WINDOW` batches they and their rows
    are sorted by what is left beside the prefix, so that a batch pads little; then the batches are shuffled. The order
    depends on seed and epoch alone.
    """

    def __init__(self, ids: Sequence[Sequence[int]], batch_size: int, seed: int, short=None):
        super().__init__([len(row) for row in ids], batch_size, seed, short)
        once, inverse = distinct_rows(ids)
        lengths = np.array([len(row) for row in once], dtype=int)
        sharing = share_prefixes(once, max(MIN_PREFIX, int(lengths.sum() / max(1, len(once)) / 5)))
        alone = sharing.group < 0
        groups = np.where(alone, sharing.group.max(initial=-1) + 1 + np.cumsum(alone), sharing.group)
        groups = np.unique(groups, return_inverse=True)[1]
        self.longest = np.zeros(groups.max(initial=-1) + 1)
        np.maximum.at(self.longest, groups, lengths - sharing.length)
        self.group, self.rest = groups[inverse], (lengths - sharing.length)[inverse]

    def _shuffled(self, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
        rows, place = rng.permutation(len(self.group)), rng.permutation(len(self.longest))
        order = rows[np.argsort(place[self.group[rows]], kind="stable")]
        return order, [-self.rest, place[self.group], -self.longest[self.group]]
