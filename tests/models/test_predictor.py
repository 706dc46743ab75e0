"""Scoring: what a shared prefix, a batch or a full memory changes in what is computed, and that scores stay."""

import logging
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import transformers as t
from torch import nn

from product_relevance.models import prefix_cache
from product_relevance.models.adapters import add_adapter, merge_in_place
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.batching import pad_rows
from product_relevance.models.heads.classifier import NUM_LABELS
from product_relevance.models.heads.pooling import PooledClassifier
from product_relevance.models.heads.prompt_tokens import Answers
from product_relevance.models.heads.yes_no import YesNoModel
from product_relevance.models.predictor import ForwardLimits, fitting_tokens, predict_logits, score_in_batches
from tests.conftest import GROUPED, IDS, SIZES, tiny_config

WINDOWED = {"gemma2", "gemma3_text", "mistral"}
PAD = 1


def config_of(kind: str, window: int = 16):
    """Config of a tiny decoder with weights large enough for its scores to tell texts apart."""
    more = {"gemma": t.GemmaConfig, "llama": t.LlamaConfig, "mistral": t.MistralConfig}
    config = more[kind](**(SIZES | GROUPED | IDS)) if kind in more else tiny_config(kind)
    config.initializer_range, config.num_labels = 0.15, NUM_LABELS
    if kind in WINDOWED:
        config.sliding_window = window
    return config


def made(kind: str, head: str = "classifier", lora: bool = False, window: int = 16, **options):
    """A random model, with an adapter that changes it if `lora`."""
    torch.manual_seed(0)
    config = config_of(kind, window)
    if head == "classifier":
        model = t.AutoModelForSequenceClassification.from_config(config)
    else:
        model = YesNoModel(t.AutoModelForCausalLM.from_config(config), Answers(5, 6, []))
    if lora:
        model = add_adapter(model, ModelArguments("x", lora_r=4, **options))
        for name, value in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(value, std=0.3)
    return model.eval()


