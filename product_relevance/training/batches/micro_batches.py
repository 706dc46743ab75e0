"""Split a batch of pairs into micro-batches of like length, each within a token budget."""

import torch

from product_relevance.models.batching import budget_batches

PADDED = ("input_ids", "attention_mask")


def split_by_length(batch: dict[str, torch.Tensor], max_tokens: int | None) -> list[dict[str, torch.Tensor]]:
    """Split a batch into pieces, longest pairs first, each padded to its own longest pair only.

    Losses that are summed over the pairs have the same sum, and the same gradient, whatever the split.

    Args:
        batch: padded on the right: `input_ids` and `attention_mask` of shape (n, length), all else of shape (n,).
        max_tokens: padded tokens per micro-batch at most; a longer pair makes one of its own. The whole batch if None.

    Returns:
        Pieces that hold each pair once, at least one.
    """
    if max_tokens is None:
        return [batch]
    lengths = batch["attention_mask"].sum(1).cpu().numpy()
    batches = []
    for rows in budget_batches(lengths, max_tokens, len(lengths)):
        places = torch.from_numpy(rows).to(batch["input_ids"].device)
        longest = int(lengths[rows[0]])
        batches.append({key: v[places, :longest] if key in PADDED else v[places] for key, v in batch.items()})
    return batches


def require_splittable(training, asked: str) -> None:
    """Raise ValueError if every process must run equally many backward passes, so that batches cannot be split.

    Args:
        training: arguments of the Trainer.
        asked: the option that splits them.

    Raises:
        ValueError: DeepSpeed or FSDP, whose processes wait for each other at each backward pass.
    """
    engine = "DeepSpeed" if training.deepspeed else "FSDP" if training.fsdp else None
    if engine:
        raise ValueError(
            f"{asked}: processes split their batches into different numbers of micro-batches, and under "
            f"{engine} they would wait for each other for ever; use torchrun alone (DDP), or leave it out and lower "
            "--per_device_train_batch_size"
        )
