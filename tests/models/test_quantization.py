"""QLoRA: a frozen base in four bits under plain adapters, which also fit the base in full precision."""

import json
import sys

import bitsandbytes
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification

from product_relevance import RelevanceEnsemble
from product_relevance.ensemble.loading_arguments import LoadingArguments
from product_relevance.ensemble.published import canaries
from product_relevance.models import adapters, modeling
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.batching import pad_rows
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.heads.classifier import HEAD, Float32Linear
from product_relevance.models.heads.prompt_tokens import use_prompt
from product_relevance.models.loading.quantization import is_quantized, quantize_model
from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.serving.export.export_options import ExportOptions
from product_relevance.serving.export.transformers_export import export_classifier
from product_relevance.training.base_model import BaseModelPool
from tests.conftest import rows_of
from tests.helpers.published import PAIRS, tiny_run
from tests.helpers.tiny_prompt import PROMPT, TEXT

NF4 = "--quantization nf4"


@pytest.fixture(scope="module")
def run(base_of, tmp_path_factory):
    return tiny_run(base_of("qwen3"), tmp_path_factory.mktemp("nf4"), NF4)


def load(run, **options):
    return RelevanceEnsemble.from_pretrained(run, device="cpu", **options)


def bare(base, **options):
    tokenizer = modeling.load_tokenizer(str(base))
    return modeling.load_classifier(str(base), tokenizer, ClassifierOptions(**options)), tokenizer


def linear_kinds(model) -> dict[str, type]:
    return {name: type(module) for name, module in model.named_modules() if isinstance(module, nn.Linear)}


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "gemma3_text", "qwen3"])
def test_all_linear_layers_but_the_head_are_in_four_bits(kind, base_of):
    model, tokenizer = bare(base_of(kind))
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    quantize_model(model, "cpu")
    found = linear_kinds(model)
    assert {kind for name, kind in found.items() if not HEAD.search(name)} == {bitsandbytes.nn.Linear4bit}
    assert {kind for name, kind in found.items() if HEAD.search(name)} == {Float32Linear}
    kept = 0
    for name, weight in model.named_parameters():
        if isinstance(weight, bitsandbytes.nn.Params4bit):
            assert weight.quant_state.quant_type == "nf4" and weight.quant_state.nested
            assert weight.dtype == torch.uint8 and not weight.requires_grad
        else:
            assert torch.equal(weight, before[name])
            kept += 1
    assert kept and any(HEAD.search(name) for name in before)


def test_a_pooled_head_and_the_answers_of_yes_no_stay_whole(base_of):
    model, _ = bare(base_of("xlm-roberta"), pooling="pair")
    assert type(quantize_model(model, "cpu").classifier) is Float32Linear
    tokenizer = modeling.load_tokenizer(str(base_of("qwen3")))
    answers = use_prompt(tokenizer, PROMPT, "QC", 96)
    model, _ = bare(base_of("qwen3"), answers=answers)
    before = model.answers.clone()
    quantize_model(model, "cpu")
    assert model.answers.dtype == torch.float32 and torch.equal(model.answers, before)


def test_four_bits_stay_close_to_the_base_and_pass_gradients_on(base_of):
    model, tokenizer = bare(base_of("qwen3"))
    batch = pad_rows(encode_pairs(tokenizer, *zip(*PAIRS[:4], strict=True), 48), tokenizer.pad_token_id)
    exact = model.eval()(**batch).logits
    adapted = adapters.add_adapter(quantize_model(model, "cpu"), ModelArguments("x", lora_r=4))
    moved = (adapted.eval()(**batch).logits - exact).abs().max()
    assert 0 < moved < exact.abs().max()
    for _ in range(2):  # also after an evaluation, which on some processors packs the weights otherwise
        adapted.zero_grad()
        adapted.train()(**batch, labels=torch.tensor([0, 1, 0, 1])).loss.backward()
        got = {name for name, weight in adapted.named_parameters() if weight.grad is not None}
        assert {name for name in got if "lora_B" in name} == {
            n for n, _ in adapted.named_parameters() if "lora_B" in n
        }
        with torch.no_grad():
            adapted.eval()(**batch)
    assert set(linear_kinds(adapters.remove_adapter(adapted)).values()) == {bitsandbytes.nn.Linear4bit, Float32Linear}


