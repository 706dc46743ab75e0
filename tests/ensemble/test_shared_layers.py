"""Shared layers: adapters on the top layers only, the layers below run once, and every score stays."""

import json
import shutil
import sys

import bench_ensemble
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from product_relevance import RelevanceEnsemble
from product_relevance.ensemble import shared_layers
from product_relevance.ensemble.loading_arguments import LoadingArguments
from product_relevance.ensemble.shared_layers import SharedLayers
from product_relevance.models import adapters, predictor
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.batching import pad_rows
from product_relevance.models.modeling import load_classifier, load_tokenizer
from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.serving.export.export_options import ExportOptions
from product_relevance.serving.export.transformers_export import export_classifier
from tests.conftest import SAMPLE
from tests.helpers.published import PAIRS, tiny_run

KINDS = ("bert", "xlm-roberta", "deberta-v2", "modernbert", "qwen2", "qwen3", "gemma2", "gemma3_text")


@pytest.fixture(scope="module")
def run(base_of, tmp_path_factory):
    return tiny_run(base_of("qwen3"), tmp_path_factory.mktemp("shared"), "--lora_layers 1")


def load(run, **options):
    return RelevanceEnsemble.from_pretrained(run, device="cpu", **options)


def three_folds(base, **options):
    """A base with three adapters whose every tensor is random, and its tokenizer."""
    tokenizer = load_tokenizer(str(base))
    model = load_classifier(str(base), tokenizer)
    config = adapters.lora_config(model, ModelArguments(str(base), lora_r=4, **options))
    from peft import get_peft_model

    model = get_peft_model(model, config, adapter_name="a")
    for name in ("b", "c"):
        model.add_adapter(name, config)
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            weight.data.normal_(std=0.3)
    return model.eval(), tokenizer


def tokens_of(tokenizer, pairs=PAIRS):
    return encode_pairs(tokenizer, *zip(*pairs, strict=True), 64)


def fold_by_fold(model, ids, pad_id, max_tokens=None):
    """Logits of shape (n, 3, 2), by whole passes in the same batches."""
    columns = []
    for name in "abc":
        model.set_adapter(name)
        limits = predictor.ForwardLimits("cpu", max_tokens)
        forward = lambda rows: model(**pad_rows(rows, pad_id)).logits  # noqa: E731
        columns.append(predictor.score_in_batches(forward, ids, (2,), limits))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_over_the_shared_layers_are_those_of_fold_by_fold(kind, base_of):
    model, tokenizer = three_folds(base_of(kind), lora_layers=1)
    ids, pad_id = tokens_of(tokenizer), tokenizer.pad_token_id
    assert shared_layers.count_shared_layers(model) == 1
    found = SharedLayers(model, "abc", model.set_adapter, 1).predict_logits(ids, pad_id, max_tokens=500)
    assert np.allclose(found, fold_by_fold(model, ids, pad_id, 500), atol=1e-6)
    assert np.abs(found[:, 0] - found[:, 1]).max() > 1e-2


def test_lower_layers_run_once_and_top_layers_once_a_fold(base_of):
    model, tokenizer = three_folds(base_of("xlm-roberta"), lora_layers=1)
    runs = [0, 0]
    for i, layer in enumerate(adapters.layer_stack(model)[1]):
        part = layer.intermediate  # inside the layer, since the whole of it is called even where it only gives back
        part.register_forward_hook(lambda *_, i=i: runs.__setitem__(i, runs[i] + 1))
    ids = tokens_of(tokenizer)
    shared = SharedLayers(model, "abc", model.set_adapter, 1)
    shared.predict_logits(ids, tokenizer.pad_token_id, max_tokens=10_000)
    assert runs == [1, 3]


def test_the_layers_are_as_they_were_even_after_a_failure(base_of):
    model, tokenizer = three_folds(base_of("qwen3"), lora_layers=1)
    ids, pad_id = tokens_of(tokenizer), tokenizer.pad_token_id
    before = fold_by_fold(model, ids, pad_id)
    calls = []

    def select(name):
        calls.append(name)
        model.set_adapter(name if len(calls) < 2 else "missing")

    with pytest.raises(ValueError, match="missing"):
        SharedLayers(model, ["a", "c", "a"], select, 1).predict_logits(ids, pad_id)
    layers = adapters.layer_stack(model)[1]
    assert not any("forward" in layer.__dict__ or layer._forward_hooks for layer in layers)
    assert np.array_equal(fold_by_fold(model, ids, pad_id), before)


@pytest.mark.parametrize("options", [{}, {"lora_layers": 2}, {"lora_target_modules": ["attention"]}])
def test_nothing_is_shared_below_an_adapter_on_the_lowest_layer(options, base_of):
    assert shared_layers.count_shared_layers(three_folds(base_of("bert"), **options)[0]) == 0


def test_a_base_whose_layers_read_others_keys_shares_nothing(base_of):
    model, _ = three_folds(base_of("qwen3"), lora_layers=1)
    model.config.num_kv_shared_layers = 1
    assert shared_layers.count_shared_layers(model) == 0


