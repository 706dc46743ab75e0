"""Scores of tokenised pairs with one model: identical pairs once, sorted by length, a token budget a batch."""

import logging

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
    if not ids:
        return np.zeros((0, 2), np.float32)
    distinct, inverse = _distinct(ids)
    device = next(model.parameters()).device
    budget = max_tokens or MAX_TOKENS.get(device.type, MAX_TOKENS["cpu"])
    logits = np.empty((len(distinct), 2), np.float32)
    with (
        evaluating(model),
        torch.inference_mode(),
        tqdm(total=len(distinct), desc=progress, disable=not progress) as bar,
    ):
        pending = list(budget_batches([len(i) for i in distinct], budget, MAX_ROWS.get(device.type, 128)))[::-1]
        while pending:
            rows = pending.pop()
            try:
                logits[rows] = _forward(model, [distinct[i] for i in rows], pad_id, device)
                bar.update(len(rows))
            except torch.cuda.OutOfMemoryError:
                if len(rows) == 1:
                    raise
                torch.cuda.empty_cache()
                logger.warning("out of memory at %d pairs of %d tokens: halved", len(rows), len(distinct[rows[0]]))
                pending += np.array_split(rows, 2)[::-1]
    if not np.isfinite(logits).all():
        raise ValueError("the model gave a score that is not finite; check the adapter and the dtype")
    return logits[inverse]


def _forward(model, rows, pad_id, device) -> np.ndarray:
    batch = {key: value.to(device, non_blocking=True) for key, value in pad(rows, pad_id).items()}
    return model(**batch).logits.float().cpu().numpy()


def _distinct(ids: list[list[int]]) -> tuple[list[list[int]], np.ndarray]:
    """Return the distinct rows and, per row, which of them it is."""
    seen: dict[tuple, int] = {}
    inverse = np.array([seen.setdefault(tuple(row), len(seen)) for row in ids])
    return [list(row) for row in seen], inverse