def test_a_run_says_so_and_knows_the_base_by_its_whole_weights(run, base_of):
    content = json.loads((run / "run.json").read_text())
    model, _ = bare(base_of("qwen3"))
    assert content["adapter"]["quantization"] == "nf4"
    assert content["base"]["fingerprint"] == modeling.fingerprint_weights(model)
    assert set(content["versions"]) >= {"torch", "peft"}


def test_its_adapters_load_on_the_base_in_full_and_in_four_bits(run, caplog):
    full = load(run)
    assert "dtype nf4 gives those of training" in caplog.text
    caplog.clear()
    four = load(run, dtype="nf4")
    assert "of training" not in caplog.text
    assert (full.dtype, four.dtype) == ("float32", "nf4") and is_quantized(four.model) and not is_quantized(full.model)
    scores = {ensemble.dtype: ensemble.predict_folds(PAIRS) for ensemble in (full, four)}
    assert 0 < np.abs(scores["float32"] - scores["nf4"]).max() < 0.1
    found = canaries.measure_canaries(four)
    assert found.dtype == "nf4"
    canaries.compare_canaries(found, canaries.measure_canaries(full))


def test_out_of_fold_scores_are_those_of_the_base_in_four_bits(run):
    oof = pd.read_parquet(run / "fold-0/oof.parquet")
    rows = {row["id"]: row for row in rows_of("train_QC.txt")[:240]}
    part = [rows[key] for key in oof["id"]]
    pairs = [(row["origin_query"], row["category_path"]) for row in part]
    found = load(run, dtype="nf4").predict_folds(pairs, [row["language"] for row in part])[:, 0]
    assert np.abs(found - oof["score"]).max() < 1e-5


def test_merged_and_exported_models_are_in_full_precision(run, tmp_path):
    export_classifier(str(run), str(tmp_path / "plain"), ExportOptions(max_disagreement=1.0))
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "plain").eval()
    assert set(linear_kinds(plain).values()) == {nn.Linear} and plain.dtype == torch.float32
    merged = load(run, loading=LoadingArguments(merge="weights", max_disagreement=1.0))
    queries, targets = zip(*PAIRS, strict=True)
    texts, targets = merged.encoder.template.render(queries, targets, None, merged.taxonomy)
    ids = encode_pairs(merged.encoder.tokenizer, texts, targets, merged.run.max_length)
    with torch.no_grad():
        logits = plain(**pad_rows(ids, merged.encoder.tokenizer.pad_token_id)).logits
    assert np.allclose(logits.sigmoid()[:, 0], merged.predict(PAIRS), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        ("bert", "--use_dora true"),
        ("qwen3", "--head yes_no --prompt {}"),
        ("gemma2", "--lora_layers 1 --gradient_checkpointing true"),
    ],
)
def test_it_trains_with(kind, flags, base_of, tmp_path):
    prompt = tmp_path / "prompt.txt"
    prompt.write_text(TEXT)
    run = tiny_run(base_of(kind), tmp_path, f"{NF4} --fold 0 {flags.format(prompt)}")
    (fold,) = json.loads((run / "run.json").read_text())["folds"]
    assert fold["metrics"]["auc"] > 0
    state = load_file(run / "fold-0/adapter_model.safetensors")
    assert all(value.abs().max() > 0 for name, value in state.items() if "lora_B" in name)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"adapter": "none"}, "take --adapter lora"),
        ({"init_lora_weights": "pissa"}, "cannot give it up exactly"),
        ({"init_lora_weights": "olora"}, "cannot give it up exactly"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(options, told):
    with pytest.raises(ValueError, match=told):
        ModelArguments("x", quantization="nf4", **options)


class Training:
    """The arguments of a run, as far as a base asks for them."""

    def __init__(self, stage: int | None = None):
        self.deepspeed = stage and "zero.json"
        self.hf_deepspeed_config = self if stage else None
        self.stage = stage

    def get_value(self, _key, _default):
        return self.stage


def test_zero3_is_refused_and_so_is_a_missing_package(monkeypatch):
    arguments = ModelArguments("x", quantization="nf4")
    with pytest.raises(ValueError, match="ZeRO-3"):
        BaseModelPool(arguments, Training(3), None)
    assert BaseModelPool(arguments, Training(2), None).reload
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ValueError, match=r"pip install '\.\[train\]' in a clone"):
        BaseModelPool(arguments, Training(), None)


def test_whole_models_are_not_put_into_four_bits(base_of, tmp_path):
    run = tiny_run(base_of("bert"), tmp_path, "--adapter none --fold 0")
    with pytest.raises(ValueError, match="whole models"):
        load(run, dtype="nf4")