def test_an_adapter_outside_the_layers_leaves_no_shared_layers(base_of):
    from peft import LoraConfig, get_peft_model

    model = load_classifier(str(base_of("qwen3")), load_tokenizer(str(base_of("qwen3"))))
    config = LoraConfig(task_type="SEQ_CLS", target_modules=["embed_tokens", "model.layers.1.mlp.up_proj"])
    assert shared_layers.count_shared_layers(get_peft_model(model, config)) == 0


def adapted(base, **options):
    model = load_classifier(str(base), load_tokenizer(str(base)))
    return sorted(adapters.lora_config(model, ModelArguments(str(base), **options)).target_modules)


@pytest.mark.parametrize(("kind", "layer"), [("xlm-roberta", "encoder.layer.1."), ("gemma3_text", "layers.1.")])
def test_only_linear_layers_of_the_top_get_an_adapter(kind, layer, base_of):
    names = adapted(base_of(kind), lora_layers=1)
    assert names and all(layer in name for name in names)
    assert adapted(base_of(kind), lora_layers=2) == adapted(base_of(kind))
    assert 0 < len(adapted(base_of(kind), lora_layers=1, lora_target_modules=["attention"])) < len(names)


def test_more_layers_than_there_are_and_full_fine_tuning_are_refused(base_of):
    with pytest.raises(ValueError, match="--lora_layers 3: this base has 2 layers"):
        adapted(base_of("bert"), lora_layers=3)
    for options in ({"lora_layers": 0}, {"lora_layers": 1, "adapter": "none"}):
        with pytest.raises(ValueError, match="--lora_layers"):
            ModelArguments("x", **options)


def test_a_run_says_its_layers_and_is_scored_over_the_shared_layers(run, monkeypatch):
    assert json.loads((run / "run.json").read_text())["adapter"]["layers"] == 1
    names = load_file(run / "fold-0/adapter_model.safetensors")
    assert {name.split("layers.")[1][0] for name in names if "lora_" in name} == {"1"}
    ensemble = load(run)
    assert ensemble.fold_models.shared_layers == 1
    found = ensemble.predict_folds(PAIRS)
    ensemble.fold_models.shared_layers = 0
    monkeypatch.setattr(shared_layers, "SharedLayers", None)  # not called any more
    assert np.allclose(found, ensemble.predict_folds(PAIRS), atol=1e-6)


def test_merged_and_exported_scores_are_those_of_the_folds(run, tmp_path):
    merged = load(run, loading=LoadingArguments(merge="weights", max_disagreement=1.0))
    assert merged.fold_models.shared_layers == 0 and merged.predict_folds(PAIRS).shape == (len(PAIRS), 1)
    export_classifier(str(run), str(tmp_path / "plain"), ExportOptions(fold="fold-1"))
    from transformers import AutoModelForSequenceClassification

    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "plain").eval()
    ensemble = load(run)
    queries, targets = zip(*PAIRS, strict=True)
    texts, targets = ensemble.encoder.template.render(queries, targets, None, ensemble.taxonomy)
    ids = encode_pairs(ensemble.encoder.tokenizer, texts, targets, ensemble.run.max_length)
    logits = predictor.predict_logits(plain, ids, ensemble.encoder.tokenizer.pad_token_id)
    assert np.allclose(torch.tensor(logits).sigmoid()[:, 0], ensemble.predict_folds(PAIRS)[:, 1], atol=1e-5)


def test_a_run_from_before_has_no_such_key_and_loads(run, tmp_path):
    old = shutil.copytree(run, tmp_path / "run")
    content = json.loads((old / "run.json").read_text())
    for key in ("layers", "quantization"):
        content["adapter"].pop(key, None)
    (old / "run.json").write_text(json.dumps(content))
    assert np.allclose(load(old).predict(PAIRS), load(run).predict(PAIRS), atol=1e-7)


def test_a_second_stage_on_other_layers_is_refused(run, base_of, tmp_path):
    with pytest.raises(SystemExit, match="do not fit: 14 tensors missing"):
        tiny_run(base_of("qwen3"), tmp_path, f"--init_adapter {run}")


def test_the_benchmark_finds_the_exact_ways_exact(run, capsys, monkeypatch):
    file = str(SAMPLE / "answers_QC.txt")
    monkeypatch.setattr(sys, "argv", ["bench_ensemble", str(run), file, "--rows", "60", "--device", "cpu"])
    bench_ensemble.main()
    ways = json.loads(capsys.readouterr().out.splitlines()[-1])["ways"]
    assert list(ways) == ["K passes", "vote", "merged in turn", "shared layers", "mixed batch", "mean weights"]
    assert [line["passes"] for line in ways.values()] == [3, 3, 3, 2, 3, 1]
    exact = ("K passes", "merged in turn", "shared layers", "mixed batch")
    assert max(ways[way]["max_diff"] for way in exact) < 1e-5
    assert ways["mean weights"]["max_diff"] > 1e-5
