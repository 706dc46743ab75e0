"""Exports: plain transformers folders that score pairs as this package does, whole or not at all."""

import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from product_relevance import RelevanceEnsemble
from product_relevance.cli.main import main as relevance
from product_relevance.ensemble.loading_arguments import LoadingArguments
from product_relevance.models.modeling import load_tokenizer
from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.serving.export.export_options import ExportOptions
from product_relevance.serving.export.transformers_export import export_classifier, save_tokenizer
from tests.conftest import rows_of, save_base, tiny_config
from tests.helpers.published import PAIRS, tiny_run

KINDS = ["bert", "xlm-roberta", "qwen3", "gemma3_text"]


@pytest.fixture(scope="module")
def run_of(base_of, tmp_path_factory):
    """Return a function from an architecture to a tiny run."""
    made = {}

    def get(kind: str, flags: str = ""):
        if (kind, flags) not in made:
            made[kind, flags] = tiny_run(base_of(kind), tmp_path_factory.mktemp(kind), f"--max_length 48 {flags}")
        return made[kind, flags]

    return get


def rendered(ensemble):
    return ensemble.encoder.template.render([q for q, _ in PAIRS], [t for _, t in PAIRS], None, ensemble.taxonomy)


def auto_scores(folder, texts, targets):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    batch = tokenizer(texts, targets, truncation=True, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(**batch).logits.sigmoid()[:, 0].numpy()


def pipeline_scores(folder, texts, targets):
    from transformers import pipeline

    score = pipeline("text-classification", str(folder), top_k=None, device="cpu")
    rows = [{"text": text, "text_pair": target} for text, target in zip(texts, targets, strict=True)]
    found = [{part["label"]: part["score"] for part in row} for row in score(rows, truncation=True, batch_size=7)]
    return np.array([row["relevant"] for row in found])


def cross_encoder_scores(folder, texts, targets):
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), device="cpu")
    return model.predict(list(zip(texts, targets, strict=True)))


LOADERS = [auto_scores, pipeline_scores, cross_encoder_scores]


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_scores_as_the_merged_ensemble_under_every_loader(kind, run_of, tmp_path):
    export_classifier(str(run_of(kind)), str(tmp_path / "out"), ExportOptions(max_disagreement=1.0))
    mean = LoadingArguments(merge="weights", max_disagreement=1.0)
    merged = RelevanceEnsemble.from_pretrained(run_of(kind), device="cpu", loading=mean)
    expected = merged.predict(PAIRS)
    for scores in LOADERS:
        assert np.allclose(scores(tmp_path / "out", *rendered(merged)), expected, atol=1e-4), scores.__name__


@pytest.mark.parametrize("kind", ["bert", "qwen3"])
def test_a_fold_exports_alone(kind, run_of, tmp_path):
    export_classifier(str(run_of(kind)), str(tmp_path / "out"), ExportOptions(fold="fold-1"))
    ensemble = RelevanceEnsemble.from_pretrained(run_of(kind), device="cpu")
    folds = ensemble.predict_folds(PAIRS)
    found = auto_scores(tmp_path / "out", *rendered(ensemble))
    assert np.allclose(found, folds[:, 1], atol=1e-4) and not np.allclose(found, folds[:, 0], atol=1e-4)
    with pytest.raises(ValueError, match="--fold fold-9: expected one of fold-0, fold-1, fold-2"):
        export_classifier(str(run_of(kind)), str(tmp_path / "out2"), ExportOptions(fold="fold-9"))


def test_a_fully_fine_tuned_run_exports(run_of, tmp_path):
    run = run_of("bert", "--adapter none --learning_rate 3e-4")
    export_classifier(str(run), str(tmp_path / "out"), ExportOptions(max_disagreement=1.0))
    mean = LoadingArguments(merge="weights", max_disagreement=1.0)
    merged = RelevanceEnsemble.from_pretrained(run, device="cpu", loading=mean)
    assert np.allclose(auto_scores(tmp_path / "out", *rendered(merged)), merged.predict(PAIRS), atol=1e-4)


