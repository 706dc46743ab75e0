"""Score rows side by side in one long row, without padding: transformers' own format of packed sequences."""

from collections.abc import Sequence

import numpy as np
import torch

from product_relevance.models.prefix_cache import supports_prefixes


def pack_rows(rows: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """Put rows of token ids side by side.

    Positions that start anew say where a row begins: masks and flash attention keep the rows apart by them.

    Returns:
        `input_ids` and `position_ids` of shape (1, tokens), and `ends` of shape (rows,), the place of each last token.
    """
    lengths = np.array([len(row) for row in rows])
    places = np.concatenate([np.arange(length) for length in lengths])
    ids = np.fromiter((token for row in rows for token in row), np.int64, lengths.sum())
    packed = {"input_ids": ids[None], "position_ids": places[None], "ends": lengths.cumsum() - 1}
    return {name: torch.from_numpy(value) for name, value in packed.items()}


def require_packing(model) -> None:
    """Raise ValueError if a model cannot read packed rows.

    Raises:
        ValueError: an encoder, or a decoder for which packed scores were not compared with padded ones.
    """
    if not supports_prefixes(model):
        raise ValueError(
            f"attention packed: found a {model.config.model_type}, expected a decoder that reads from left to right, "
            "as Gemma, Qwen or Llama; take padded"
        )
