"""No micro-batch waits for a GPU: on the meta device, which has no values, whatever reads one raises."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForSequenceClassification, TrainingArguments

from product_relevance.models.adapters import add_adapter
from product_relevance.models.arguments import ModelArguments
from product_relevance.training.trainer import RelevanceTrainer
from tests.conftest import tiny_config
from tests.helpers.tiny_batches import PAD, collated

# Four queries of unequal length with four targets each: a budget of 60 tokens makes several micro-batches of them.
IDS = [[2, *[4 + query] * (3 + 6 * query), 30 + target, 50 - target] for query in range(4) for target in range(4)]


def trainer_of(attention: str, share: bool) -> RelevanceTrainer:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(tiny_config("qwen3"), attn_implementation=attention)
    model = add_adapter(model, ModelArguments("tiny", lora_dropout=0.0, lora_r=4))
    args = TrainingArguments(use_cpu=True, report_to="none")
    return RelevanceTrainer(model=model, pad_id=PAD, args=args, tokens_per_forward=60, share_prefixes=share)


@pytest.mark.parametrize("share", [False, True])
def test_a_step_reads_nothing_from_the_device(share, monkeypatch):
    trainer = trainer_of("eager", share)
    trainer.model.to("meta")
    monkeypatch.setattr(trainer, "_prepare_inputs", lambda inputs: inputs)  # would copy to the device of the arguments
    batch = {name: value.to("meta") if torch.is_tensor(value) else value for name, value in collated(IDS).items()}
    passes = []
    monkeypatch.setattr(trainer.model, "forward", counted(trainer.model.forward, passes))
    trainer.training_step(trainer.model, batch, torch.tensor(16, device="meta"))
    assert trainer.real_tokens == sum(map(len, IDS)) and trainer.pairs == len(IDS) and len(passes) > 1
    assert all(weight.grad is not None for weight in trainer.model.parameters() if weight.requires_grad)


def counted(function, calls: list):
    """Wrap a function so that each of its calls leaves an entry."""

    def call(*args, **options):
        calls.append(1)
        return function(*args, **options)

    return call


class Reads(TorchDispatchMode):
    """Counts the values that are read out of tensors."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("share", [False, True])
def test_under_sdpa_transformers_alone_looks_at_the_mask_of_a_forward(share, monkeypatch):
    trainer, passes = trainer_of("sdpa", share), []
    monkeypatch.setattr(trainer.model, "forward", counted(trainer.model.forward, passes))
    with Reads() as reads:
        trainer.training_step(trainer.model, collated(IDS), torch.tensor(16))
    prefixes = len(passes) if share else 0  # each of these forwards has one of the prefixes before it
    assert reads.count <= 2 * (len(passes) + prefixes), reads.count


def test_a_loss_that_is_no_number_is_found_before_the_step_is_taken(monkeypatch):
    trainer = trainer_of("sdpa", share=False)
    monkeypatch.setattr(trainer, "_get_learning_rate", lambda: 1e-3)
    for value in (0.5, float("nan"), 0.25):
        trainer.losses.append(torch.tensor(value))
    with pytest.raises(FloatingPointError, match="loss is nan at step 1"):
        trainer.require_finite_losses()
    assert trainer.losses == []
