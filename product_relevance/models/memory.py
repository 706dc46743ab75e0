"""Estimate the memory of a training before it runs, and compare it with what the device has."""

import re
from collections.abc import Sequence

import torch
from torch import nn

from product_relevance.models.heads.classifier import base_dtype

KEPT = 0.9  # of what is free; the rest is for the allocator's gaps and the libraries' workspaces
# What a forward pass keeps beyond the estimate: at the true shapes of Gemma-3-12B, Gemma-2-9B and Qwen3-14B up to 1.24
# times as much, with the masks of dropout as a CPU keeps them.
BEYOND = 1.25
MOST_TOKENS = 16_384  # of a training's forward pass: more keep no GPU busier
STEP = 1024  # numbers of tokens are rounded down to it, so that a little less free memory gives the same split
GIB = 2**30


def estimate_memory(model, tokens: int, *, checkpointing: bool = False, half: bool = False) -> dict[str, int]:
    """Estimate what a training step with AdamW holds at its peak.

    Activations follow Korthikanti et al. (arXiv 2205.05198, section 4.1): what each linear layer, norm and activation
    keeps for the backward pass, counted on this model's own layers. Two things differ from their 34 bytes a token,
    layer and hidden unit: attention keeps no scores (they add 5as/h for those; fused kernels compute them again), and
    each adapted layer keeps a copy of its own input and a byte of dropout mask. With checkpointing (their section 5)
    each layer keeps its input alone, and one layer at a time the rest. The head and the masks are left out.

    Args:
        model: with its adapter, or to be trained in full.
        tokens: padded tokens of a forward pass.
        checkpointing: layers are computed again in the backward pass.
        half: the forward pass runs in 16 bits by autocast.

    Returns:
        Bytes of `weights`, `gradients`, `optimiser`, `copies` (of trained weights in 16 bits), `activations`;
        and their sum, `total`.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    need = {
        "weights": sum(p.numel() * p.element_size() for p in model.parameters()),
        "gradients": sum(p.numel() * p.element_size() for p in trained),
        "optimiser": sum(2 * p.numel() * p.element_size() for p in trained),
    }
    need["copies"] = sum(2 * p.numel() for p in trained if half and p.element_size() > 2)
    wide, narrow = _kept_a_token(model, half)
    layers = max(1, model.config.num_hidden_layers)
    need["activations"] = tokens * ((layers * narrow + wide // layers) if checkpointing else wide)
    return need | {"total": sum(need.values())}


def _kept_a_token(model, half: bool) -> tuple[int, int]:
    """Return the bytes that a token leaves in all layers that the backward pass reaches, and at one layer's input."""
    first = next(name for name, p in model.named_parameters() if p.requires_grad)
    block = re.match(r".*?\.\d+\.", first)  # gradients stop at the first layer that is trained
    reached, kept = block is None, 0
    size = 2 if half else base_dtype(model).itemsize
    for name, module in model.named_modules():
        reached = reached or block is None or f"{name}.".startswith(block.group())
        if not reached or "lora_" in name or "original_module" in name:
            continue
        if isinstance(module, nn.Linear):
            kept += size * (module.in_features + module.out_features)
            kept += module.in_features if name.endswith(".base_layer") else 0  # the mask of the adapter's dropout
            if module.in_features == inner_width(model.config):
                kept += size * module.in_features  # what the activation gives, before the gate
        elif re.search("Norm$", type(module).__name__):
            kept += 4 * module.weight.numel()  # norms are computed in 32 bits
    return kept, size * model.config.hidden_size


def inner_width(config) -> int:
    """Return the width between the two linear layers of a feed-forward part; some configs leave the usual one out."""
    return getattr(config, "intermediate_size", None) or 4 * config.hidden_size


