"""Rows side by side, without padding: the scores of padded rows, also across Gemma 3's sliding windows."""

import numpy as np
import pytest

from product_relevance.models import predictor
from product_relevance.models.adapters import add_adapter
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.heads.prompt_tokens import use_prompt
from product_relevance.models.modeling import load_classifier, load_tokenizer
from product_relevance.models.packed_rows import pack_rows
from tests.helpers.published import PAIRS, tiny_run
from tests.helpers.tiny_prompt import PROMPT

KINDS = [("qwen2", "sdpa"), ("qwen3", "sdpa"), ("gemma2", "eager"), ("gemma3_text", "sdpa"), ("gemma3_text", "eager")]
PAD = 1


def rows_of(count: int = 40, longest: int = 70) -> list[list[int]]:
    """Rows of random tokens that share no prefix, one token to far more than a sliding window of 16."""
    rng = np.random.default_rng(0)
    return [rng.integers(10, 300, length).tolist() for length in [1, 2, *rng.integers(3, longest, count)]]


def model_of(base, attention: str, head: str):
    """A base in float32 with a head, and a random adapter on it."""
    tokenizer = load_tokenizer(str(base))
    answers = use_prompt(tokenizer, PROMPT, "QC", 96) if head == "yes_no" else None
    model = load_classifier(str(base), tokenizer, ClassifierOptions(attn_implementation=attention, answers=answers))
    model = add_adapter(model, ModelArguments(str(base), lora_r=4, init_lora_weights="gaussian"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.05)
    return model.eval()


@pytest.mark.parametrize("head", ["auto", "yes_no"])
@pytest.mark.parametrize(("kind", "attention"), KINDS)
def test_packed_rows_score_as_padded_ones(kind, attention, head, base_of):
    model, rows = model_of(base_of(kind), attention, head), rows_of()
    padded = predictor.predict_logits(model, rows, PAD, max_tokens=300)
    packed = predictor.predict_packed(model, rows, PAD, max_tokens=300)
    assert np.abs(packed - padded).max() < 1e-5 * max(1, np.abs(padded).max())
    assert np.abs(padded - padded[:1]).max() > 1e-3
    alone = predictor.predict_packed(model, rows[5:6], PAD)
    assert np.abs(alone - padded[5]).max() < 1e-5 * max(1, np.abs(padded).max())


def test_a_packed_row_holds_every_token_once_and_no_pad_token():
    packed = pack_rows([[5, 6, 7], [8], [9, 9]])
    assert packed["input_ids"].tolist() == [[5, 6, 7, 8, 9, 9]]
    assert packed["position_ids"].tolist() == [[0, 1, 2, 0, 0, 1]]
    assert packed["ends"].tolist() == [2, 3, 5]


def test_shared_prefixes_are_still_forwarded_once(base_of):
    model, start = model_of(base_of("gemma3_text"), "sdpa", "auto"), list(range(20, 60))
    rows = [start + row for row in rows_of(12, 30)]
    seen = []
    model.get_base_model().model.embed_tokens.register_forward_hook(lambda _m, ids, _o: seen.append(ids[0].numel()))
    packed = predictor.predict_packed(model, rows, PAD)
    assert sum(seen) < 0.6 * sum(map(len, rows))
    assert np.abs(packed - predictor.predict_logits(model, rows, PAD)).max() < 1e-5


def test_an_encoder_and_folds_with_shared_layers_refuse_packed_rows(base_of, tmp_path):
    from product_relevance import RelevanceEnsemble
    from product_relevance.ensemble.loading_arguments import LoadingArguments

    packed = LoadingArguments(attention="packed")
    with pytest.raises(ValueError, match="attention packed: found a xlm-roberta, expected a decoder"):
        RelevanceEnsemble.from_pretrained(tiny_run(base_of("xlm-roberta"), tmp_path), device="cpu", loading=packed)
    (tmp_path / "layers").mkdir()
    run = tiny_run(base_of("qwen3"), tmp_path / "layers", "--lora_layers 1")
    with pytest.raises(ValueError, match="attention packed: the folds of this run share their lowest layers"):
        RelevanceEnsemble.from_pretrained(run, device="cpu", loading=packed)
    with pytest.raises(ValueError, match="attention 'flat': expected one of padded, packed"):
        LoadingArguments(attention="flat")


def test_an_ensemble_scores_packed_rows_as_padded_ones(base_of, tmp_path):
    from product_relevance import RelevanceEnsemble
    from product_relevance.ensemble.loading_arguments import LoadingArguments

    run = tiny_run(base_of("gemma3_text"), tmp_path)
    padded, packed = (
        RelevanceEnsemble.from_pretrained(run, device="cpu", loading=LoadingArguments(attention=name))
        for name in ("padded", "packed")
    )
    assert np.allclose(packed.predict_folds(PAIRS), padded.predict_folds(PAIRS), atol=1e-6)
