"""Launch a training without its weights: true shapes, adapter, forward and backward pass, AdamW; bytes are counted.

Tensors of the meta device and fake tensors have a shape and no storage, so a base of 12 B parameters takes seconds and
no memory on a CPU.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import random_models
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from product_relevance.models import adapters
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.heads.prompt_tokens import Answers
from product_relevance.models.heads.yes_no import YesNoModel


@dataclass(frozen=True)
class Launched:
    """Bytes of one training step.

    Attributes:
        weights: of base, head and adapter.
        kept: by the forward pass for the backward pass.
        gradients: after the backward pass.
        optimiser: after the first step of AdamW.
    """

    weights: int
    kept: int
    gradients: int
    optimiser: int


def build_on_meta(shape: str, arguments: ModelArguments, dtype: torch.dtype):
    """Build a base of a shape with its head and its adapter, as a run does, on the meta device.

    Args:
        shape: a key of `random_models.SHAPES`.
        arguments: head, adapter and attention.
        dtype: of the base.
    """
    config = random_models.config_of(shape)
    kind = AutoModelForCausalLM if arguments.head == "yes_no" else AutoModelForSequenceClassification
    with torch.device("meta"):
        model = kind.from_config(config, dtype=dtype, attn_implementation=arguments.attn_implementation)
    if arguments.head == "yes_no":
        model = YesNoModel(model, Answers(no=10, yes=11, stem=[]))
    if arguments.adapter == "none":
        return model
    model = adapters.add_adapter(model, arguments)
    for weight in (p for p in model.parameters() if p.requires_grad):
        weight.data = weight.data.float()  # as a run does
    adapters.leave_casts_to_autocast(model)
    return model


def launch(model, rows: int, length: int, *, half: bool = True) -> Launched:
    """Run one training step in fake tensors.

    Args:
        model: of `build_on_meta`; its weights become fake ones of a CPU.
        rows: of the forward pass.
        length: tokens of each row.
        half: under autocast to bfloat16.
    """
    with FakeTensorMode():
        _make_fake(model)
        weights = list(model.parameters())
        trained, own = [p for p in weights if p.requires_grad], {p.untyped_storage()._cdata for p in weights}
        kept: dict[int, torch.UntypedStorage] = {}

        def keep(tensor):
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = storage  # held, so that no address is given twice
            return tensor

        ids = torch.ones(rows, length, dtype=torch.long)
        autocast = torch.autocast("cpu", torch.bfloat16) if half else nullcontext()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
            logits = model.train()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        logits.float().sum().backward()
        optimiser = torch.optim.AdamW(trained)
        optimiser.step()
        state = [value for found in optimiser.state.values() for value in found.values() if value.ndim]
    return Launched(
        weights=sum(p.nbytes for p in weights),
        kept=sum(storage.nbytes() for storage in kept.values()),
        gradients=sum(p.grad.nbytes for p in trained if p.grad is not None),
        optimiser=sum(value.nbytes for value in state),
    )


def _make_fake(model) -> None:
    """Put fake tensors of a CPU in place of those of the meta device; called within a FakeTensorMode."""
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                fake = torch.empty(weight.shape, dtype=weight.dtype)
                module._parameters[name] = torch.nn.Parameter(fake, requires_grad=weight.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