def catalogue(queries: int = 4, targets: int = 6, longest: int = 24, seed: int = 0) -> list[list[int]]:
    """Rows as pairs give them: queries of 4 to `longest` tokens, targets of 1 to 12, a row or two alone, shuffled."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(queries):
        query = [0, *rng.integers(10, 400, rng.integers(4, longest))]
        rows += [[*query, *rng.integers(10, 400, rng.integers(1, 12))] for _ in range(targets)]
    rows += [[4, *rng.integers(10, 400, 40)], [7]]
    return [[int(token) for token in rows[i]] for i in rng.permutation(len(rows))]


def alone(model, rows: list[list[int]]) -> np.ndarray:
    """Logits of each row by itself, no batch, no padding, no cache."""
    with torch.inference_mode():
        return np.concatenate([model(**pad_rows([row], PAD)).logits.float().numpy() for row in rows])


@contextmanager
def counted(model):
    """Count the tokens that the embedding sees, padding left out."""
    seen = []
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    hook = inner.get_input_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    yield lambda: sum(int((ids != PAD).sum()) for ids in seen)
    hook.remove()


@pytest.mark.parametrize("lora", [False, True], ids=["base", "lora"])
@pytest.mark.parametrize("head", ["classifier", "yes_no"])
@pytest.mark.parametrize("kind", sorted(prefix_cache.DECODERS))
def test_a_shared_prefix_leaves_scores_as_they_are(kind, head, lora):
    model, rows = made(kind, head, lora), catalogue()
    expected = alone(model, rows)
    with counted(model) as tokens:
        found = predict_logits(model, rows, PAD, max_tokens=400)
    assert tokens() < 0.75 * sum(map(len, rows))
    assert np.ptp(expected, axis=0).max() > 0.1  # the rows do differ
    assert np.abs(found - expected).max() < 1e-5 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("window", [2, 16, 64])
@pytest.mark.parametrize(
    ("kind", "attention"),
    [("gemma2", "eager"), ("gemma3_text", "eager"), ("gemma3_text", "sdpa"), ("mistral", "sdpa")],
)
def test_a_sliding_window_shorter_or_longer_than_the_texts_sees_the_same_tokens(kind, window, attention):
    model, rows = made(kind, window=window), catalogue(longest=40)
    model.set_attn_implementation(attention)
    expected = alone(model, rows)
    found = predict_logits(model, rows, PAD)
    assert np.abs(found - expected).max() < 1e-5 * max(1, np.abs(expected).max())


def test_the_window_does_change_scores():
    rows = catalogue(longest=40)
    short, long = (alone(made("gemma2", window=window), rows) for window in (5, 64))
    assert np.abs(short - long).max() > 1e-2


@pytest.mark.parametrize("kind", ["gemma2", "gemma3_text", "qwen2", "qwen3"])
def test_scores_in_bfloat16_move_no_further_than_by_rounding(kind):
    model, rows = made(kind), catalogue()
    exact = alone(model, rows)
    model = model.to(torch.bfloat16)
    plain, found = alone(model, rows), predict_logits(model, rows, PAD)
    assert np.abs(found - plain).max() <= 0.05 * np.ptp(exact)
    assert np.abs(found - exact).max() <= 2 * np.abs(plain - exact).max()


def test_each_prefix_is_forwarded_once_however_many_batches_its_rows_make():
    query, model = [0, *range(20, 50)], made("qwen3")
    rows = [[*query, 60 + i, 9] for i in range(64)]
    with counted(model) as tokens:
        predict_logits(model, rows, PAD, max_tokens=150)
    assert tokens() == len(query) + 2 * len(rows)


def test_few_tokens_to_save_are_not_saved():
    model, rows = made("qwen3"), [[0, 20 + i, 30 + i, 40, 50, 60, 70] for i in range(8)]
    rows += [[0, 5, 6, 7, 8, 10 + i] + [9] * 80 for i in range(2)]
    with counted(model) as tokens:
        predict_logits(model, rows, PAD)
    assert tokens() == sum(map(len, rows))


def encoder():
    torch.manual_seed(0)
    return t.AutoModelForSequenceClassification.from_config(tiny_config("xlm-roberta")).eval()


def pooled():
    torch.manual_seed(0)
    return PooledClassifier(t.AutoModel.from_config(config_of("gemma3_text")), "mean", 2).eval()


def two_way():
    config = config_of("gemma3_text")
    config.use_bidirectional_attention = True
    torch.manual_seed(0)
    return t.AutoModelForSequenceClassification.from_config(config).eval()


def unknown():
    torch.manual_seed(0)
    config = t.GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, pad_token_id=PAD, num_labels=NUM_LABELS)
    return t.AutoModelForSequenceClassification.from_config(config).eval()


@pytest.mark.parametrize("make", [encoder, pooled, two_way, unknown])
def test_other_models_forward_every_row_whole(make):
    model, rows = make(), catalogue()
    with counted(model) as tokens:
        found = predict_logits(model, rows, PAD)
    assert tokens() == sum(map(len, rows))
    assert np.abs(found - alone(model, rows)).max() < 1e-4


@contextmanager
def memory_for(model, tokens: int):
    """Let forwards of more tokens, cached ones counted, fail as a full card does."""

    def check(_module, _args, options):
        if options["attention_mask"].numel() > tokens:
            raise torch.cuda.OutOfMemoryError("no memory left")

    hook = model.register_forward_pre_hook(check, with_kwargs=True)
    yield
    hook.remove()


@pytest.mark.parametrize("kind", ["qwen3", "gemma3_text"])
def test_full_memory_halves_batches_and_their_prefixes_until_they_fit(kind, caplog):
    model, rows = made(kind), catalogue()
    expected = alone(model, rows)
    with memory_for(model, 100), caplog.at_level(logging.WARNING):
        found = predict_logits(model, rows, PAD)
    assert "out of memory" in caplog.text
    assert np.abs(found - expected).max() < 1e-5 * max(1, np.abs(expected).max())
    with memory_for(model, 3), pytest.raises(torch.cuda.OutOfMemoryError):
        predict_logits(model, rows, PAD)


def test_a_row_that_fits_alone_is_scored_though_its_blocks_prefixes_do_not_fit():
    model = made("qwen3")
    rows = [[0, *range(20 + 20 * (i % 4), 39 + 20 * (i % 4)), 150 + i, 9] for i in range(19)]
    expected = alone(model, rows)
    with memory_for(model, 70):
        assert np.abs(predict_logits(model, rows, PAD) - expected).max() < 1e-5


def test_what_did_not_fit_once_is_not_tried_again(caplog):
    model, rows = encoder(), [[0, *range(10, 28), 30 + i, 9] for i in range(200)]
    with memory_for(model, 200), caplog.at_level(logging.WARNING):
        predict_logits(model, rows, PAD, max_tokens=400)  # 19 rows of 21 tokens a forward
    assert len([record for record in caplog.records if "out of memory" in record.message]) == 1


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("head", ["classifier", "yes_no"])
def test_a_merged_adapter_gives_the_scores_of_one_beside_the_base(head, dora):
    model, rows = made("qwen3", head, lora=True, use_dora=dora), catalogue(targets=2)
    if head == "classifier":
        nn.init.normal_(model.base_model.model.score.modules_to_save["default"].weight, std=0.5)
    apart = alone(model, rows)
    merge_in_place(model)
    assert np.abs(predict_logits(model, rows, PAD) - apart).max() < 1e-4 * max(1, np.abs(apart).max())
    with model.disable_adapter():  # takes it out again
        assert np.abs(alone(model, rows) - apart).max() > 1e-2


def test_a_16_bit_base_is_merged_in_float32_and_rounded_once():
    model = made("qwen3", lora=True)
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    layer.base_layer.to(torch.bfloat16)
    exact = layer.base_layer.weight.float() + layer.get_delta_weight("default")
    merge_in_place(model)
    assert layer.merged and torch.equal(layer.base_layer.weight, exact.to(torch.bfloat16))


@pytest.mark.parametrize("make", [lambda: made("gemma3_text"), lambda: made("qwen3", "yes_no", True), encoder, pooled])
def test_less_free_memory_means_smaller_batches_down_to_some_tokens(make):
    model = make()
    sizes = [fitting_tokens(model, free) for free in (0, 10**7, 2 * 10**7, 10**12)]
    assert sizes[0] == 256 and sizes[-1] == 16384
    assert sizes[1] < sizes[2] <= 2 * sizes[1] + 1


def test_identical_rows_are_forwarded_once_and_order_is_restored():
    seen = []

    def forward(rows):
        seen.extend(rows)
        return np.array([[float(row[0])] for row in rows])

    ids = [[3, 1], [2], [3, 1], [5, 5, 5], [2]]
    assert score_in_batches(forward, ids, (1,), ForwardLimits("cpu")).ravel().tolist() == [3, 2, 3, 5, 2]
    assert seen == [[5, 5, 5], [3, 1], [2]]


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        score_in_batches(lambda rows: np.full((len(rows), 1), np.nan), [[1], [2]], (1,), ForwardLimits("cpu"))
