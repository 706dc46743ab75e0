"""Memory: the estimate stays near what a forward pass really keeps, and the advice follows from it."""

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, BloomConfig, DistilBertConfig, GPT2Config

from product_relevance.models import memory
from product_relevance.models.adapters import add_adapter
from product_relevance.models.arguments import ModelArguments
from tests.conftest import tiny_config

ROWS, LENGTH = 4, 40


def model_of(kind: str, adapter: str, dtype=torch.float32, layers: int = 2):
    """A base whose layers are wide enough that what is kept a token outweighs the rest."""
    settings = tiny_config(kind).to_dict() | {"hidden_size": 128, "intermediate_size": 512, "layer_types": None}
    settings["num_hidden_layers"] = layers
    torch.manual_seed(0)
    config = type(tiny_config(kind))(**settings)
    model = AutoModelForSequenceClassification.from_config(config, dtype=dtype)
    return add_adapter(model, ModelArguments("tiny", lora_r=4)) if adapter == "lora" else model


def kept(model, half: bool = False) -> int:
    """Return the bytes that a forward pass keeps for the backward pass, weights left out."""
    ids = torch.randint(4, 399, (ROWS, LENGTH))
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage  # held, so that no address is given twice
        return tensor

    half_precision = torch.autocast("cpu", torch.bfloat16) if half else nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), half_precision:
        model.train()(input_ids=ids, attention_mask=torch.ones_like(ids))
    return sum(storage.nbytes() for storage in found.values())


@pytest.mark.parametrize("kind", ["qwen3", "gemma3_text", "bert"])
@pytest.mark.parametrize(("adapter", "half"), [("lora", False), ("lora", True), ("none", False)])
def test_the_estimate_of_activations_is_within_half_of_what_a_pass_keeps(kind, adapter, half):
    model = model_of(kind, adapter, torch.bfloat16 if half else torch.float32)
    need = memory.estimate_memory(model, ROWS * LENGTH, half=half)
    found = kept(model, half)
    assert found / 1.6 < need["activations"] + need["copies"] < found * 1.6


def test_adapters_on_the_top_layers_keep_nothing_below_them():
    whole, top = model_of("qwen3", "lora"), model_of("qwen3", "lora")
    for name, weight in top.named_parameters():
        if ".layers.0." in name:
            weight.requires_grad_(False)
    share = memory.estimate_memory(top, 100)["activations"] / memory.estimate_memory(whole, 100)["activations"]
    assert share == pytest.approx(0.5, abs=0.02) and kept(top) / kept(whole) == pytest.approx(0.5, abs=0.05)


def test_a_checkpointed_pass_keeps_the_input_of_each_layer():
    model = model_of("qwen3", "lora", layers=8)  # beside their inputs, those of the last norm and the head
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": True})  # the only kind whose savings show from outside
    layers, width = model.config.num_hidden_layers, model.config.hidden_size
    inputs = 4 * width * layers * ROWS * LENGTH
    assert inputs <= kept(model) < 1.5 * inputs
    need = memory.estimate_memory(model, ROWS * LENGTH, checkpointing=True)["activations"]
    assert need == inputs + memory.estimate_memory(model, ROWS * LENGTH)["activations"] // layers


def test_adamw_on_full_weights_takes_four_times_their_memory():
    model = model_of("bert", "none")
    need = memory.estimate_memory(model, 1)
    assert need["weights"] == sum(p.nbytes for p in model.parameters())
    assert need["gradients"] + need["optimiser"] == 3 * need["weights"]
    assert need["total"] == sum(size for name, size in need.items() if name != "total")


@given(st.lists(st.integers(1, 200), min_size=1, max_size=40), st.integers(1, 64), st.integers(1, 4000))
def test_no_forward_pass_is_larger_than_the_largest(lengths, batch, budget):
    from product_relevance.training.batches.dataset import PairCollator
    from product_relevance.training.batches.micro_batches import split_by_length

    largest = memory.largest_forward(lengths, batch, budget)
    assert largest <= memory.largest_forward(lengths, batch)
    for start in range(0, len(lengths), batch):
        rows = [{"input_ids": [5] * n} for n in lengths[start : start + batch]]
        pieces = split_by_length(PairCollator(1, with_rows=True)(rows), budget)
        assert all(piece["input_ids"].numel() <= largest for piece in pieces)


@pytest.mark.parametrize(
    ("free", "checkpointing", "told"),
    [
        (10**12, False, "that fits"),
        (10**12, True, "without --gradient_checkpointing fit too"),
        (2 * 10**8, False, "take --gradient_checkpointing true"),
        (2 * 10**8, True, "that fits"),
        (5 * 10**7, False, "take --tokens_per_forward"),
        (0, True, "a smaller base"),
    ],
)
def test_the_advice_follows_from_what_is_free(free, checkpointing, told, monkeypatch):
    model = model_of("qwen3", "lora")
    need = memory.estimate_memory(model, 10_000), memory.estimate_memory(model, 10_000, checkpointing=True)
    assert need[0]["total"] > 2 * 10**8 > need[1]["total"] / 0.9
    monkeypatch.setattr(memory, "free_memory", lambda device: free)
    line = memory.describe_need(model, 10_000, torch.device("cpu"), checkpointing=checkpointing, half=False)
    assert told in line and "gradients and AdamW" in line


@pytest.mark.parametrize("config", [
    GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2),
    BloomConfig(vocab_size=50, hidden_size=16, n_layer=2, n_head=2),
    DistilBertConfig(vocab_size=50, dim=16, hidden_dim=32, n_layers=2, n_heads=2),
])  # fmt: skip
def test_a_base_whose_config_names_no_inner_width_is_estimated(config):
    need = memory.estimate_memory(AutoModelForSequenceClassification.from_config(config), 100)
    assert need["activations"] > 0 and need["total"] == sum(need.values()) - need["total"]


def test_a_forward_pass_takes_what_the_free_memory_holds():
    model, found = model_of("qwen3", "lora"), []
    for free in (0, 2 * 10**7, 10**8, 3 * 10**8, 10**9, 10**12):
        found.append(memory.fitting_forward(model, free))
        need = memory.estimate_memory(model, found[-1])
        assert found[-1] == 256 or need["total"] <= memory.KEPT * (free + need["weights"])
        assert memory.fitting_forward(model, free, checkpointing=True) >= found[-1]
    assert found == sorted(found) and len(set(found)) > 3
    assert (found[0], found[-1]) == (256, memory.MOST_TOKENS)
    assert all(tokens < 1024 or tokens % 1024 == 0 for tokens in found)


@pytest.mark.parametrize(("share", "found"), [(1.0, 60 + 8 - 5), (0.5, 50 - 8 + 8 - 5), (0.8, 60 + 8 - 5)])
def test_folds_that_share_a_gpu_count_with_their_share_of_it(share, found, monkeypatch):
    values = {"memory_reserved": 8, "memory_allocated": 5, "mem_get_info": (60, 100)}
    for name, value in (values | {"get_per_process_memory_fraction": share}).items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert memory.free_memory(torch.device("cuda")) == found


def test_a_cpu_has_free_memory():
    assert memory.free_memory(torch.device("cpu")) > 2**20
