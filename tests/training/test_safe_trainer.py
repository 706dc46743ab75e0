"""What is not finite stops a training before it reaches the weights or a checkpoint."""

import pytest
import torch
from transformers import TrainingArguments

from product_relevance.models import adapters
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.modeling import load_classifier, load_tokenizer
from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.training.batches.dataset import PairCollator, PairDataset
from product_relevance.training.checkpointing.safe_trainer import (
    SafeTrainer,
    last_whole_checkpoint,
    warn_of_other_processes,
)
from product_relevance.training.trainer import RelevanceTrainer


@pytest.fixture
def trainer_of(base_of, tmp_path):
    """A function that builds a trainer of six steps, each with a checkpoint, on a tiny base."""
    tokenizer = load_tokenizer(str(base_of("bert")))
    ids = encode_pairs(tokenizer, ["red shoes", "usb"] * 6, ["shoes", "phones,cables"] * 6, 32)

    def build(kind=RelevanceTrainer, **more):
        torch.manual_seed(1)
        model = adapters.add_adapter(load_classifier(str(base_of("bert")), tokenizer), ModelArguments("base"))
        options = {"save_steps": 1, "save_strategy": "steps", "report_to": "none", "use_cpu": True, "seed": 1} | more
        args = TrainingArguments(str(tmp_path), per_device_train_batch_size=2, num_train_epochs=1, **options)
        own = {"pad_id": 1} if kind is RelevanceTrainer else {"data_collator": PairCollator(1)}
        return kind(model=model, args=args, train_dataset=PairDataset(ids, [0, 1] * 6), **own)

    return build


def trained(model) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


def break_gradient(fitter, step: int, factor: float) -> None:
    """Let one gradient overflow at a step, with a loss that stays finite."""
    weight = next(w for name, w in fitter.model.named_parameters() if "lora_B" in name)
    weight.register_hook(lambda grad: grad * factor if fitter.state.global_step + 1 == step else grad)


@pytest.mark.parametrize("kind", [RelevanceTrainer, SafeTrainer])
@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0])
@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_stops_before_its_step(kind, max_grad_norm, factor, trainer_of, tmp_path):
    fitter = trainer_of(kind, max_grad_norm=max_grad_norm)
    break_gradient(fitter, 3, factor)
    with pytest.raises(FloatingPointError, match="the gradient norm is (nan|inf) at step 3"):
        fitter.train()
    assert last_whole_checkpoint(tmp_path).name == "checkpoint-2" and not (tmp_path / "checkpoint-3").exists()
    assert all(weight.isfinite().all() for weight in trained(fitter.model).values())


def test_weights_that_are_not_finite_reach_no_checkpoint(trainer_of, tmp_path):
    with pytest.raises(FloatingPointError, match="is not finite after step 1"):
        trainer_of(learning_rate=1e39, max_grad_norm=0.0).train()
    assert not list(tmp_path.glob("checkpoint-*"))


def test_looking_at_gradients_changes_no_weight(trainer_of):
    from transformers import Trainer

    found = []
    for kind in (SafeTrainer, Trainer):
        fitter = trainer_of(kind, save_strategy="no")
        fitter.train()
        found.append(trained(fitter.model))
    one, two = found
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_another_number_of_processes_is_reported(trainer_of, tmp_path, caplog):
    trainer_of(max_steps=1).train()
    warn_of_other_processes(tmp_path / "checkpoint-1", 1)
    assert not caplog.records
    warn_of_other_processes(tmp_path / "checkpoint-1", 4)
    assert "trained on 1 processes, goes on on 4" in caplog.text
