"""Make training batches whose pairs share prefixes: whole groups together, each prefix forwarded once."""

from typing import Any

import numpy as np
import torch

from product_relevance.models import prefix_cache
from product_relevance.models.batching import copy_to, distinct_rows, pad_on
from product_relevance.models.modeling import DROPOUTS, load_config
from product_relevance.models.prefix_groups import Batch, make_batches, worth_sharing
from product_relevance.training.batches import micro_batches


def split_by_prefix(batch: dict[str, Any], max_tokens: int | None, pad_id: int) -> list[dict]:
    """Split a batch into pieces, in each of which the rows that share a prefix forward it once.

    Losses that are summed over the pairs have the same sum, and the same gradient, as those of the whole batch, where
    nothing is random in a forward pass.

    Args:
        batch: padded on the right: `input_ids` and `attention_mask` of shape (n, length); `rows` as the collator keeps
            them; all else of shape (n,).
        max_tokens: padded tokens per micro-batch at most, where a row counts with its prefix; no limit if None.
        pad_id: pad token.

    Returns:
        Pieces that hold each pair once: what `batch` has, of some rows; under `shared` how to forward them.
    """
    rows, inverse = distinct_rows(batch["rows"].ids)
    budget = max_tokens or batch["input_ids"].numel()
    made = []
    for found in make_batches(rows, budget, len(rows), worth_sharing(rows)):
        forwarded = found.part(np.arange(len(found.rows))) if found.prefixes else found
        members = np.flatnonzero(np.isin(inverse, found.rows))
        at = copy_to(batch["input_ids"].device, torch.from_numpy(members))
        shared = Shared([rows[i] for i in found.rows], forwarded, _places(found.rows, inverse[members]), pad_id)
        of_rows = {key: value[at] for key, value in batch.items() if key not in (*micro_batches.PADDED, "rows")}
        made.append(of_rows | {"shared": shared})
    return made


class Shared:
    """Distinct rows of one micro-batch, and the place of each pair among them.

    Args:
        rows: d lists of token ids, whole.
        batch: their places and prefixes; no prefixes if they share nothing.
        places: of each of the n pairs among the rows, shape (n,).
        pad_id: pad token.
    """

    def __init__(self, rows: list[list[int]], batch: Batch, places: np.ndarray, pad_id: int):
        self.rows, self.batch, self.places, self.pad_id = rows, batch, torch.from_numpy(places), pad_id

    @property
    def forwarded(self) -> int:
        """Padded tokens that the model forwards."""
        prefixes, places = self.batch.prefixes, self.batch.places
        if not prefixes or places is None:
            return len(self.rows) * max(map(len, self.rows))
        left = [len(row) - len(prefixes[place]) for row, place in zip(self.rows, places, strict=True)]
        return len(prefixes) * max(map(len, prefixes)) + len(left) * max(left)

    def logits(self, model, inner) -> torch.Tensor:
        """Forward the rows, with gradients.

        Args:
            model: as a launcher wraps it.
            inner: the model itself.

        Returns:
            Logits of the pairs, of shape (n, 2).
        """
        device = next(model.parameters()).device
        if self.batch.prefixes and self.batch.places is not None:
            forward = prefix_cache.PrefixForward(model, self.pad_id, inner)
            logits = forward(self.rows, self.batch.places, self.batch.prefixes)
        else:
            logits = model(**pad_on(device, self.rows, self.pad_id), use_cache=False).logits
        return logits[copy_to(device, self.places)]


def require_shareable(model_args, objective: str, training) -> None:
    """Raise ValueError if shared prefixes would be inexact or cannot be kept, before anything is replaced.

    Args:
        model_args: ModelArguments; the config of its base is read.
        objective: of ObjectiveArguments.
        training: TrainingArguments.

    Raises:
        ValueError: names what is in the way and what to do.
    """
    way_out = "or leave out --share_prefixes"
    config = load_config(model_args.model_name_or_path, model_args.model_revision)
    micro_batches.require_splittable(training, "--share_prefixes")
    if not prefix_cache.reads_forward(config) or model_args.pooling != "auto":
        known = ", ".join(sorted(prefix_cache.DECODERS))
        raise ValueError(f"--share_prefixes needs a causal base ({known}) with --pooling auto: take one, {way_out}")
    if objective in ("r_drop", "dpo"):
        raise ValueError(f"--share_prefixes: --objective {objective} reads each pair twice: take another, {way_out}")
    base = any(getattr(config, name, None) for name in DROPOUTS)
    base = base if model_args.base_dropout is None else model_args.base_dropout
    if base or (model_args.adapter == "lora" and model_args.lora_dropout) or training.neftune_noise_alpha:
        raise ValueError(
            "--share_prefixes: pairs would share what is random in their prefix: take --lora_dropout 0 "
            f"--base_dropout 0 and no --neftune_noise_alpha, {way_out}"
        )
    if training.gradient_checkpointing:
        raise ValueError(
            f"--share_prefixes keeps keys and values, which --gradient_checkpointing forgets: drop that, {way_out}"
        )
    if training.train_sampling_strategy != "group_by_length":
        raise ValueError(
            f"--train_sampling_strategy {training.train_sampling_strategy}: --share_prefixes has an order of its own: "
            f"leave it at group_by_length, {way_out}"
        )


def _places(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return where each of the wanted rows stands in `rows`."""
    order = np.argsort(rows)
    return order[np.searchsorted(rows, wanted, sorter=order)]
