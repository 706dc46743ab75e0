"""One fold after the other merged into the base: scores as beside it, and the base's own bytes afterwards."""

import numpy as np
import pytest
import torch

from product_relevance import RelevanceEnsemble
from product_relevance.ensemble import fold_models
from product_relevance.ensemble.fold_models import FoldModels
from product_relevance.models import adapters
from tests.ensemble.test_shared_layers import three_folds, tokens_of
from tests.helpers.published import PAIRS, tiny_run

CASES = [("qwen3", {}), ("xlm-roberta", {}), ("gemma3_text", {"use_rslora": True}), ("bert", {"use_dora": True})]


@pytest.fixture(scope="module")
def run(base_of, tmp_path_factory):
    return tiny_run(base_of("gemma3_text"), tmp_path_factory.mktemp("merged"))


def bytes_of(model) -> dict[str, bytes]:
    """The bytes of every tensor of a model."""
    return {name: value.view(torch.uint8).numpy().tobytes() for name, value in model.state_dict().items()}


def folds_of(base, dtype=torch.float32, **options) -> tuple[FoldModels, list[list[int]], int]:
    """Three folds on one base in a dtype, and tokens for them."""
    model, tokenizer = three_folds(base, **options)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.mul_(0.2 if "lora_" in name else 1)  # updates of the size of the base's weights, not far beyond
    if dtype is not torch.float32:
        model.to(dtype)
    return FoldModels(model, dict.fromkeys("abc"), whole=False), tokens_of(tokenizer), tokenizer.pad_token_id


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_merged_folds_score_as_adapters_beside_the_base(kind, options, base_of):
    folds, *rows = folds_of(base_of(kind), **options)
    beside = folds.predict_shares(*rows)
    folds.merge_from = 0
    assert np.allclose(folds.predict_shares(*rows), beside, atol=1e-6)
    assert np.abs(beside[:, 0] - beside[:, 1]).max() > 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_the_base_has_its_own_bytes_after_all_folds_twice(kind, options, dtype, base_of, monkeypatch):
    folds, *rows = folds_of(base_of(kind), dtype, **options)
    before, seen = bytes_of(folds.model), []
    real = fold_models.predict_logits
    changed = lambda model: sum(bytes_of(model)[name] != value for name, value in before.items())  # noqa: E731

    def watched(model, *arguments, **keys):
        seen.append(changed(model))
        return real(model, *arguments, **keys)

    monkeypatch.setattr(fold_models, "predict_logits", watched)
    folds.merge_from = 0
    first, second = folds.predict_shares(*rows), folds.predict_shares(*rows)
    assert len(seen) == 6 and all(seen)  # the base was written to, or rather what stood in its place
    assert changed(folds.model) == 0
    assert np.array_equal(first, second)


def test_sixteen_bits_on_a_cpu_are_not_rounded_once_more(base_of):
    assert folds_of(base_of("qwen3"))[0].merge_from == fold_models.MERGE_FROM
    assert folds_of(base_of("qwen3"), torch.bfloat16)[0].merge_from == float("inf")


def test_an_interruption_leaves_the_base_as_it_was(base_of, monkeypatch):
    folds, *rows = folds_of(base_of("qwen3"))
    before, beside = bytes_of(folds.model), folds.predict_shares(*rows)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(fold_models, "predict_logits", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        folds.merge_from = 0
        folds.predict_shares(*rows)
    assert bytes_of(folds.model) == before
    folds.merge_from = 10**9
    assert np.array_equal(folds.predict_shares(*rows), beside)


def test_few_tokens_too_little_memory_and_a_merged_adapter_merge_nothing(base_of, monkeypatch):
    folds, ids, pad_id = folds_of(base_of("qwen3"))
    merges = []
    monkeypatch.setattr(adapters, "_merge", lambda *_: merges.append(1))
    assert sum(map(len, ids)) < folds.merge_from
    folds.predict_shares(ids, pad_id)
    folds.merge_from = 0
    with monkeypatch.context() as full:
        full.setattr(fold_models.memory, "free_memory", lambda _: 2 * adapters.merged_size(folds.model) - 1)
        folds.predict_shares(ids, pad_id)
    assert not merges
    folds.predict_shares(ids, pad_id)
    assert merges
    for module in adapters._adapted(folds.model):
        module.merged_adapters.append("a")
    assert adapters.merged_size(folds.model) == 0


def test_an_ensemble_merges_its_folds_where_many_tokens_are_scored(run):
    ensemble = RelevanceEnsemble.from_pretrained(run, device="cpu")
    beside = ensemble.predict_folds(PAIRS)
    before = bytes_of(ensemble.model)
    many = [(f"{query} {i}", target) for i in range(12) for query, target in PAIRS]
    assert ensemble.predict_folds(PAIRS + many).shape == (len(PAIRS) + len(many), 3)
    assert np.allclose(ensemble.predict_folds(PAIRS + many)[: len(PAIRS)], beside, atol=1e-6)
    assert bytes_of(ensemble.model) == before