def test_a_multimodal_base_exports_as_its_text_model(tmp_path):
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, Gemma3Config

    base = save_base(tmp_path / "base", "gemma3_text")
    state = AutoModelForCausalLM.from_pretrained(base).state_dict()
    state = {"language_model." + k: v.clone() for k, v in state.items() if k != "lm_head.weight"}
    save_file(state, base / "model.safetensors", metadata={"format": "pt"})
    config = Gemma3Config(text_config=tiny_config("gemma3_text").to_dict())
    config.architectures = ["Gemma3ForConditionalGeneration"]
    config.save_pretrained(base)
    run = tiny_run(base, tmp_path)
    export_classifier(str(run), str(tmp_path / "out"), ExportOptions(max_disagreement=1.0))
    mean = LoadingArguments(merge="weights", max_disagreement=1.0)
    merged = RelevanceEnsemble.from_pretrained(run, device="cpu", loading=mean)
    assert np.allclose(auto_scores(tmp_path / "out", *rendered(merged)), merged.predict(PAIRS), atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_are_cast_after_the_merge(dtype, run_of, tmp_path):
    from safetensors import safe_open

    export_classifier(str(run_of("qwen3")), str(tmp_path / "whole"), ExportOptions(fold="fold-0"))
    export_classifier(str(run_of("qwen3")), str(tmp_path / "out"), ExportOptions(fold="fold-0", dtype=dtype))
    with (
        safe_open(tmp_path / "whole/model.safetensors", "pt") as whole,
        safe_open(tmp_path / "out/model.safetensors", "pt") as cast,
    ):
        for name in whole.keys():  # noqa: SIM118
            found = cast.get_tensor(name)
            assert str(found.dtype) == f"torch.{dtype}" and found.equal(whole.get_tensor(name).to(found.dtype))
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == dtype


def test_the_folder_tells_labels_threshold_and_template_and_no_path_of_this_machine(run_of, tmp_path):
    run = run_of("qwen3")
    print(export_classifier(str(run), str(tmp_path / "out"), ExportOptions(fold="fold-0")))
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["id2label"] == {"0": "relevant"} and config["pad_token_id"] == 1
    readme = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert f"{json.loads((run / 'run.json').read_text())['thresholds']['f1']:.4f}" in readme
    assert "input_style both" in readme and "truncation=True" in readme
    for file in (tmp_path / "out").iterdir():
        assert str(run).encode() not in file.read_bytes() and b"/tmp/" not in file.read_bytes(), file.name


def test_the_canaries_in_the_folder_hold_texts_tokens_and_scores(run_of, tmp_path):
    from transformers import AutoTokenizer

    export_classifier(str(run_of("gemma3_text")), str(tmp_path / "out"), ExportOptions(fold="fold-0"))
    rows = json.loads((tmp_path / "out/canaries.json").read_text(encoding="utf-8"))["pairs"]
    texts, targets = [row["query_text"] for row in rows], [row["target_text"] for row in rows]
    found = auto_scores(tmp_path / "out", texts, targets)
    assert len(rows) == 8 and np.allclose(found, [row["score"] for row in rows], atol=1e-5)
    ids = AutoTokenizer.from_pretrained(tmp_path / "out")(texts, targets, truncation=True)["input_ids"]
    assert ids == [row["token_ids"] for row in rows]


@pytest.mark.parametrize(("kind", "name"), [("gemma3_text", "Gemma3"), ("qwen3", "Qwen3"), ("bert", "Bert")])
def test_the_config_names_what_engines_look_for(kind, name, run_of, tmp_path):
    export_classifier(str(run_of(kind)), str(tmp_path / "out"), ExportOptions(fold="fold-0"))
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["architectures"] == [f"{name}ForSequenceClassification"] and config["use_sep_token"] is True


def test_the_scores_in_the_readme_are_true(run_of, tmp_path, monkeypatch):
    import re

    export_classifier(str(run_of("qwen3")), str(tmp_path / "out"), ExportOptions(fold="fold-0"))
    readme = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    first, second = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    monkeypatch.chdir(tmp_path / "out")
    told = {float(score) for score in re.findall(r"# (?:relevant: )?([01]\.\d{4})", readme)}
    names = {}
    *lines, last = first.strip().splitlines()
    exec("\n".join(lines), names)
    found = [{p["label"]: p["score"] for p in eval(last, names)}["relevant"]]
    *lines, last = second.strip().splitlines()
    exec("\n".join(lines), names)
    found.append(float(eval(last, names)[0]))
    assert len(told) == 1 and np.allclose(found, told.pop(), atol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "pair"])
