"""Models of ours are transformers' own kind, and nothing below the lowest adapter is kept for the backward pass."""

from weakref import WeakSet

import pytest
import torch
from transformers import PreTrainedModel
from transformers import TrainingArguments as Arguments

from product_relevance.models import adapters
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.batching import pad_rows
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.heads.language_model import LanguageModel
from product_relevance.models.heads.prompt_tokens import use_prompt
from product_relevance.models.modeling import load_classifier, load_tokenizer
from product_relevance.training.arguments import parse_arguments
from tests.helpers.tiny_prompt import PROMPT
from tests.models.test_heads import tokens

HEADS = [("qwen3", "auto"), ("gemma3_text", "auto"), ("xlm-roberta", "auto"), ("bert", "mean"), ("bert", "pair")]
HEADS += [("qwen3", "mean"), ("qwen3", "yes_no"), ("qwen3", "language")]
WRAPPED = [("bert", "mean"), ("bert", "pair"), ("qwen3", "yes_no"), ("qwen3", "language")]


class Kept:
    """A tensor that the graph holds for the backward pass, for as long as it does."""

    def __init__(self, tensor):
        self.tensor = tensor


def bare(base, head):
    """A tokenizer and a base in float32, without dropout, with the head of a name."""
    tokenizer = load_tokenizer(str(base))
    kind = {"language": True} if head == "language" else {"pooling": head}
    if head == "yes_no":
        kind = {"answers": use_prompt(tokenizer, PROMPT, "QC", 96)}
    return tokenizer, load_classifier(str(base), tokenizer, ClassifierOptions(dropout=0.0, **kind))


def adapted(base, head, **options):
    """The real PeftModel in training, and a batch for it."""
    tokenizer, model = bare(base, head)
    batch = pad_rows(tokens(tokenizer)[:4], tokenizer.pad_token_id)
    batch["labels"] = batch["input_ids"] if isinstance(model, LanguageModel) else torch.tensor([0, 1, 1, 0])
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # that of a head on a decoder
    options = {"lora_r": 4, "lora_dropout": 0.0} | options
    return adapters.add_adapter(model, ModelArguments(str(base), **options)).train(), batch


def watch(model, batch) -> tuple[int, int, list[bool]]:
    """Run a forward pass.

    Returns:
        How many tensors of the layers below the top one are kept for the backward pass, how many others, and for each
        layer whether its output has a gradient.
    """
    layers, inside, requires = adapters.layer_stack(model)[1], [False], []
    below, above = WeakSet(), WeakSet()

    def pack(tensor):
        kept = Kept(tensor)
        (below if inside[0] else above).add(kept)
        return kept

    lower = [model.get_input_embeddings(), *layers[:-1]]
    hooks = [module.register_forward_pre_hook(lambda *_: inside.__setitem__(0, True)) for module in lower]
    hooks += [module.register_forward_hook(lambda *_: inside.__setitem__(0, False)) for module in lower]
    for layer in layers:
        hooks.append(layer.register_forward_hook(lambda _m, _i, out: requires.append(_first(out).requires_grad)))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        loss = model(**batch)["loss"]
    for hook in hooks:
        hook.remove()
    found = len(below), len(above)
    loss.backward()
    return *found, requires[: len(layers)]


def _first(output):
    return output if isinstance(output, torch.Tensor) else output[0]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("kind", "head"), HEADS)
def test_nothing_below_the_lowest_adapted_layer_is_saved_for_the_backward_pass(kind, head, checkpointing, base_of):
    model, batch = adapted(base_of(kind), head, lora_layers=1)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    below, above, requires = watch(model, batch)
    assert below == 0 and above > 0
    assert requires == [False, True]


@pytest.mark.parametrize(("kind", "head"), HEADS)
def test_checkpointing_changes_no_gradient(kind, head, base_of):
    model, batch = adapted(base_of(kind), head, lora_layers=1)

    def gradients():
        model.zero_grad()
        model(**batch)["loss"].backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}

    plain = gradients()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    found = gradients()
    assert any(gradient.abs().max() > 0 for gradient in plain.values())
    assert all(torch.allclose(found[name], plain[name], atol=1e-6) for name in plain)


@pytest.mark.parametrize(("kind", "head"), HEADS)
def test_no_hook_is_left_on_the_base_after_folds(kind, head, base_of):
    _, model = bare(base_of(kind), head)
    for _ in range(2):
        fold = adapters.add_adapter(model, ModelArguments("base", lora_r=2))
        fold.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model = adapters.remove_adapter(fold)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(("kind", "head"), WRAPPED)
def test_a_wrapped_base_is_a_model_of_transformers_own_kind(kind, head, base_of):
    _, model = bare(base_of(kind), head)
    assert isinstance(model, PreTrainedModel) and model.base_model is model.model
    assert model._no_split_modules == set(model.model._no_split_modules) != set()  # which FSDP wraps by
    assert not model.is_gradient_checkpointing
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing


@pytest.mark.parametrize(("kind", "head"), WRAPPED)
def test_a_wrapper_leaves_the_loaded_weights_alone(kind, head, base_of):
    from transformers import AutoModel

    expected = AutoModel.from_pretrained(base_of(kind)).state_dict()
    found = bare(base_of(kind), head)[1].model.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_adapters_have_the_names_that_they_had_in_older_runs(base_of):
    from peft import get_peft_model_state_dict

    layer = "layers.1.mlp.down_proj.lora_A.weight"
    expected = {
        ("qwen3", "yes_no"): {f"base_model.model.model.{layer}"},
        ("qwen3", "language"): {f"base_model.model.model.{layer}"},
        ("qwen3", "mean"): {f"base_model.model.model.{layer}", "base_model.model.classifier.weight"},
        ("bert", "pair"): {
            "base_model.model.model.encoder.layer.1.output.dense.lora_B.weight",
            "base_model.model.classifier.bias",
        },
        ("xlm-roberta", "auto"): {
            "base_model.model.roberta.encoder.layer.1.output.dense.lora_B.weight",
            "base_model.model.classifier.out_proj.weight",
        },
    }
    for (kind, head), names in expected.items():
        assert names <= set(get_peft_model_state_dict(adapted(base_of(kind), head)[0])), (kind, head)


@pytest.mark.parametrize(("kind", "head"), [("gemma3_text", "auto"), ("qwen3", "auto"), ("bert", "mean")])
def test_a_checkpoint_of_all_weights_has_the_names_by_which_it_is_loaded_again(kind, head, base_of, tmp_path):
    from safetensors.torch import load_file

    _, model = bare(base_of(kind), head)
    model.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == model.state_dict().keys()


@pytest.mark.parametrize("word", [w for w in ("gradient", "activation") if hasattr(Arguments, f"{w}_checkpointing")])
def test_reentrant_checkpoints_are_refused_and_the_others_are_asked_for_by_name(word):
    flags = f"--model_name_or_path x --task QC --train_file t --{word}_checkpointing true".split()
    assert getattr(parse_arguments(flags)[-1], f"{word}_checkpointing_kwargs") == {"use_reentrant": False}
    with pytest.raises(ValueError, match="found use_reentrant true, expected false"):
        parse_arguments([*flags, f"--{word}_checkpointing_kwargs", '{"use_reentrant": true}'])
