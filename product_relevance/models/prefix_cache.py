"""Forward each shared prefix once through a causal model, and of every row only what follows it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import Cache, DynamicCache
from transformers.modeling_layers import GenericForSequenceClassification

from product_relevance.models.batching import copy_to, pad_left_on, pad_on
from product_relevance.models.heads.yes_no import YesNoModel

# Decoders whose scores over the cache were compared with those without: rotary positions, causal attention over all
# tokens or a window of them. Any other architecture is scored row by row.
DECODERS = {"gemma", "gemma2", "gemma3_text", "llama", "mistral", "qwen2", "qwen3"}


def supports_prefixes(model) -> bool:
    """Return whether a model, with adapters or without, reads from left to right and can be given a cache."""
    inner: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    known = isinstance(inner, GenericForSequenceClassification | YesNoModel)
    return known and reads_forward(inner.config)


def reads_forward(config) -> bool:
    """Return whether a base of this config reads from left to right, and was compared."""
    two_way = getattr(config, "use_bidirectional_attention", None) or getattr(config, "is_causal", True) is False
    return config.model_type in DECODERS and not two_way


class PrefixForward:
    """Scores what follows the prefixes of a block; keeps the keys and values of one block's prefixes.

    Gradients flow through them: in training the loss of all rows of a block reaches its prefixes.

    Args:
        model: that forwards the rows, as DDP wraps it.
        pad_id: pad token.
        inner: the model itself, which forwards the prefixes; `model` if None.
    """

    def __init__(self, model, pad_id: int, inner=None) -> None:
        self.model, self.inner, self.pad_id = model, inner or model, pad_id
        self.device = next(model.parameters()).device
        self._kept: tuple[list[list[int]], DynamicCache, torch.Tensor] | None = None  # prefixes, cache, mask

    def __call__(
        self, rows: Sequence[list[int]], places: Sequence[int] | np.ndarray, prefixes: list[list[int]]
    ) -> torch.Tensor:
        """Score rows.

        Args:
            rows: b rows of token ids, whole.
            places: b places in `prefixes`, of what each row begins with.
            prefixes: forwarded once as long as the same list comes again.

        Returns:
            Logits of shape (b, 2).
        """
        if self._kept is None or prefixes is not self._kept[0]:
            self._kept = None  # the last block's memory is free before this one's is asked for
            self._kept = (prefixes, *self._forward_prefixes(prefixes))
        _, cache, mask = self._kept
        at = copy_to(self.device, torch.as_tensor(places))
        ends = [row[len(prefixes[place]) :] for row, place in zip(rows, places, strict=True)]
        batch = pad_on(self.device, ends, self.pad_id)
        before = mask[at]
        places_in_text = before.sum(1, keepdim=True) + torch.arange(batch["input_ids"].shape[1], device=self.device)
        return self.model(
            input_ids=batch["input_ids"],
            attention_mask=torch.cat([before, batch["attention_mask"]], dim=1),
            position_ids=places_in_text,
            past_key_values=_Expanded(cache, at),
            use_cache=True,
        ).logits.float()

    def _forward_prefixes(self, prefixes: list[list[int]]) -> tuple[DynamicCache, torch.Tensor]:
        # Padded on the left, so that the tokens of a row stand side by side in the cache: a sliding window counts
        # places there, not positions.
        batch = pad_left_on(self.device, prefixes, self.pad_id)
        mask, cache = batch["attention_mask"], DynamicCache(config=self.inner.config)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        self.inner(**batch, position_ids=positions, past_key_values=cache, use_cache=True)
        return cache, mask


class _Expanded(Cache):
    """The cache of prefixes read as if each row of a batch had its own, one layer at a time; it keeps nothing new.

    So memory holds each prefix once, and a whole copy for each row in no more than the layer that is at work; in
    training, where each layer keeps its copies for the backward pass, in all.
    """

    def __init__(self, prefixes: DynamicCache, places: torch.Tensor):
        super().__init__(layers=prefixes.layers)
        self._places = places

    def update(self, key_states, value_states, layer_idx: int, *_, **__):
        """Return the keys and values of prefixes and rows, of shape (rows, heads, prefix + row, width)."""
        layer: Any = self.layers[layer_idx]  # of keys and values, as the decoders above have them
        pairs = (layer.keys, key_states), (layer.values, value_states)
        return tuple(torch.cat([known.index_select(0, self._places), new], dim=-2) for known, new in pairs)
