"""Heads compute in float32 on a base in bfloat16, adapters in the dtype of the base: unlike pairs stay apart."""

import numpy as np
import pytest
import torch

from product_relevance import RelevanceEnsemble
from product_relevance.models import adapters
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.batching import pad_rows
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.heads import classifier
from product_relevance.models.heads.classifier import HEAD
from product_relevance.models.heads.prompt_tokens import use_prompt
from product_relevance.models.modeling import load_classifier, load_tokenizer
from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.models.predictor import predict_logits
from tests.conftest import rows_of, save_base
from tests.helpers.published import tiny_run
from tests.helpers.tiny_prompt import PROMPT
from tests.models.test_modeling import KINDS

ROWS = rows_of("train_QC.txt")[:400]
QUERIES, TARGETS = [row["origin_query"] for row in ROWS], [row["category_path"] for row in ROWS]
HEADS = [(kind, "auto") for kind in KINDS] + [
    ("bert", "mean"),
    ("bert", "pair"),
    ("qwen3", "mean"),
    ("qwen3", "yes_no"),
]


def prepared(base, pooling="auto", dtype="bfloat16"):
    """A tokenizer and a base, with the head of a name."""
    tokenizer = load_tokenizer(str(base))
    if pooling == "yes_no":
        answers = use_prompt(tokenizer, PROMPT, "QC", 96)
        return tokenizer, load_classifier(str(base), tokenizer, ClassifierOptions(answers=answers, dtype=dtype))
    return tokenizer, load_classifier(str(base), tokenizer, ClassifierOptions(pooling=pooling, dtype=dtype))


def tokens(tokenizer):
    return encode_pairs(tokenizer, QUERIES, TARGETS, 64)


@pytest.mark.parametrize(("kind", "head"), HEADS)
def test_distinct_pairs_keep_distinct_scores_in_bfloat16(kind, head, base_of):
    tokenizer, model = prepared(base_of(kind), head)
    ids = tokens(tokenizer)
    logits = predict_logits(model, ids, tokenizer.pad_token_id)
    distinct = len({tuple(row) for row in ids})
    assert len(np.unique(logits[:, 1] - logits[:, 0])) > 0.98 * distinct


@pytest.mark.parametrize(("kind", "head"), HEADS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_under_autocast_are_in_float32_and_so_is_what_the_head_keeps(kind, head, dtype, base_of):
    tokenizer, model = prepared(base_of(kind), head, dtype)
    batch = pad_rows(tokens(tokenizer)[:4], tokenizer.pad_token_id)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(**batch).logits
    rounded = logits.to(torch.bfloat16).float()
    assert logits.dtype == torch.float32 and not torch.equal(logits, rounded)
    assert {p.dtype for name, p in model.named_parameters() if HEAD.search(name)} <= {torch.float32}
    base = {p.dtype for name, p in model.named_parameters() if not HEAD.search(name)}
    assert base == {getattr(torch, dtype)}


def test_a_head_computes_in_float32_whatever_its_weights_are():
    plain = torch.nn.Linear(64, 2)
    head = classifier.Float32Linear(64, 2)
    head.load_state_dict(plain.state_dict())
    head.to(torch.bfloat16)
    states = torch.randn(8, 64).to(torch.bfloat16)
    expected = states.float() @ head.weight.float().T + head.bias.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(head(states), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "gemma2", "gemma3_text"])
def test_a_decoder_gives_the_logits_of_transformers_own_class(kind, base_of):
    tokenizer, model = prepared(base_of(kind), dtype="float32")
    (own,) = [c for c in type(model).__mro__ if c.__name__ == type(model).__name__][1:]
    batch = pad_rows(tokens(tokenizer)[:6], tokenizer.pad_token_id)
    labels = torch.tensor([0, 1, 0, 1, 1, 0])
    with torch.no_grad():
        found, expected = model.eval()(**batch, labels=labels), own.forward(model, **batch, labels=labels)
    assert torch.equal(found.logits, expected.logits) and torch.allclose(found.loss, expected.loss)


def test_an_architecture_without_a_classifier_is_refused():
    from transformers import CLIPConfig

    with pytest.raises(ValueError, match="no text classifier on clip"):
        classifier.classifier_class("a-base", CLIPConfig().text_config)


def adapted(base, **options):
    """A base in bfloat16 under an adapter, for training."""
    tokenizer, model = prepared(base)
    model = adapters.add_adapter(model, ModelArguments(str(base), lora_r=4, lora_dropout=0.0, **options))
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.1)
    return model, pad_rows(tokens(tokenizer)[:4], tokenizer.pad_token_id)


def inputs_of_adapters(model, batch) -> set:
    """The dtypes of what reaches the adapters under autocast."""
    seen = set()
    for name, module in model.named_modules():
        if name.endswith("lora_A.default"):
            module.register_forward_pre_hook(lambda _, inputs: seen.add(inputs[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model(**batch)
    return seen


def test_in_training_an_adapters_input_is_not_cast_to_float32_and_back(base_of):
    model, batch = adapted(base_of("qwen3"))
    with torch.autocast("cpu", torch.bfloat16):
        before = model(**batch).logits
    assert torch.float32 in inputs_of_adapters(model, batch)
    adapters.leave_casts_to_autocast(model)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(**batch).logits, before)
    assert inputs_of_adapters(model, batch) == {torch.bfloat16}


def test_dora_keeps_the_casts_that_its_norms_need(base_of):
    model, batch = adapted(base_of("qwen3"), use_dora=True)
    adapters.leave_casts_to_autocast(model)
    assert all(layer.cast_input_dtype_enabled for layer in adapters._adapted(model))


def kinds_of(model) -> tuple[set, set]:
    """The dtypes of adapters, and of trained heads."""
    named = list(model.named_parameters())
    return {p.dtype for n, p in named if "lora_" in n}, {p.dtype for n, p in named if "modules_to_save" in n}


@pytest.fixture(scope="module")
def run(base_of, tmp_path_factory):
    return tiny_run(base_of("qwen3"), tmp_path_factory.mktemp("heads"))


def test_adapters_that_are_not_merged_score_in_the_dtype_of_the_base_and_heads_in_float32(run):
    half = RelevanceEnsemble.from_pretrained(run, device="cpu", dtype="bfloat16")
    assert kinds_of(half.model) == ({torch.bfloat16}, {torch.float32})
    exact = RelevanceEnsemble.from_pretrained(run, device="cpu", dtype="float32")
    assert kinds_of(exact.model) == ({torch.float32}, {torch.float32})
    pairs = list(zip(QUERIES, TARGETS, strict=True))
    assert np.abs(half.predict(pairs) - exact.predict(pairs)).max() < 5e-3


def test_dora_scores_in_float32(base_of, tmp_path):
    base = save_base(tmp_path / "base", "qwen3")
    model, _ = adapted(base, use_dora=True)
    adapters.score_in_dtype_of_base(model)
    assert kinds_of(model)[0] == {torch.float32}


def test_an_ensemble_in_bfloat16_tells_pairs_apart(run):
    half = RelevanceEnsemble.from_pretrained(run, device="cpu", dtype="bfloat16")
    scores = half.predict_folds(list(zip(QUERIES, TARGETS, strict=True)))
    pairs = len(set(zip(QUERIES, TARGETS, strict=True)))
    assert all(len(np.unique(column)) > 0.95 * pairs for column in scores.T)
