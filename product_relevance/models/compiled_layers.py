"""Compile the layer that a base repeats: one graph for all of its layers and for batches of every shape."""

from product_relevance.models.adapters import layer_stack


def compile_layers(model, backend: str = "inductor") -> None:
    """Compile each layer of a base in place, when it is first used.

    Layers of one kind share their graphs, so a base of 48 layers compiles about as fast as one of two. The shapes of a
    graph are free: lengths need no buckets, and rows no padding beyond their batch's longest.

    Args:
        model: with its head, with adapters or without.
        backend: of `torch.compile`.

    Raises:
        ValueError: a base whose layers are no list (ALBERT).
    """
    stack = layer_stack(model)
    if stack is None:
        raise ValueError(f"--compile_layers: {model.config.model_type} has no list of layers; take --compile")
    for layer in stack[1]:
        layer.compile(dynamic=True, backend=backend)


def has_compiled_layers(model) -> bool:
    """Return whether the layers of a base were compiled one by one."""
    stack = layer_stack(model)
    return stack is not None and stack[1][0]._compiled_call_impl is not None
