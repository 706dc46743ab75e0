"""Bases that have a head already: one label is taken over with its ranking, other shapes are replaced and logged."""

import logging
import re

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

import train_relevance
from product_relevance import RelevanceEnsemble
from product_relevance.models.batching import pad_rows
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.heads.classifier import LABELS
from product_relevance.models.modeling import load_classifier, load_tokenizer
from product_relevance.models.pair_encoder import encode_pairs
from tests.conftest import HEADS, ROOT, rows_of, save_tokenizer, tiny_config, write_rows

GTE = pytest.mark.skipif(not hasattr(transformers, "GteConfig"), reason="transformers has no GTE before 5.19")
KINDS = ["bert", "xlm-roberta", "deberta-v2", "modernbert", "qwen3", "gemma3_text", pytest.param("gte", marks=GTE)]
ROWS = rows_of("train_QC.txt")[:40]
QUERIES, TARGETS = [row["origin_query"] for row in ROWS], [row["category_path"] for row in ROWS]


def save_with_head(folder, kind, labels, auto=transformers.AutoModelForSequenceClassification):
    """Save a tiny random base with a head of its own, as an NLI model or a reranker has."""
    torch.manual_seed(0)
    config = tiny_config(kind)
    config.num_labels = labels
    model = auto.from_config(config).eval()
    for name, weight in model.named_parameters():
        if "classifier" in name or name.startswith("score"):
            torch.nn.init.normal_(weight, std=0.5)
    model.save_pretrained(folder)
    save_tokenizer(folder, decoder=kind in ("qwen3", "gemma3_text"))
    return model


def loaded(folder, **options):
    tokenizer = load_tokenizer(str(folder))
    return tokenizer, load_classifier(str(folder), tokenizer, ClassifierOptions(**options)).eval()


def batch_of(tokenizer, labels=None):
    batch = pad_rows(encode_pairs(tokenizer, QUERIES, TARGETS, 64), tokenizer.pad_token_id)
    return batch if labels is None else batch | {"labels": labels}


@pytest.mark.parametrize("kind", KINDS)
def test_one_logit_becomes_two_with_the_same_ranking_before_any_training(kind, tmp_path, caplog):
    theirs = save_with_head(tmp_path, kind, 1)
    with caplog.at_level(logging.INFO, "product_relevance"):
        tokenizer, ours = loaded(tmp_path)
    with torch.no_grad():
        s = theirs(**batch_of(tokenizer)).logits[:, 0]
        logits = ours(**batch_of(tokenizer)).logits
    assert np.ptp(s) > 1e-4 and torch.equal(logits[:, 0], torch.zeros(len(s)))
    assert torch.allclose(logits.softmax(-1)[:, 1], s.sigmoid(), atol=1e-6)
    assert "head of one label is taken over" in caplog.text and ours.config.id2label == LABELS


def test_a_head_that_is_taken_over_can_be_trained_on(tmp_path):
    save_with_head(tmp_path, "xlm-roberta", 1)
    tokenizer, ours = loaded(tmp_path)
    batch = batch_of(tokenizer, torch.tensor([row["label"] for row in ROWS]))
    optimizer = torch.optim.Adam(ours.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        losses.append(ours(**batch).loss)
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "qwen3"])
def test_a_head_of_three_labels_is_replaced_and_logged(kind, tmp_path, caplog):
    save_with_head(tmp_path, kind, 3)
    with caplog.at_level(logging.INFO, "product_relevance"):
        tokenizer, ours = loaded(tmp_path)
    assert "its head of 3 labels (LABEL_0, LABEL_1, LABEL_2) is replaced by a new one of two" in caplog.text
    found = ours(**batch_of(tokenizer, torch.zeros(len(ROWS), dtype=torch.long)))
    assert found.logits.shape == (len(ROWS), 2) and torch.isfinite(found.loss)


def test_a_head_of_two_labels_stays_and_its_labels_are_logged(tmp_path, caplog):
    theirs = save_with_head(tmp_path, "bert", 2)
    with caplog.at_level(logging.INFO, "product_relevance"):
        tokenizer, ours = loaded(tmp_path)
    assert "two labels (LABEL_0, LABEL_1) is taken over: the second one is read as relevant" in caplog.text
    with torch.no_grad():
        expected = theirs(**batch_of(tokenizer)).logits
        assert torch.allclose(ours(**batch_of(tokenizer)).logits, expected, atol=1e-6)


def test_a_head_on_tokens_is_replaced(tmp_path, caplog):
    save_with_head(tmp_path, "bert", 2, transformers.AutoModelForTokenClassification)
    with caplog.at_level(logging.INFO, "product_relevance"):
        loaded(tmp_path)
    assert "its head of 2 labels (LABEL_0, LABEL_1) is replaced" in caplog.text


