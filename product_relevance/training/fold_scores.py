"""Scores of the rows that a fold validates on, split over the processes of a training."""

from collections.abc import Sequence

import numpy as np
import torch

from product_relevance.evaluation.metrics import probabilities, require_finite
from product_relevance.models import predictor
from product_relevance.models.batching import budget_batches, distinct, limits, pad_on
from product_relevance.models.modeling import evaluating
from product_relevance.training import distributed


def score(fitter, ids: list[list[int]], queries: Sequence, pad_id: int, progress: str) -> np.ndarray:
    """Score tokenised pairs with the model of a Trainer, by the scorer that one process has, on all of them.

    Args:
        fitter: the Trainer; every process calls.
        ids: n lists of token ids.
        queries: of the n pairs; those of one query go to one process, which forwards what they share once.
        pad_id: pad token.
        progress: description of the first process's progress bar.

    Returns:
        Probabilities, shape (n,), on every process.

    Raises:
        ValueError: a logit is not finite.
    """
    if distributed.zero_stage(fitter.args) == 3:
        return probabilities(_in_step(fitter, ids, pad_id))
    shown = progress if fitter.args.process_index == 0 else None
    logits = distributed.share_out(
        queries,
        lambda rows: predictor.predict_logits(fitter.model, [ids[i] for i in rows], pad_id, progress=shown),
    )
    return probabilities(logits)


def _in_step(fitter, ids: list[list[int]], pad_id: int) -> np.ndarray:
    """Return logits of shape (n, 2) where the weights are spread (ZeRO-3): all processes forward equally often."""
    (once, inverse), device = distinct(ids), fitter.args.device
    tokens, at_most = limits(device.type)
    tokens = distributed.first_decides(lambda: predictor.budget(fitter.model, device)) or tokens
    batches = list(budget_batches([len(row) for row in once], tokens, at_most))
    found = np.full((len(once), 2), np.nan, np.float32)
    with evaluating(fitter.model), torch.no_grad():
        for start in range(0, len(batches), fitter.args.world_size):
            # the last batch once more where no other is left
            rows = batches[min(start + fitter.args.process_index, len(batches) - 1)]
            logits = fitter.model_wrapped(**pad_on(device, [once[i] for i in rows], pad_id)).logits
            found[rows] = logits.float().cpu().numpy()
    for part in distributed.gather(found):
        found = np.where(np.isnan(found), part, found)
    require_finite(found, "logits")
    return found[inverse]
