"""Compute the products of a frozen base in FP8 (e4m3): weights with a scale per row, inputs with one per token.

On a CPU torch computes the same products slowly, which is for tests.
"""

from typing import Any

import torch
from torch import nn

from product_relevance.models.heads.classifier import HEAD

CAPABILITY = (8, 9)  # Ada and Hopper: the first GPUs with such products
MULTIPLE = 16  # of the widths that their kernels take
LARGEST = torch.finfo(torch.float8_e4m3fn).max


def require_float8(device: str) -> None:
    """Require a torch and a GPU with products in FP8.

    Raises:
        ValueError: they have none.
    """
    if not hasattr(nn.functional, "scaled_mm"):
        raise ValueError(f"dtype fp8: needs torch 2.10 or newer, found {torch.__version__}; take bfloat16")
    if torch.device(device).type != "cuda":
        raise ValueError(f"dtype fp8: needs a GPU of compute capability 8.9 (Ada, Hopper), found {device}")
    found = torch.cuda.get_device_capability(device)
    if found < CAPABILITY:
        card = f"{torch.cuda.get_device_name(device)} of {found[0]}.{found[1]}"
        raise ValueError(
            f"dtype fp8: needs a GPU of compute capability 8.9 (Ada, Hopper), found {card}; take bfloat16"
        )


def quantize_rows(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round rows to FP8, each with the scale that lets its largest value be the largest of FP8.

    Args:
        values: shape (n, width).

    Returns:
        (n rows in FP8, float32 scales of shape (n, 1) that give the values back)
    """
    scales = values.abs().amax(-1, keepdim=True).float().clamp_min(1e-12) / LARGEST
    return (values.float() / scales).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), scales


class Float8Linear(nn.Module):
    """A frozen linear layer whose product is computed in FP8, and returned in bfloat16."""

    weight: torch.Tensor
    scales: torch.Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight, scales = quantize_rows(linear.weight.detach())
        # buffers: what is in FP8 is trained by nobody and counts as no dtype of the model
        self.register_buffer("weight", weight)
        self.register_buffer("scales", scales.reshape(1, -1))
        self.bias = linear.bias

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return outputs of shape (..., out_features) in bfloat16."""
        rows, scales = quantize_rows(states.reshape(-1, self.in_features))
        by_row: Any = nn.functional.ScalingType.RowWise
        found = nn.functional.scaled_mm(
            rows, self.weight.t(), scales, by_row, self.scales, by_row, use_fast_accum=rows.is_cuda
        ).view(*states.shape[:-1], self.out_features)
        return found if self.bias is None else found + self.bias.to(found.dtype)


def quantize_to_float8(model) -> int:
    """Let the linear layers of a base compute in FP8, in place; head, adapters and embeddings stay as they are.

    Args:
        model: with its head, on its device, in bfloat16; with adapters or without.

    Returns:
        How many layers now do.
    """
    output = getattr(model, "get_output_embeddings", lambda: None)()
    chosen = [
        name
        for name, module in model.named_modules()
        if type(module) is nn.Linear and module is not output and not HEAD.search(name) and "lora_" not in name
        if module.in_features % MULTIPLE == module.out_features % MULTIPLE == 0
    ]
    with torch.no_grad():
        for name in chosen:  # one at a time, so that the weights lie in memory twice for one layer only
            model.set_submodule(name, Float8Linear(model.get_submodule(name)))
    return len(chosen)


def has_float8(model) -> bool:
    """Return whether layers of a model compute in FP8."""
    return any(isinstance(module, Float8Linear) for module in model.modules())
