"""Split a batch of pairs into micro-batches of like length, each within a token budget."""

from typing import Any

import torch

from product_relevance.models.batching import budget_batches, copy_to

PADDED = ("input_ids", "attention_mask")


def split_by_length(batch: dict[str, Any], max_tokens: int | None) -> list[dict[str, Any]]:
    """Split a batch into pieces, longest pairs first, each padded to its own longest pair only.

    Losses that are summed over the pairs have the same sum, and the same gradient, whatever the split. Nothing is read
    from a GPU.

    Args:
        batch: padded on the right: `input_ids` and `attention_mask` of shape (n, length); `rows` as the collator keeps
            them; all else of shape (n,).
        max_tokens: padded tokens per micro-batch at most; a longer pair makes one of its own. The whole batch if None.

    Returns:
        Pieces that hold each pair once, at least one.
    """
    if max_tokens is None:
        return [batch]
    lengths, device = batch["rows"].lengths, batch["input_ids"].device
    tensors = {key: value for key, value in batch.items() if key != "rows"}
    batches = []
    for rows in budget_batches(lengths, max_tokens, len(lengths)):
        places = copy_to(device, torch.from_numpy(rows))
        longest = int(lengths[rows[0]])
        batches.append({key: v[places, :longest] if key in PADDED else v[places] for key, v in tensors.items()})
    return batches


def splits_by_itself(training) -> bool:
    """Return whether batches are split by tokens without being asked: on a GPU, where each process may by itself.

    Args:
        training: arguments of the Trainer.
    """
    return training.device.type == "cuda" and _waiting_engine(training) is None


def _waiting_engine(training) -> str | None:
    """Name the engine whose processes wait for each other at each backward pass."""
    return "DeepSpeed" if training.deepspeed else "FSDP" if training.fsdp else None


def require_splittable(training, asked: str) -> None:
    """Raise ValueError if every process must run equally many backward passes, so that batches cannot be split.

    Args:
        training: arguments of the Trainer.
        asked: the option that splits them.

    Raises:
        ValueError: DeepSpeed or FSDP, whose processes wait for each other at each backward pass.
    """
    if engine := _waiting_engine(training):
        raise ValueError(
            f"{asked}: processes split their batches into different numbers of micro-batches, and under "
            f"{engine} they would wait for each other for ever; use torchrun alone (DDP), or leave it out and lower "
            "--per_device_train_batch_size"
        )
