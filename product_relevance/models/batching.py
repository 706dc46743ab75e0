"""Batches of tokenised pairs: sorted by length, within a token budget, padded."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

MAX_TOKENS = {"cpu": 1024, "cuda": 16384}  # padded tokens a forward
MAX_ROWS = {"cpu": 128, "cuda": 1024}


# What a row may have for its loss beside the label: a factor, and a teacher's probability of relevance.
ROW_COLUMNS = ("weights", "teacher")


class PairDataset(Dataset):
    """Tokenised pairs with labels and what their losses need, as the Trainer takes them; `tasks` is for metrics."""

    def __init__(
        self,
        ids: Sequence[Sequence[int]],
        labels: Sequence[int] | None = None,
        weights=None,
        teacher=None,
        tasks=None,
        short=None,
    ):
        self.ids, self.labels, self.weights, self.teacher, self.tasks = ids, labels, weights, teacher, tasks
        self.short = short  # ShortPaths

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


class PairCollator:
    """Pads rows on the right to the longest of the batch; makes tensors of shape (batch, length)."""

    def __init__(self, pad_id: int):
        self.pad_id = pad_id

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        batch = pad([row["input_ids"] for row in rows], self.pad_id)
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        for name in ROW_COLUMNS:
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows], dtype=torch.float32)
        return batch


def distinct(ids: Sequence[Sequence[int]]) -> tuple[list[list[int]], np.ndarray]:
    """Return the distinct rows in the order of their first and, per row, which of them it is."""
    seen: dict[tuple[int, ...], int] = {}
    inverse = np.array([seen.setdefault(tuple(row), len(seen)) for row in ids], dtype=int)
    return [list(row) for row in seen], inverse


def pad(rows: Sequence[Sequence[int]], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad token ids on the right into `input_ids` and `attention_mask` of shape (rows, longest)."""
    ids = np.full((len(rows), max(map(len, rows))), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def limits(device: str) -> tuple[int, int]:
    """Return how many padded tokens and how many rows a forward may have on a kind of device."""
    kind = device if device in MAX_TOKENS else "cpu"
    return MAX_TOKENS[kind], MAX_ROWS[kind]


def pad_left_on(device: torch.device, rows: Sequence[Sequence[int]], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad on the left and copy to a device, as `pad_on` does on the right."""
    turned = pad_on(device, [row[::-1] for row in rows], pad_id)
    return {name: value.flip(1) for name, value in turned.items()}


def pad_on(device: torch.device, rows: Sequence[Sequence[int]], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad as `pad` does, and copy to a device; to a GPU out of pinned memory, while it still works on other rows."""
    batch = pad(rows, pad_id)
    if device.type == "cuda":
        batch = {name: value.pin_memory() for name, value in batch.items()}
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


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


def budget_batches(lengths: Sequence[int], max_tokens: int, max_rows: int) -> Iterator[np.ndarray]:
    """Yield row indices in batches of at most `max_tokens` padded tokens, longest rows first.

    Longest first, so that memory runs out at the first batch or not at all. A row longer than the budget makes a
    batch of its own.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        rows = min(max_rows, max(1, max_tokens // longest))
        yield order[start : start + rows]
        start += rows
