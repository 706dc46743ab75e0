"""The HF Trainer for pairs: exact loss over accumulated batches, NaN stop, safe checkpoints, fixed evaluation rows."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from transformers import EarlyStoppingCallback, Trainer

from product_relevance.batching import LengthGroupedSampler, PairCollator, PairDataset
from product_relevance.metrics import compute_metrics


class RelevanceTrainer(Trainer):
    """Trainer that weighs rows, counts tokens and stops at the first loss that is not a number."""

    def __init__(self, *args, pad_id: int, label_smoothing: float = 0.0, **options):
        super().__init__(
            *args,
            data_collator=PairCollator(pad_id),
            compute_loss_func=self.pair_loss,
            compute_metrics=compute_metrics,
            **options,
        )
        self.smoothing, self.weights = label_smoothing, None
        self.real_tokens = self.padded_tokens = self.pairs = 0

    def compute_loss(self, model, inputs, *args, **options):
        """Keep the rows' weights from the model, which would not know them, for the loss."""
        self.weights = inputs.pop("weights", None)
        return super().compute_loss(model, inputs, *args, **options)

    def pair_loss(self, outputs, labels, num_items_in_batch=None):
        """Return the summed cross-entropy divided by the pairs of the whole accumulated batch, on all processes.

        So 4 x 8 accumulated pairs give the gradient of one batch of 32 however they were split. A weight scales its
        row's loss and leaves that of the others alone.
        """
        loss = torch.nn.functional.cross_entropy(
            outputs["logits"].float(), labels, reduction="none", label_smoothing=self.smoothing
        )
        if self.weights is not None:
            loss = loss * self.weights
        return loss.sum() / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    def training_step(self, model, inputs, num_items_in_batch=None):
        """Run one forward and backward pass.

        Raises:
            FloatingPointError: the loss is NaN or infinite; names the step and the learning rate.
        """
        self.real_tokens += int(inputs["attention_mask"].sum())
        self.padded_tokens += inputs["input_ids"].numel()
        self.pairs += len(inputs["labels"])
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"loss is {loss.item()} at step {self.state.global_step + 1} (learning rate "
                f"{self._get_learning_rate():.2e}): lower --learning_rate or --max_grad_norm, or train in float32; "
                "the last checkpoint is kept"
            )
        return loss

    def _get_train_sampler(self, train_dataset=None):
        rows = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(rows)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return LengthGroupedSampler([len(row) for row in rows.ids], step, seed)

    def _get_eval_sampler(self, eval_dataset):
        # The Trainer would shuffle evaluation rows by length groups, and predictions would come back in that order.
        return torch.utils.data.SequentialSampler(eval_dataset)


def make_trainer(model, tokenizer, training, train: PairDataset, valid: PairDataset | None, patience: int | None):
    """Build the trainer of one fold; without validation rows it neither evaluates nor picks a best checkpoint."""
    callbacks = [EarlyStoppingCallback(patience)] if patience and valid is not None else []
    return RelevanceTrainer(
        model=model,
        args=training,
        train_dataset=train,
        eval_dataset=valid,
        processing_class=tokenizer,
        pad_id=tokenizer.pad_token_id,
        label_smoothing=training.label_smoothing_factor,
        callbacks=callbacks,
    )


def evaluation_rows(queries, rows: np.ndarray, limit: int) -> np.ndarray:
    """Choose a fixed subset of validation rows, whole query groups at a time, by a hash of the query.

    Args:
        queries: normalised queries of all records.
        rows: indices of the validation rows.
        limit: rows wanted; groups are added until it is reached.

    Returns:
        Sorted indices, about `limit` of them.
    """
    if len(rows) <= limit:
        return rows
    keys = np.array([hashlib.sha256(queries[i].encode()).hexdigest() for i in rows])
    order = np.argsort(keys, kind="stable")
    last = keys[order[limit - 1]]
    return np.sort(rows[order[keys[order] <= last]])


def last_usable_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint; one cut off while it was written is passed over.

    The Trainer writes trainer_state.json last, so a checkpoint with a readable one is whole.
    """
    found = []
    for state in folder.glob("checkpoint-*/trainer_state.json"):
        try:
            found.append((json.loads(state.read_text(encoding="utf-8"))["global_step"], state.parent))
        except (ValueError, KeyError):
            continue
    return max(found)[1] if found else None


def speed(trainer: RelevanceTrainer, seconds: float) -> dict:
    """Return seconds, pairs/s, tokens/s (real tokens) and the padding ratio (padded / real) of a training."""
    real = max(1, trainer.real_tokens)
    return {
        "seconds": round(seconds, 1),
        "pairs_per_second": round(trainer.pairs / seconds, 2),
        "tokens_per_second": round(trainer.real_tokens / seconds, 1),
        "padding_ratio": round(trainer.padded_tokens / real, 3),
    }


def require_rows(rows: int) -> None:
    """Refuse a fold whose training side is empty, as a purge can leave it.

    Raises:
        ValueError: no row is left.
    """
    if rows == 0:
        raise ValueError("no training row is left: nothing to train on; use --group_by query or fewer --num_folds")
