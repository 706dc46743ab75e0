"""Shared prefixes in training: queries in one batch, each pair once, the same gradient from fewer tokens."""

from functools import cache
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, TrainingArguments

import train_relevance
from product_relevance.models.adapters import add_adapter
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.heads.prompt_tokens import Answers
from product_relevance.models.heads.yes_no import YesNoModel
from product_relevance.training.arguments import ObjectiveArguments
from product_relevance.training.batches.dataset import PrefixGroupedSampler
from product_relevance.training.batches.prefix_batches import require_shareable, split_by_prefix
from product_relevance.training.trainer import RelevanceTrainer
from product_relevance.utils.run_folder import read_json
from tests.conftest import rows_of, tiny_config, write_rows
from tests.helpers.tiny_batches import PAD, collated

DECODERS = ["qwen2", "qwen3", "gemma2", "gemma3_text"]
# pairs of a few queries, some longer than the sliding windows of the tiny bases; a pair may come twice
drawn = st.tuples(st.integers(0, 3), st.integers(2, 9))
pair = drawn.map(lambda p: [2, *[4 + p[0]] * (3 + 7 * p[0]), *range(9, 9 + p[1])])
pairs = st.lists(pair, min_size=1, max_size=14)
budgets = st.one_of(st.none(), st.integers(1, 200))


@given(pairs, st.integers(0, 5))
def test_an_epoch_shows_each_row_once(ids, seed):
    sampler = PrefixGroupedSampler(ids, 4, seed)
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        order = list(sampler)
        assert sorted(order) == list(range(len(ids))) == list(range(len(sampler)))


def test_epochs_and_seeds_have_orders_of_their_own():
    ids = [[2, query, query, query, query, target] for query in range(10, 30) for target in (5, 6, 7)]
    sampler = PrefixGroupedSampler(ids, 3, 1)
    first = list(sampler)
    assert first == list(sampler) and first != list(PrefixGroupedSampler(ids, 3, 2))
    sampler.set_epoch(1)
    assert first != list(sampler)
    assert {len({ids[i][1] for i in first[at : at + 3]}) for at in range(0, 60, 3)} == {1}


@given(pairs, budgets)
def test_the_pieces_hold_each_pair_once_with_its_label_and_weight(ids, budget):
    found = []
    for piece in split_by_prefix(collated(ids), budget, PAD):
        shared = piece["shared"]
        rows = [shared.rows[place] for place in shared.places.tolist()]
        found += zip(rows, piece["labels"].tolist(), (round(w, 5) for w in piece["weights"].tolist()), strict=True)
        prefixes = shared.batch.prefixes
        for row, place in zip(shared.rows, shared.batch.places, strict=True) if prefixes else ():
            assert row[: len(prefixes[place])] == prefixes[place]
    n = len(ids)
    assert sorted(found) == sorted((row, i % 2, round(1 + i / n, 5)) for i, row in enumerate(ids))


@cache
def trainer_for(kind: str, head: str, objective: str) -> RelevanceTrainer:
    """Return a trainer of a tiny decoder under LoRA that has left its start, without dropout."""
    torch.manual_seed(0)
    if head == "yes_no":
        model = YesNoModel(AutoModelForCausalLM.from_config(tiny_config(kind)), Answers(no=10, yes=11, stem=[]))
    else:
        model = AutoModelForSequenceClassification.from_config(tiny_config(kind))
    model = add_adapter(model, ModelArguments("tiny", lora_dropout=0.0, lora_r=4))
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.05)
    more = {"teacher": "a-run"} if objective == "distill" else {}
    chosen = ObjectiveArguments(objective=objective, **more)
    arguments = TrainingArguments(use_cpu=True, report_to="none", label_smoothing_factor=0.1)
    return RelevanceTrainer(model=model, pad_id=PAD, args=arguments, objective=chosen)


def step(trainer, ids, share: bool, budget=None):
    """Return loss and gradients of one training step, whose accumulated batch has three pairs more than this one."""
    trainer.model.zero_grad()
    trainer.share_prefixes, trainer.tokens_per_forward = share, budget
    loss = trainer.training_step(trainer.model, collated(ids), torch.tensor(len(ids) + 3))
    return loss, {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}


WAYS = [(kind, "classifier", "cross_entropy") for kind in DECODERS]
WAYS += [("gemma3_text", "yes_no", "cross_entropy"), ("qwen3", "classifier", "distill")]


