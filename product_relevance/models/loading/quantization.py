"""Load a frozen base in four bits, NF4 with doubly quantised scales (QLoRA, arXiv 2305.14314)."""

from torch import nn

from product_relevance.models.heads.classifier import HEAD
from product_relevance.utils.extras import how_to_install


def require_bitsandbytes() -> None:
    """Raise ValueError if the package that quantises is not installed.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise ValueError(f"nf4 needs bitsandbytes: {how_to_install('train')}") from None


def quantize_model(model, device):
    """Put the weights of a base's linear layers into NF4, in place; embeddings, norms and the head keep their dtype.

    Args:
        model: base with its head, or with the two answers of yes/no scoring, without adapters.
        device: where the model will lie; each layer is quantised there.

    Returns:
        The model, on that device; it computes in the dtype that it had.

    Raises:
        ValueError: bitsandbytes is not installed.
    """
    require_bitsandbytes()
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for name in linear:
        if not HEAD.search(name):
            model.set_submodule(name, _in_four_bits(model.get_submodule(name), device))
    model.is_loaded_in_4bit = True  # by this PEFT chooses its adapter layers
    return model.to(device)


def is_quantized(model) -> bool:
    """Return whether a model, with adapters or without, has its base in four bits."""
    return getattr(model, "is_loaded_in_4bit", False)


def _in_four_bits(linear: nn.Linear, device):
    from bitsandbytes.nn import Linear4bit, Params4bit

    bias, dtype = linear.bias, linear.weight.dtype
    kind = {"compute_dtype": dtype, "quant_type": "nf4", "device": "meta"}
    layer = Linear4bit(linear.in_features, linear.out_features, bias is not None, **kind)
    layer.weight = Params4bit(linear.weight.data, quant_type="nf4", module=layer).to(device)  # type: ignore[misc]  # its stub
    layer.bias = bias
    # It would pack the weights at the first evaluation, and packed ones pass no gradient on (bitsandbytes 0.50.2).
    layer.support_avx512bf16_for_cpu = False
    return layer.train(linear.training)
