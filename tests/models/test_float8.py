"""FP8: which layers of a base compute in it, how near they stay, and the gate; a CPU emulates the products."""

import numpy as np
import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from product_relevance import RelevanceEnsemble
from product_relevance.ensemble.loading_arguments import LoadingArguments
from product_relevance.models import adapters, modeling
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.batching import pad_rows
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.compiled_layers import compile_layers
from product_relevance.models.heads.classifier import HEAD, Float32Linear
from product_relevance.models.loading import float8
from product_relevance.models.loading.float8 import Float8Linear, has_float8, quantize_rows, quantize_to_float8
from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.models.predictor import predict_logits
from tests.helpers.published import PAIRS, tiny_run

pytestmark = pytest.mark.skipif(not hasattr(nn.functional, "scaled_mm"), reason="products in FP8 need torch 2.10")


@pytest.fixture(scope="module")
def run(base_of, tmp_path_factory):
    return str(tiny_run(base_of("qwen3"), tmp_path_factory.mktemp("fp8")))


@pytest.fixture
def anywhere(monkeypatch):
    """Let a CPU pass for a GPU that has products in FP8."""
    monkeypatch.setattr(float8, "require_float8", lambda device: None)


def load(run, dtype="fp8", **loading):
    return RelevanceEnsemble.from_pretrained(run, device="cpu", dtype=dtype, loading=LoadingArguments(**loading))


def bare(base):
    tokenizer = modeling.load_tokenizer(str(base))
    return modeling.load_classifier(str(base), tokenizer, ClassifierOptions(dtype="bfloat16")), tokenizer


def rows_of(tokenizer):
    return encode_pairs(tokenizer, *zip(*PAIRS, strict=True), 48)


def test_rows_come_back_within_the_error_of_fp8():
    values = torch.randn(50, 64) * torch.logspace(-6, 6, 50)[:, None]
    values[0] = 0
    rounded, scales = quantize_rows(values)
    assert rounded.dtype == torch.float8_e4m3fn and scales.shape == (50, 1) and scales.dtype == torch.float32
    back = rounded.float() * scales
    # three bits of a mantissa, and below 2^-6 steps of 2^-9
    assert ((back - values).abs() <= values.abs() / 16 + scales * 2.0**-10).all()
    assert torch.equal(back[0], values[0])
    assert torch.allclose(back.abs().amax(1), values.abs().amax(1))  # the largest of a row is exact


def test_a_layer_multiplies_what_is_rounded():
    linear = nn.Linear(64, 32).bfloat16()
    states = torch.randn(3, 5, 64).bfloat16()
    layer = Float8Linear(linear)
    (rows, scales), (weight, others) = quantize_rows(states.view(15, 64)), quantize_rows(linear.weight.detach())
    exact = (rows.float() * scales) @ (weight.float() * others).T + linear.bias.float()
    found = layer(states)
    assert found.shape == (3, 5, 32) and found.dtype == torch.bfloat16
    assert torch.allclose(found.view(15, 32).float(), exact, atol=0.02, rtol=0.02)
    assert layer.weight.dtype == torch.float8_e4m3fn and [*layer.parameters()] == [linear.bias]


@pytest.mark.parametrize("kind", ["xlm-roberta", "gemma3_text", "qwen3"])
def test_only_the_layers_of_the_base_compute_in_it(kind, base_of):
    model, tokenizer = bare(base_of(kind))
    model = adapters.add_adapter(model, ModelArguments("x", lora_r=4))
    adapters.score_in_dtype_of_base(model)
    batch = pad_rows(rows_of(tokenizer), tokenizer.pad_token_id)
    exact = model.eval()(**batch).logits
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    expected = {name for name in linear if not HEAD.search(name) and "lora_" not in name}
    assert not has_float8(model)
    assert quantize_to_float8(model) == len(expected) > 0 and has_float8(model)
    found = {name: type(module) for name, module in model.named_modules()}
    assert {name for name, kind in found.items() if kind is Float8Linear} == expected
    assert Float32Linear in {kind for name, kind in found.items() if HEAD.search(name)}
    left = dict(model.named_parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in left.items())
    assert {name.removesuffix(".weight") for name in before.keys() - left.keys()} == expected
    assert 0 < (model(**batch).logits - exact).abs().max() < 0.25 * exact.abs().max() + 0.05
    assert adapters.merged_size(model) == 0  # nothing is added to what is rounded
    assert quantize_to_float8(model) == 0


def test_an_odd_width_stays_as_it_is():
    model = nn.Sequential(nn.Linear(32, 20), nn.Linear(20, 32), nn.Linear(32, 16)).bfloat16()
    assert quantize_to_float8(model) == 1 and [type(m) for m in model] == [nn.Linear, nn.Linear, Float8Linear]


def test_compiled_layers_compute_in_it_too(base_of):
    model, tokenizer = bare(base_of("qwen3"))
    quantize_to_float8(model.eval())
    rows = rows_of(tokenizer)
    exact = predict_logits(model, rows, tokenizer.pad_token_id)
    compile_layers(model, backend="eager")
    assert np.allclose(predict_logits(model, rows, tokenizer.pad_token_id), exact, atol=1e-3)


def test_a_run_is_scored_in_it_behind_the_gate(run, anywhere, caplog):
    plain, found = load(run, "bfloat16"), load(run, max_disagreement=0.1)
    assert (plain.dtype, found.dtype) == ("bfloat16", "fp8") and "layers in FP8; probabilities differ" in caplog.text
    scores = [one.predict_folds(PAIRS * 40) for one in (plain, found)]  # enough tokens to merge, which must not happen
    assert scores[0].shape == scores[1].shape and scores[0].shape[1] > 1
    assert 0 < np.abs(scores[0] - scores[1]).max() < 0.1
    with pytest.raises(ValueError, match=r"up to 0\.\d{4} on 8 canary pairs \(limit 0\.0\): take bfloat16, or raise"):
        load(run, max_disagreement=0.0)


def test_one_model_is_merged_before_it_is_rounded(run, anywhere):
    found = load(run, merge="weights", max_disagreement=0.2)
    assert found.dtype == "fp8" and list(found.folds) == ["weights"]
    assert all(module.merged for module in found.model.modules() if isinstance(module, BaseTunerLayer))
    near = load(run, "bfloat16", merge="weights", max_disagreement=0.2).predict(PAIRS)
    assert 0 < np.abs(found.predict(PAIRS) - near).max() < 0.1


@pytest.mark.parametrize(
    ("flags", "why"), [("--adapter none", "merge their weights"), ("--use_dora true", "DoRA reads the weights")]
)
def test_folds_that_cannot_be_are_refused(flags, why, base_of, tmp_path, anywhere):
    run = tiny_run(base_of("bert"), tmp_path, flags)
    with pytest.raises(ValueError, match=f"dtype fp8: .*{why}"):
        load(run, max_disagreement=1.0)


def test_a_device_without_such_products_is_refused(run, monkeypatch):
    with pytest.raises(ValueError, match="needs a GPU of compute capability 8.9"):
        load(run)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A100")
    with pytest.raises(ValueError, match="found A100 of 8.0; take bfloat16"):
        float8.require_float8("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    float8.require_float8("cuda:0")
    monkeypatch.delattr(nn.functional, "scaled_mm")
    with pytest.raises(ValueError, match="needs torch 2.10 or newer"):
        float8.require_float8("cuda")