def test_pooled_heads_without_a_graph_are_refused_with_the_way_out(pooling, run_of, tmp_path):
    run = run_of("bert", f"--pooling {pooling}")
    with pytest.raises(
        ValueError, match=f"{pooling}-pooled tokens, which no plain .*; add --onnx float32 for a graph"
    ):
        export_classifier(str(run), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_mean_weights_that_disagree_are_not_exported(run_of, tmp_path):
    with pytest.raises(ValueError, match="differ from the mean of the 3 folds"):
        export_classifier(str(run_of("qwen3")), str(tmp_path / "out"), ExportOptions(max_disagreement=1e-9))
    assert os.listdir(tmp_path) == []


def test_the_command_writes_once_and_overwrites_only_an_export(run_of, tmp_path, capsys):
    out, command = tmp_path / "out", ["export", str(run_of("qwen3")), "--fold", "fold-0", "--output"]
    relevance([*command, str(out)])
    assert f"{out}: fold fold-0 as Qwen3ForSequenceClassification, float32" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="--overwrite"):
        relevance([*command, str(out)])
    (out / "old.txt").write_text("x")
    relevance([*command, str(out), "--overwrite"])
    assert not (out / "old.txt").exists() and sorted(os.listdir(tmp_path)) == ["out"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("x")
    with pytest.raises(SystemExit, match="no exported model"):
        relevance([*command, str(tmp_path / "mine"), "--overwrite"])
    with pytest.raises(SystemExit, match="no exported model"):
        relevance([*command, str(run_of("qwen3")), "--overwrite"])
    with pytest.raises(SystemExit, match="--dtype int8"):
        relevance([*command, str(tmp_path / "new"), "--dtype", "int8"])


def test_an_export_that_fails_leaves_nothing(run_of, tmp_path, monkeypatch):
    monkeypatch.setattr("product_relevance.serving.export.transformers_export.save_tokenizer", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_classifier(str(run_of("qwen3")), str(tmp_path / "out"), ExportOptions(fold="fold-0"))
    assert os.listdir(tmp_path) == []


@pytest.fixture(scope="module")
def tokenizers(base_of, tmp_path_factory):
    """A tokenizer of a base and its exported copy, by architecture, for pairs of 24 tokens."""
    made = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp("tokenizer")
        made[kind] = copied(str(base_of(kind)), folder, tiny_config(kind), 24)
    return made


def copied(name: str, folder, config, max_length: int):
    from transformers import AutoTokenizer

    own = load_tokenizer(name)
    config.save_pretrained(folder)
    save_tokenizer(own, max_length, folder)
    return own, AutoTokenizer.from_pretrained(folder)


TEXTS = st.text(max_size=60) | st.sampled_from(
    ["", "\n", " a", "<pad>", "a</s>b", "zapatos rojos", "イヤホン", "x" * 99]
)


@pytest.mark.parametrize("kind", KINDS)
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=150)
@given(text=TEXTS, target=TEXTS)
def test_the_exported_tokenizer_gives_the_ids_of_training(kind, tokenizers, text, target):
    own, plain = tokenizers[kind]
    (expected,) = encode_pairs(own, [text], [target], 24)
    found = plain([text], [target], truncation=True)  # as one pair, transformers takes an empty target for none
    assert found["input_ids"] == [expected] and found.keys() == {"input_ids", "attention_mask"}


@pytest.mark.embedded
@pytest.mark.parametrize("name", ["embedded:e5-small", "embedded:gemma-3-270m"])
def test_real_tokenizers_export_exactly(name, tmp_path):
    from transformers import AutoConfig

    from product_relevance.models.loading import packaged_bases

    try:
        config = AutoConfig.from_pretrained(packaged_bases.resolve_base(name))
    except ValueError as error:
        pytest.skip(str(error))
    own, plain = copied(name, tmp_path, config, 32)
    rows = rows_of("dev_QC.txt") + rows_of("dev_QI.txt")
    texts = [row["origin_query"] for row in rows]
    targets = [row.get("category_path") or row["item_title"] for row in rows]
    expected = encode_pairs(own, texts, targets, 32)
    assert plain(texts, targets, truncation=True)["input_ids"] == expected
    alone = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))  # as the example of a graph's folder
    alone.encode_special_tokens = True
    alone.enable_truncation(32)
    assert [row.ids for row in alone.encode_batch(list(zip(texts, targets, strict=True)))] == expected
