"""Micro-batches: every pair once, within the budget, and the gradient of the whole batch whatever the split."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, TrainingArguments

from product_relevance.data.arguments import DataArguments
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.heads.prompt_tokens import Answers
from product_relevance.models.heads.yes_no import YesNoModel
from product_relevance.training.arguments import ObjectiveArguments
from product_relevance.training.batches.micro_batches import split_by_length
from product_relevance.training.trainer import RelevanceTrainer
from tests.conftest import tiny_config
from tests.helpers.tiny_batches import PAD, collated

rows = st.lists(st.lists(st.integers(4, 399), min_size=1, max_size=40), min_size=1, max_size=14)
budgets = st.integers(1, 300)
WAYS = {
    "cross_entropy": {},
    "r_drop": {"r_drop_strength": 2.0},
    "bootstrap": {"own_share": 0.3},
    "mean_teacher": {"teacher_share": 0.4},
    "distill": {"teacher": "a-run", "teacher_share": 0.4},
    "dpo": {"dpo_beta": 0.5},
}


@given(rows, budgets)
def test_the_pieces_hold_each_pair_once_and_keep_within_the_budget(ids, budget):
    found = []
    for piece in split_by_length(collated(ids), budget):
        n, width = piece["input_ids"].shape
        assert n * width <= max(budget, width) and width == piece["attention_mask"].sum(1).max()
        for i in range(n):
            row = piece["input_ids"][i][piece["attention_mask"][i].bool()].tolist()
            found.append((row, piece["labels"][i].item(), round(piece["weights"][i].item(), 5)))
    assert sorted(found) == sorted((row, i % 2, round(1 + i / len(ids), 5)) for i, row in enumerate(ids))


@given(rows)
def test_a_batch_without_a_budget_stays_whole(ids):
    batch = collated(ids)
    assert split_by_length(batch, None) == [batch]


@cache
def model_for(objective: str):
    """Return a tiny decoder without dropout; for dpo one of yes and no, under LoRA that has left its start."""
    from product_relevance.models.adapters import add_adapter

    torch.manual_seed(0)
    if objective != "dpo":
        return AutoModelForSequenceClassification.from_config(tiny_config("qwen3"))
    model = YesNoModel(AutoModelForCausalLM.from_config(tiny_config("qwen3")), Answers(no=10, yes=11, stem=[]))
    model = add_adapter(model, ModelArguments("tiny", lora_dropout=0.0, lora_r=4))
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.02)
    return model


@cache
def trainer_for(objective: str) -> RelevanceTrainer:
    arguments = TrainingArguments(use_cpu=True, report_to="none", label_smoothing_factor=0.1 * (objective != "dpo"))
    chosen = ObjectiveArguments(objective=objective, **WAYS[objective])
    return RelevanceTrainer(model=model_for(objective), pad_id=PAD, args=arguments, objective=chosen)


def step(objective: str, ids, budget):
    """Return loss and gradients of one training step, whose accumulated batch has three pairs more than this one."""
    trainer, model = trainer_for(objective), model_for(objective)
    model.zero_grad()
    trainer.tokens_per_forward = budget
    loss = trainer.training_step(model, collated(ids), torch.tensor(len(ids) + 3))
    return loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("objective", WAYS)
@settings(max_examples=15)
@given(ids=rows, budget=budgets)
def test_loss_and_gradient_do_not_depend_on_the_split(objective, ids, budget):
    loss, gradients = step(objective, ids, None)
    pieces_loss, pieces = step(objective, ids, budget)
    torch.testing.assert_close(pieces_loss, loss, atol=1e-6, rtol=1e-5)
    assert gradients.keys() == pieces.keys()
    scale = max(g.abs().max().item() for g in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            pieces[name], gradient, atol=1e-6 * max(1, scale), rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_pieces_carry_no_padding_that_the_whole_batch_would():
    trainer = trainer_for("cross_entropy")
    ids = [[5] * 40, [6] * 4, [7] * 4, [8] * 4]
    before = trainer.padded_tokens, trainer.real_tokens
    step("cross_entropy", ids, 40)
    assert (trainer.padded_tokens - before[0], trainer.real_tokens - before[1]) == (52, 52)


@pytest.mark.parametrize("engine", ["deepspeed", "fsdp"])
def test_engines_whose_processes_wait_at_each_pass_are_refused(engine):
    from types import SimpleNamespace

    from product_relevance.training.batches.micro_batches import require_splittable

    training = SimpleNamespace(**({"deepspeed": None, "fsdp": None} | {engine: "zero2.json"}))
    with pytest.raises(ValueError, match="use torchrun alone"):
        require_splittable(training, "--tokens_per_forward 512")


def test_one_process_trains_on_one_of_several_gpus(caplog):
    from types import SimpleNamespace

    from product_relevance.training import distributed

    training = SimpleNamespace(n_gpu=4, deepspeed=None)
    distributed.prepare_processes(training)
    assert training._n_gpu == 1 and "torchrun --nproc_per_node 4" in caplog.text


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        DataArguments("a.txt", "QC", tokens_per_forward=0)
