"""Put Liger's kernels into a base: RMSNorm, rotary positions, and the gated part of the feed-forward layers."""

import torch

from product_relevance.utils.extras import has_package


def use_liger_kernels(base, device: torch.device) -> None:
    """Let a base compute with Liger's Triton kernels (liger-kernel), in place; what lies above the base stays.

    The Trainer of transformers gives Liger the model with its head. Liger then puts the forward pass of a language
    model in place of the head's, or knows no such model (Gemma 3 as a classifier; both 0.8.5). It knows the base.

    Args:
        base: from `modeling.inner_model`, before adapters are put on.
        device: that trains.

    Raises:
        ValueError: no GPU, no such package, or a base that Liger has no kernels for.
    """
    if device.type != "cuda":
        raise ValueError(f"--use_liger_kernel: its kernels need a GPU, found {device.type}; leave it out")
    if not has_package("liger_kernel"):
        raise ValueError("--use_liger_kernel needs liger-kernel: pip install liger-kernel; or leave it out")
    replace_layers(base)


def replace_layers(base) -> None:
    """Replace what Liger knows of a base, in place.

    Raises:
        ValueError: a base that Liger has no kernels for.
    """
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN as KNOWN

    kind = base.config.model_type
    if kind not in KNOWN:
        raise ValueError(f"--use_liger_kernel: Liger has no kernels for {kind}; leave it out")
    KNOWN[kind](model=base, fused_linear_cross_entropy=False)  # that is the loss of a language model
