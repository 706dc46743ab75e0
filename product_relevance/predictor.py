"""Scores of tokenised pairs with one model: identical pairs once, sorted by length, a token budget a batch."""

import logging
from collections.abc import Callable

import numpy as np
import torch
from tqdm.auto import tqdm

from product_relevance.batching import MAX_ROWS, MAX_TOKENS, budget_batches, pad
from product_relevance.modeling import evaluating

logger = logging.getLogger(__name__)


def predict_logits(model, ids: list[list[int]], pad_id: int, *, max_tokens: int | None = None, progress=None):
    """Score tokenised pairs.

    Args:
        model: gives logits of shape (batch, 2); scores on the device where it lies.
        ids: n lists of token ids.
        pad_id: pad token.
        max_tokens: padded tokens a forward; by device when None. Halved when memory runs out.
        progress: description of a progress bar; none when None.

    Returns:
        float32 array of shape (n, 2), in the order of `ids`.

    Raises:
        ValueError: a logit is not finite.
    """
    device = next(model.parameters()).device

    def forward(rows: list[list[int]]) -> np.ndarray:
        batch = {key: value.to(device, non_blocking=True) for key, value in pad(rows, pad_id).items()}
        return model(**batch).logits.float().cpu().numpy()

    with evaluating(model):
        return over_batches(forward, ids, (2,), device.type, max_tokens=max_tokens, progress=progress)


@torch.inference_mode()
def over_batches(
    forward: Callable[[list[list[int]]], np.ndarray],
    ids: list[list[int]],
    shape: tuple[int, ...],
    device: str,
    *,
    max_tokens: int | None = None,
    progress: str | None = None,
) -> np.ndarray:
    """Score each distinct row once, sorted by length, a token budget a batch, halved when memory runs out.

    Args:
        forward: from b rows of token ids, longest first, to finite numbers of shape (b, *shape).
        ids: n lists of token ids.
        shape: of what `forward` gives a row.
        device: "cpu" or "cuda"; says how large a batch may be.
        max_tokens: padded tokens a forward; by device when None.
        progress: description of a progress bar; none when None.

    Returns:
        float32 array of shape (n, *shape), in the order of `ids`.

    Raises:
        ValueError: a number is not finite.
    """
    if not ids:
        return np.zeros((0, *shape), np.float32)
    distinct, inverse = _distinct(ids)
    found = np.empty((len(distinct), *shape), np.float32)
    budget = max_tokens or MAX_TOKENS.get(device, MAX_TOKENS["cpu"])
    pending = list(budget_batches([len(row) for row in distinct], budget, MAX_ROWS.get(device, 128)))[::-1]
    with tqdm(total=len(distinct), desc=progress, unit="pair", disable=not progress) as bar:
        while pending:
            rows = pending.pop()
            try:
                found[rows] = forward([distinct[i] for i in rows])
                bar.update(len(rows))
            except torch.cuda.OutOfMemoryError:
                if len(rows) == 1:
                    raise
                torch.cuda.empty_cache()
                logger.warning("out of memory at %d pairs of %d tokens: halved", len(rows), len(distinct[rows[0]]))
                pending += np.array_split(rows, 2)[::-1]
    if not np.isfinite(found).all():
        raise ValueError("the model gave a score that is not finite; check the adapter and the dtype")
    return found[inverse]


def _distinct(ids: list[list[int]]) -> tuple[list[list[int]], np.ndarray]:
    """Return the distinct rows and, per row, which of them it is."""
    seen: dict[tuple, int] = {}
    inverse = np.array([seen.setdefault(tuple(row), len(seen)) for row in ids])
    return [list(row) for row in seen], inverse