def largest_forward(lengths: Sequence[int], batch: int, tokens_per_forward: int | None = None) -> int:
    """Return the padded tokens of the largest forward pass that a training can meet.

    Args:
        lengths: tokens of each row.
        batch: rows of a batch on one device.
        tokens_per_forward: budget that batches are split by.
    """
    longest = max(lengths)
    whole = min(batch, len(lengths)) * longest
    return whole if tokens_per_forward is None else max(longest, min(whole, tokens_per_forward))


def fitting_forward(model, free: int, *, checkpointing: bool = False, half: bool = False) -> int:
    """Return how many padded tokens are allowed per forward pass of a training.

    Args:
        model: with its adapter, on its device.
        free: bytes that the device can still give.
        checkpointing: layers are computed again in the backward pass.
        half: the forward pass runs in 16 bits by autocast.

    Returns:
        From 256 to `MOST_TOKENS`; from 1,024 on a multiple of it.
    """
    need = estimate_memory(model, 1, checkpointing=checkpointing, half=half)
    state = need["gradients"] + need["optimiser"] + need["copies"]
    left = KEPT * (free + need["weights"]) - need["weights"] - state
    tokens = min(MOST_TOKENS, int(left / (BEYOND * need["activations"])))
    return tokens // STEP * STEP if tokens >= STEP else max(256, tokens)


def free_memory(device: torch.device) -> int:
    """Return the bytes that a device can still give this process."""
    if device.type == "cuda":
        reserved = torch.cuda.memory_reserved(device)
        free, whole = torch.cuda.mem_get_info(device)
        share = torch.cuda.get_per_process_memory_fraction(device)  # of several folds on one GPU
        allowed = free if share == 1 else min(free, int(share * whole) - reserved)
        return allowed + reserved - torch.cuda.memory_allocated(device)
    import psutil

    return psutil.virtual_memory().available


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether a GPU has too little memory; that of a Mac says so in its message alone."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or "MPS backend out of memory" in str(error)


def release_cache() -> None:
    """Give back what torch holds of a GPU's memory and does not use."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def describe_need(model, tokens: int, device: torch.device, *, checkpointing: bool, half: bool) -> str:
    """Say in a line what a training needs, what there is, and what to change.

    Args:
        model: already on the device.
        tokens: of the largest forward pass, as from `largest_forward`.
        device: that trains.
        checkpointing: whether --gradient_checkpointing is on.
        half: whether the forward pass runs in 16 bits by autocast.
    """
    need, other = (
        estimate_memory(model, tokens, checkpointing=c, half=half) for c in (checkpointing, not checkpointing)
    )
    there = free_memory(device) + need["weights"]
    state = need["gradients"] + need["optimiser"] + need["copies"]
    line = (
        f"memory: {_gib(need['weights'])} weights, {_gib(state)} gradients and AdamW, "
        f"about {_gib(need['activations'])} activations of {tokens} tokens{' (checkpointed)' * checkpointing}: "
        f"{_gib(need['total'])} of {_gib(there)} on {device.type}"
    )
    return f"{line}; {_advice(need, other, KEPT * there, tokens, checkpointing)}"


def _advice(need: dict, other: dict, usable: float, tokens: int, checkpointing: bool) -> str:
    fits, other_fits = need["total"] <= usable, other["total"] <= usable
    if fits and checkpointing and other_fits:
        return f"{_gib(other['total'])} without --gradient_checkpointing fit too, and train faster"
    if fits:
        return "that fits"
    if other_fits and not checkpointing:
        return (
            f"too much: take --gradient_checkpointing true ({_gib(other['total'])}) or {_budget(need, usable, tokens)}"
        )
    return f"too much: take {_budget(need, usable, tokens)}"


def _budget(need: dict, usable: float, tokens: int) -> str:
    left = usable - need["total"] + need["activations"]
    found = int(left / (need["activations"] / tokens))
    return f"--tokens_per_forward {found}" if found >= 64 else "a smaller base, or more devices under ZeRO-3"


def _gib(size: float) -> str:
    return f"{size / GIB:.2g} GiB" if size < GIB else f"{size / GIB:.1f} GiB"