@pytest.mark.parametrize("way", WAYS, ids="-".join)
@settings(max_examples=12)
@given(ids=pairs, budget=budgets)
def test_loss_and_gradient_are_those_of_pairs_forwarded_whole(way, ids, budget):
    trainer = trainer_for(*way)
    loss, gradients = step(trainer, ids, share=False)
    shared_loss, shared = step(trainer, ids, share=True, budget=budget)
    torch.testing.assert_close(shared_loss, loss, atol=1e-6, rtol=1e-5)
    assert gradients.keys() == shared.keys() and gradients
    # A sum of n terms in another order moves by up to n * 2**-24 of them: 14 pairs of 34 tokens by 2.8e-5. In float64
    # the two ways of qwen3 and gemma3_text differ by 1e-7.
    scale = max(1, *(g.abs().max().item() for g in gradients.values()))
    for name, value in gradients.items():
        torch.testing.assert_close(shared[name], value, atol=3e-5 * scale, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("kind", DECODERS)
def test_in_bfloat16_the_gradient_is_as_near_to_the_exact_one_as_that_of_pairs_forwarded_whole(kind):
    trainer = trainer_for(kind, "classifier", "cross_entropy")
    ids = [[2, *[4 + query] * (5 + 9 * query), 30 + target, 50 - target] for query in range(4) for target in range(8)]

    def gradient(share, half):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            return torch.cat([value.flatten() for value in step(trainer, ids, share)[1].values()])

    exact = gradient(share=False, half=False)
    whole, shared = ((gradient(share, half=True) - exact).norm() / exact.norm() for share in (False, True))
    assert 0 < shared < max(0.02, 1.5 * whole)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("kind", "attention"),
    [(kind, how) for kind in DECODERS for how in ("sdpa", "eager") if (kind, how) != ("gemma2", "sdpa")],
)
def test_prefixes_padded_on_the_left_leave_no_nan_in_the_backward_pass(kind, attention, half):
    """The pads of a short prefix see nothing at all, and a softmax over nothing is not a number."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(tiny_config(kind), attn_implementation=attention)
    model = add_adapter(model, ModelArguments("tiny", lora_dropout=0.0, lora_r=4))
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.05)
    trainer = RelevanceTrainer(model=model, pad_id=PAD, args=TrainingArguments(use_cpu=True, report_to="none"))
    # from 5 to 45 tokens: the longest is beyond the tiny bases' sliding windows, the shortest one mostly pads
    ids = [[2, *[4 + query] * (4 + 13 * query), 30 + target, 50 - target] for query in range(4) for target in range(4)]
    (piece,) = split_by_prefix(collated(ids), None, PAD)
    assert len({len(prefix) for prefix in piece["shared"].batch.prefixes}) == 4
    with torch.autograd.detect_anomaly(check_nan=True), torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss, gradients = step(trainer, ids, share=True)
    assert torch.isfinite(loss) and gradients
    assert all(gradient.isfinite().all() and gradient.abs().max() > 0 for gradient in gradients.values())


def test_a_query_with_many_targets_is_forwarded_once():
    trainer = trainer_for("qwen3", "classifier", "cross_entropy")
    ids = [[2, *[7] * 19, 30 + i, 50] for i in range(8)]
    before = trainer.padded_tokens, trainer.real_tokens
    step(trainer, ids, share=True)
    assert (trainer.padded_tokens - before[0], trainer.real_tokens - before[1]) == (20 + 8 * 2, 8 * 22)


def refusal(kind="qwen3", objective="cross_entropy", changes=(), dropout=0.0, **model) -> str:
    config = tiny_config(kind)
    config.attention_dropout = dropout
    usual = {"gradient_checkpointing": False, "neftune_noise_alpha": None, "deepspeed": None, "fsdp": None}
    training = SimpleNamespace(**(usual | {"train_sampling_strategy": "group_by_length"} | dict(changes)))
    with TemporaryDirectory() as folder, pytest.raises(ValueError) as refused:
        config.save_pretrained(folder)
        model_args = ModelArguments(folder, **({"lora_dropout": 0.0} | model))
        require_shareable(model_args, objective, training)
    return str(refused.value)


def test_what_would_not_be_exact_is_refused():
    assert "causal base" in refusal("bert")
    assert "causal base" in refusal(pooling="pair")
    assert "--lora_dropout 0" in refusal(lora_dropout=0.1)
    assert "--base_dropout 0" in refusal(dropout=0.1)
    assert "--base_dropout 0" in refusal(base_dropout=0.1)
    assert "--neftune_noise_alpha" in refusal(changes={"neftune_noise_alpha": 5.0})
    assert "reads each pair twice" in refusal(objective="dpo")
    assert "--gradient_checkpointing forgets" in refusal(changes={"gradient_checkpointing": True})
    assert "an order of its own" in refusal(changes={"train_sampling_strategy": "sequential"})
    assert "use torchrun alone" in refusal(changes={"deepspeed": "zero2.json"})


def test_rows_under_one_instruction_are_sorted_by_what_is_left_of_them():
    rest = [5 + (7 * i) % 50 for i in range(320)]
    ids = [[2, *[7] * 39, *range(10, 10 + n)] for n in rest]
    order = list(PrefixGroupedSampler(ids, 32, 0))
    padded = sum(32 * max(rest[i] for i in order[at : at + 32]) for at in range(0, 320, 32))
    assert padded < 1.15 * sum(rest)


def test_a_batch_that_shares_next_to_nothing_is_forwarded_whole():
    ids = [[2, i + 10, *[i + 60] * 38] for i in range(30)] + [[2, 5, 5, 5, 5, 5, *[8 + i] * 34] for i in range(2)]
    (piece,) = split_by_prefix(collated(ids), None, PAD)
    assert not piece["shared"].batch.prefixes


def test_a_run_with_shared_prefixes_forwards_less_than_it_reads(base_of, tmp_path):
    rows = [row | {"id": f"{i}-{j}", "origin_query": rows_of("train_QC.txt")[i]["origin_query"] + " for a rainy day"}
            for i in range(8) for j, row in enumerate(rows_of("train_QC.txt")[:4])]  # fmt: skip
    file = write_rows(tmp_path / "train_QC.txt", rows)
    flags = f"--model_name_or_path {base_of('gemma3_text')} --train_file {file} --output_dir {tmp_path / 'run'}"
    flags += " --task QC --use_cpu true --fold full --max_steps 3 --eval_strategy no --save_strategy no --lora_r 4"
    flags += " --load_best_model_at_end false --language_fix none --per_device_train_batch_size 8 --lora_dropout 0"
    train_relevance.main([*flags.split(), "--share_prefixes", "true"])
    with pytest.raises(SystemExit, match="--lora_dropout 0"):
        train_relevance.main(
            [*flags.split(), "--share_prefixes", "true", "--overwrite", "true", "--lora_dropout", ".1"]
        )
    assert read_json(tmp_path / "run/full/fold.json")["padding_ratio"] < 1