def test_a_head_on_answers_in_a_text_is_left_out(tmp_path):
    save_with_head(tmp_path, "bert", 2, transformers.AutoModelForQuestionAnswering)
    assert loaded(tmp_path)[1].classifier.out_features == 2


@pytest.mark.parametrize("pooling", ["mean", "pair"])
def test_a_pooled_head_leaves_the_bases_own_out_and_says_so(pooling, tmp_path, caplog):
    save_with_head(tmp_path, "bert", 1)
    with caplog.at_level(logging.INFO, "product_relevance"):
        tokenizer, ours = loaded(tmp_path, pooling=pooling)
    assert "its own head is left out" in caplog.text
    assert ours(**batch_of(tokenizer)).logits.shape == (len(ROWS), 2)


def test_a_base_without_a_head_says_nothing_of_one(base_of, caplog):
    with caplog.at_level(logging.INFO, "product_relevance"):
        loaded(base_of("bert"))
    assert "head" not in caplog.text


def test_a_config_of_regression_trains_on_classes(tmp_path):
    save_with_head(tmp_path, "bert", 1)
    tokenizer, ours = loaded(tmp_path)
    assert ours.config.problem_type is None and ours.num_labels == 2
    loss = ours(**batch_of(tokenizer, torch.ones(len(ROWS), dtype=torch.long))).loss
    with torch.no_grad():
        logits = ours(**batch_of(tokenizer)).logits
    assert torch.allclose(loss, -logits.log_softmax(-1)[:, 1].mean(), atol=1e-6)


def answering(folder):
    """A tiny Qwen3 whose tokenizer has the answers and the control tokens of Qwen3-Reranker's prompt."""
    save_tokenizer(folder, decoder=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["yes", "no", "<|im_start|>", "<|im_end|>", "<think>", "</think>"])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.Qwen3Config(**tiny_config("qwen3").to_dict() | {"vocab_size": len(tokenizer)} | HEADS)
    config.initializer_range, config.max_position_embeddings = 0.2, 2048
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


RECIPES = {
    "bge-reranker-v2-m3-qc": lambda folder: save_with_head(folder, "xlm-roberta", 1),
    "gte-multilingual-reranker-qc": lambda folder: save_with_head(folder, "gte", 1),
    "qwen3-reranker-0.6b-qc": answering,
    "qwen3-reranker-4b-qc": answering,
}


@pytest.mark.parametrize("recipe", [pytest.param(r, marks=GTE if r.startswith("gte") else ()) for r in RECIPES])
def test_the_recipes_train_on_tiny_bases_of_their_architecture(recipe, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    RECIPES[recipe](base)
    file = write_rows(tmp_path / "train_QC.txt", rows_of("train_QC.txt")[:96])
    flags = "--use_cpu true --bf16 false --max_steps 2 --eval_strategy no --save_strategy no --fold 0 --lora_r 2 "
    flags += "--load_best_model_at_end false --language_fix none --max_length 700"[: None if "qwen" in recipe else -17]
    names = ["--model_name_or_path", str(base), "--train_file", str(file), "--output_dir", str(tmp_path / "run")]
    train_relevance.main([str(ROOT / f"recipes/{recipe}.yaml"), *flags.split(), *names])
    scores = RelevanceEnsemble.from_pretrained(tmp_path / "run", device="cpu").predict(
        list(zip(QUERIES, TARGETS, strict=True))
    )
    assert np.isfinite(scores).all() and np.ptp(scores) > 0


def original_names(state: dict) -> dict:
    """The weights of a GTE classifier as its first repositories hold them: two groups of matrices lie in one each."""
    found = {}
    for name, value in state.items():
        name = name.replace("gte.layers.", "new.encoder.layer.").replace("gte.", "new.")
        name = name.replace("post_attention_layernorm", "attn_ln").replace("post_mlp_layernorm", "mlp_ln")
        name = re.sub(r"self_attn\.[qkv]_proj", "attention.qkv_proj", name).replace("self_attn.o", "attention.o")
        name = re.sub(r"mlp\.(up|gate)_proj", "mlp.up_gate_proj", name)
        found.setdefault(name, []).append(value)
    return {name: torch.cat(parts) for name, parts in found.items()}


@GTE
def test_gte_loads_from_the_names_that_its_weights_have_in_the_repositories(tmp_path):
    theirs = save_with_head(tmp_path, "gte", 1)
    state = theirs.state_dict()
    joined = ("q_proj", "k_proj", "v_proj", "up_proj", "gate_proj")  # in this order
    order = sorted(state, key=lambda name: [part not in name for part in joined])
    save_file(original_names({name: state[name] for name in order}), tmp_path / "model.safetensors", {"format": "pt"})
    tokenizer, ours = loaded(tmp_path)
    with torch.no_grad():
        expected = theirs(**batch_of(tokenizer)).logits[:, 0]
        assert torch.allclose(ours(**batch_of(tokenizer)).logits[:, 1], expected, atol=1e-6)
