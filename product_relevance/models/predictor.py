"""Score tokenised pairs with one model: identical pairs and shared prefixes once, one token budget per batch."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from product_relevance.models import memory, packed_rows, prefix_cache
from product_relevance.models.batching import MAX_TOKENS, batch_limits, distinct_rows, on_device, pad_on
from product_relevance.models.compiled_layers import has_compiled_layers
from product_relevance.models.heads.classifier import base_dtype
from product_relevance.models.modeling import evaluation_mode
from product_relevance.models.prefix_groups import make_batches, worth_sharing
from product_relevance.utils import console

if TYPE_CHECKING:
    from tqdm import tqdm

logger = logging.getLogger(__name__)


def predict_logits(model, ids: list[list[int]], pad_id: int, *, max_tokens: int | None = None, progress=None):
    """Score tokenised pairs; a causal model forwards a prefix that many pairs share once, where that pays.

    Args:
        model: gives logits of shape (batch, K), of K labels; scores on the device where it lies.
        ids: n lists of token ids.
        pad_id: pad token.
        max_tokens: padded tokens per forward; by device and its free memory when None. Halved when memory runs out.
        progress: description of a progress bar; none when None.

    Returns:
        float32 array of shape (n, K), in the order of `ids`.

    Raises:
        ValueError: a logit is not finite.
    """
    device = next(model.parameters()).device
    limits = ForwardLimits(device.type, max_tokens or token_budget(model, device), progress)
    return _predict(model, ids, pad_id, lambda rows: pad_on(device, rows, pad_id), limits)


def predict_packed(model, ids: list[list[int]], pad_id: int, *, max_tokens: int | None = None, progress=None):
    """Score tokenised pairs as `predict_logits` does; rows that share no prefix go side by side, without padding.

    Raises:
        ValueError: from `packed_rows.require_packing`; a logit is not finite.
    """
    packed_rows.require_packing(model)
    device = next(model.parameters()).device
    limits = ForwardLimits(device.type, max_tokens or token_budget(model, device), progress)
    return _predict(model, ids, pad_id, lambda rows: on_device(device, packed_rows.pack_rows(rows)), limits)


def _predict(model, ids: list[list[int]], pad_id: int, place: Callable[[list], dict], limits: "ForwardLimits"):
    after: ScoreAfterPrefixes | None = None
    if prefix_cache.supports_prefixes(model):
        after = prefix_cache.PrefixForward(model, pad_id)
    options = {} if after is None else {"use_cache": False}  # keys and values that nobody would read

    def forward(rows: list[list[int]]) -> torch.Tensor:
        return model(**place(rows), **options).logits.float()

    if after is not None and has_compiled_layers(model):
        after = partial(_without_graphs, after)
    with evaluation_mode(model):
        return score_in_batches(forward, ids, (model.config.num_labels,), limits, after)


def _without_graphs(after: "ScoreAfterPrefixes", *batch) -> "Scores":
    """Score after prefixes as the layers are written: each asks the cache by its number, as its graph would."""
    with torch.compiler.set_stance("force_eager"):
        return after(*batch)


def token_budget(model, device: torch.device) -> int | None:
    """Return how many padded tokens per forward may have on a GPU, by its free memory; None on other devices."""
    return fitting_tokens(model, memory.free_memory(device)) if device.type == "cuda" else None


def fitting_tokens(model, free: int) -> int:
    """Estimate how many padded tokens per forward on a GPU may have.

    A token counts with its keys and values in all layers, as they are kept of prefixes, and with six times the hidden
    and three times the inner width in the layer at work. Half of what is free is left for what this leaves out.

    Args:
        model: on its device.
        free: bytes.

    Returns:
        From 256 to as many as keep a GPU busy.
    """
    config, size = model.config, base_dtype(model).itemsize
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kept = 2 * config.num_hidden_layers * heads * width
    token = size * (kept + 6 * config.hidden_size + 3 * memory.inner_width(config))
    return max(256, min(MAX_TOKENS["cuda"], free // (2 * token)))


Scores = np.ndarray | torch.Tensor
Score = Callable[[list[list[int]]], Scores]
ScoreAfterPrefixes = Callable[[list[list[int]], Sequence[int] | np.ndarray, list[list[int]]], Scores]


@dataclass(frozen=True)
class ForwardLimits:
    """How large a forward pass may be, and whether its progress is shown.

    Attributes:
        device: "cpu" or "cuda".
        max_tokens: padded tokens per forward; by device when None.
        progress: description of a progress bar; none when None.
    """

    device: str
    max_tokens: int | None = None
    progress: str | None = None


@torch.inference_mode()
def score_in_batches(
    forward: Score,
    ids: list[list[int]],
    shape: tuple[int, ...],
    limits: ForwardLimits,
    after: Callable[[list[list[int]], Sequence[int] | np.ndarray, list[list[int]]], np.ndarray | torch.Tensor]
    | None = None,
) -> np.ndarray:
    """Score each distinct row once, sorted by length, one token budget per batch, halved when memory runs out.

    Args:
        forward: from b of the n rows of token ids `ids`, longest first, to finite numbers of shape (b, *shape).
        shape: of what `forward` gives a row.
        limits: of a forward pass.
        after: the same from rows, the place of the prefix of each, and the prefixes of a block of batches, which
            need no second forward; no prefix is shared if None.

    Returns:
        float32 array of shape (n, *shape), in the order of `ids`.

    Raises:
        ValueError: a number is not finite.
    """
    if not ids:
        return np.zeros((0, *shape), np.float32)
    once, inverse = distinct_rows(ids)
    done: list[tuple[np.ndarray, torch.Tensor]] = []
    most = None  # padded tokens that a forward may have once one has failed
    tokens, at_most = batch_limits(limits.device)
    sharing = None if after is None else worth_sharing(once)
    pending = list(make_batches(once, limits.max_tokens or tokens, at_most, sharing))[::-1]
    bar: tqdm[int]
    shown = bool(limits.progress)
    with console.progress_bar(total=len(once), desc=limits.progress, unit="pair", shown=shown) as bar:
        while pending:
            batch = pending.pop()
            rows = [once[i] for i in batch.rows]
            padded = len(rows) * max(map(len, rows))
            too_large = len(rows) > 1 and most is not None and padded > most
            if not too_large:
                score: Callable[[], Scores] = partial(forward, rows)
                if after is not None and batch.places is not None:
                    score = partial(after, rows, batch.places, batch.prefixes)
                scores = _fitting(score, last=len(rows) == 1 and not batch.prefixes)
                if scores is not None:
                    done.append((batch.rows, scores))  # no wait for a GPU between batches
                    bar.update(len(rows))
                    continue
                logger.warning("out of memory at %d pairs, %d padded tokens: halved", len(rows), padded)
                most = padded // 2 if len(rows) > 1 else most
            pending += batch.halves()[::-1]
    found = np.empty((len(once), *shape), np.float32)
    for places, values in done:
        found[places] = values.cpu().numpy()
    if not np.isfinite(found).all():
        raise ValueError("the model gave a score that is not finite; check the adapter and the dtype")
    return found[inverse]


def _fitting(score: Callable[[], Scores], last: bool) -> torch.Tensor | None:
    """Return what `score` gives, None where memory runs out, unless there is nothing smaller to try."""
    try:
        return torch.as_tensor(score())
    except RuntimeError as error:
        if last or not memory.is_out_of_memory(error):
            raise
    memory.release_cache()  # here, since the error holds on to the tensors of its frames
    return None
