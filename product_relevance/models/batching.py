"""Tokenise pairs once, and make batches of them: sorted by length, split by a token budget."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

MAX_TOKENS = {"cpu": 1024, "cuda": 16384}  # padded tokens per forward
MAX_ROWS = {"cpu": 128, "cuda": 1024}


def distinct_rows(ids: Sequence[Sequence[int]]) -> tuple[list[list[int]], np.ndarray]:
    """Return the distinct rows in the order of their first and, per row, which of them it is."""
    seen: dict[tuple[int, ...], int] = {}
    inverse = np.array([seen.setdefault(tuple(row), len(seen)) for row in ids], dtype=int)
    return [list(row) for row in seen], inverse


def pad_rows(rows: Sequence[Sequence[int]], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad token ids on the right into `input_ids` and `attention_mask` of shape (rows, longest)."""
    ids = np.full((len(rows), max(map(len, rows))), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def batch_limits(device: str) -> tuple[int, int]:
    """Return how many padded tokens and how many rows per forward may have on a kind of device."""
    kind = device if device in MAX_TOKENS else "cpu"
    return MAX_TOKENS[kind], MAX_ROWS[kind]


def pad_left_on(device: torch.device, rows: Sequence[Sequence[int]], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad on the left and copy to a device, as `pad_on` does on the right."""
    turned = pad_on(device, [row[::-1] for row in rows], pad_id)
    return {name: value.flip(1) for name, value in turned.items()}


def copy_to(device: torch.device, values: torch.Tensor) -> torch.Tensor:
    """Copy to a device; to a GPU from pinned memory, so that nobody waits until it has done what it was given."""
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def pad_on(device: torch.device, rows: Sequence[Sequence[int]], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad as `pad_rows` does, and copy to a device."""
    return on_device(device, pad_rows(rows, pad_id))


def on_device(device: torch.device, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy a batch to a device; to a GPU while it works on other rows."""
    return {name: copy_to(device, value) for name, value in batch.items()}


def budget_batches(lengths: Sequence[int] | np.ndarray, max_tokens: int, max_rows: int) -> Iterator[np.ndarray]:
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
