"""The two sides of tokenised pairs, each encoded by itself: mean token states of a frozen encoder."""

from collections.abc import Sequence

import numpy as np
import torch

from product_relevance.models.batching import pad_on
from product_relevance.models.heads.pooling import masked_mean
from product_relevance.models.modeling import evaluation_mode
from product_relevance.models.predictor import ForwardLimits, score_in_batches, token_budget


def split_sides(ids: Sequence[int], separator: int) -> tuple[list[int], list[int]]:
    """Divide the tokens of a pair into those of its query and of its target, each as the tokenizer has one text.

    Args:
        ids: `<s> query </s></s> target </s>`, or `[CLS] query [SEP] target [SEP]`.
        separator: the token between the sides.

    Raises:
        ValueError: no separator, or nothing after it.
    """
    ends = [i for i, token in enumerate(ids) if token == separator]
    if len(ends) < 2:
        raise ValueError(f"found {len(ends)} separator tokens in a pair, expected 2 or more: take another base")
    start = ends[0] + 1 + (ids[ends[0] + 1] == separator)  # XLM-R writes two
    return [*ids[: ends[0] + 1]], [ids[0], *ids[start:]]


def encode_sides(model, ids: Sequence[Sequence[int]], pad_id: int, progress: str | None = None) -> np.ndarray:
    """Encode both sides of pairs; each distinct side once.

    Args:
        model: `PooledClassifier`, which knows the separator; its head is not read.
        ids: tokens of n pairs.
        pad_id: token that fills a batch.
        progress: description of a progress bar; none when None.

    Returns:
        float32 array of shape (n, 2, width): the mean token states of query and target.

    Raises:
        ValueError: from `split_sides`, or a state that is not finite.
    """
    device = next(model.parameters()).device
    sides = [split_sides(row, model.separator) for row in ids]
    limits = ForwardLimits(device.type, token_budget(model, device), progress)

    def forward(rows: list[list[int]]) -> torch.Tensor:
        batch = pad_on(device, rows, pad_id)
        states = model.model(**batch).last_hidden_state
        return masked_mean(states.float(), batch["attention_mask"])

    with evaluation_mode(model):
        found = score_in_batches(forward, [one for pair in sides for one in pair], (model.config.hidden_size,), limits)
    return found.reshape(len(ids), 2, -1)
