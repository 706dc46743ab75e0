"""A kernel solves its regression, forgets a query when it judges it, and reads each side as a text of its own."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import roc_auc_score

from product_relevance.models import modeling
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.heads.kernel import Kernel, KernelOptions, draw_queries, fit_kernel
from product_relevance.models.heads.sides import encode_sides, split_sides
from product_relevance.models.pair_encoder import encode_pairs

PAIRS = [("red shoes", "shoes,men"), ("red shoes", "kitchen"), ("usb cable", "electronics,cables"), ("a", "b")]


def made(rows: int = 90, queries: int = 30, seed: int = 0):
    """Vectors (rows, 2, 6), labels that a product of both sides decides, and the query of each row."""
    rng = np.random.default_rng(seed)
    sides = rng.normal(size=(rows, 2, 6)).astype(np.float32)
    labels = (sides[:, 0, 0] * sides[:, 1, 0] > 0).astype(int)
    return sides, labels, rng.integers(0, queries, rows)


def unit(sides: np.ndarray, centre: np.ndarray) -> np.ndarray:
    moved = sides - centre
    return (moved / np.linalg.norm(moved, axis=-1, keepdims=True)).reshape(len(sides), -1)


def scores_of(kernel: Kernel, sides: np.ndarray) -> np.ndarray:
    """What the regression says, before it becomes a logit."""
    _, _, slope, intercept = kernel.numbers.tolist()
    return (kernel.predict_logits(sides)[:, 1] - intercept) / slope


@pytest.mark.parametrize("weighted", [False, True])
def test_its_scores_are_those_of_scikit_learn(weighted):
    sides, labels, queries = made()
    weights = np.linspace(0.2, 3, 60) if weighted else None
    kernel = fit_kernel(sides[:60], labels[:60], queries[:60], KernelOptions(1.5, 0.3), weights).kernel
    centre, mean = sides[:60].mean(0), np.average(labels[:60], weights=weights)
    # exp(s (cos + cos - 2)) of unit vectors is a Gaussian of their distance
    reference = KernelRidge(alpha=0.3, kernel=RBF((1 / 1.5) ** 0.5))
    reference.fit(unit(sides[:60], centre), labels[:60] - mean, weights)
    expected = mean + reference.predict(unit(sides[60:], centre))
    np.testing.assert_allclose(scores_of(kernel, sides[60:]), expected, atol=1e-5)


@given(st.integers(0, 20), st.integers(4, 40))
def test_a_pair_that_it_remembers_is_judged_by_the_labels_of_other_queries(seed, queries):
    sides, labels, groups = made(60, queries, seed)
    fitted = fit_kernel(sides, labels, groups, KernelOptions(2.0, 0.1))
    _, mean, slope, intercept = fitted.kernel.numbers.tolist()
    support = fitted.kernel.support.flatten(1).double().numpy()
    query = groups[seed]
    known, own = groups != query, groups == query
    alike = np.exp(2.0 * (support @ support.T - 2))
    solved = np.linalg.solve(alike[np.ix_(known, known)] + 0.1 * np.eye(known.sum()), labels[known] - mean)
    logits = slope * (mean + alike[np.ix_(own, known)] @ solved) + intercept
    np.testing.assert_allclose(fitted.left_out[own], 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_its_own_labels_do_not_flatter_it():
    sides, _, queries = made(200, 200)
    labels = np.random.default_rng(1).integers(0, 2, 200)  # nothing can be learned
    fitted = fit_kernel(sides, labels, queries, KernelOptions())
    assert roc_auc_score(labels, fitted.kernel.predict_logits(sides)[:, 1]) > 0.9
    assert roc_auc_score(labels, fitted.left_out) < 0.6


def test_where_nothing_was_learned_the_order_stays():
    sides, _, queries = made(80, 80)
    labels = np.random.default_rng(3).integers(0, 2, 80)
    logits = fit_kernel(sides, labels, queries, KernelOptions()).kernel.predict_logits(sides)[:, 1]
    assert len(set(logits.tolist())) == 80


def test_a_pair_without_weight_counts_for_nothing():
    sides, labels, queries = made()
    weights = np.ones(90)
    weights[:20] = 0
    all_of_them = fit_kernel(sides, labels, queries, KernelOptions(), weights)
    without = fit_kernel(sides[20:], labels[20:], queries[20:], KernelOptions())
    np.testing.assert_array_equal(all_of_them.kernel.predict_logits(sides), without.kernel.predict_logits(sides))
    assert all_of_them.rows.tolist() == list(range(20, 90))


def test_no_pair_at_all_is_refused():
    with pytest.raises(ValueError, match="found no pair to fit a kernel to"):
        fit_kernel(*made(), KernelOptions(), np.zeros(90))


@given(st.integers(0, 100), st.integers(1, 100))
def test_of_more_pairs_whole_queries_are_drawn(seed, most):
    groups = np.random.default_rng(seed).integers(0, 20, 90)
    kept = draw_queries(groups, np.arange(90), KernelOptions(rows=most, seed=seed))
    assert len(kept) <= most
    assert not set(groups[kept]) & set(np.delete(groups, kept))


def test_one_pair_scores_as_among_others():
    sides, labels, queries = made()
    kernel = fit_kernel(sides, labels, queries, KernelOptions()).kernel
    alone = np.concatenate([kernel.predict_logits(sides[i : i + 1]) for i in range(90)])
    np.testing.assert_allclose(kernel.predict_logits(sides), alone, atol=1e-5)


def test_a_saved_kernel_is_the_same(tmp_path):
    sides, labels, queries = made()
    kernel = fit_kernel(sides, labels, queries, KernelOptions()).kernel
    kernel.save(tmp_path / "model.safetensors")
    loaded = Kernel.load(tmp_path / "model.safetensors", 6)
    np.testing.assert_array_equal(kernel.predict_logits(sides), loaded.predict_logits(sides))


@pytest.mark.parametrize("change", ["width", "missing", "infinite"])
def test_a_file_of_something_else_is_refused(change, tmp_path):
    path = tmp_path / "model.safetensors"
    fit_kernel(*made(), KernelOptions()).kernel.save(path)
    tensors = load_file(path)
    if change == "missing":
        tensors.pop("support")
    elif change == "infinite":
        tensors["weights"][3] = torch.inf
    save_file(tensors, path)
    with pytest.raises(
        ValueError, match=r"model\.safetensors: (found tensors .* expected|weights has 1 of 90 values)"
    ):
        Kernel.load(path, 7 if change == "width" else 6)


@pytest.mark.parametrize(
    "ids, query, target",
    [
        ([0, 5, 6, 2, 2, 7, 2], [0, 5, 6, 2], [0, 7, 2]),  # XLM-R
        ([1, 5, 2, 7, 8, 2], [1, 5, 2], [1, 7, 8, 2]),  # BERT
    ],
)
def test_a_side_is_what_the_tokenizer_makes_of_one_text(ids, query, target):
    assert split_sides(ids, 2) == (query, target)


def test_a_pair_without_separators_is_refused():
    with pytest.raises(ValueError, match="found 1 separator tokens in a pair, expected 2 or more"):
        split_sides([0, 5, 2], 2)


@pytest.mark.parametrize("kind", ["xlm-roberta", "bert", "modernbert"])
def test_the_vector_of_a_side_knows_nothing_of_the_other(kind, base_of):
    tokenizer = modeling.load_tokenizer(str(base_of(kind)))
    model = modeling.load_classifier(str(base_of(kind)), tokenizer, ClassifierOptions(pooling="sides"))
    ids = encode_pairs(tokenizer, *zip(*PAIRS, strict=True), 64)
    found = encode_sides(model, ids, tokenizer.pad_token_id)
    assert found.shape == (4, 2, 32)
    np.testing.assert_array_equal(found[0, 0], found[1, 0])  # one query
    alone = encode_sides(model, ids[:1], tokenizer.pad_token_id)
    np.testing.assert_allclose(found[0], alone[0], atol=1e-5)


def test_a_decoder_is_refused(base_of):
    tokenizer = modeling.load_tokenizer(str(base_of("qwen3")))
    with pytest.raises(ValueError, match="--pooling sides needs an encoder whose pairs hold a separator"):
        modeling.load_classifier(str(base_of("qwen3")), tokenizer, ClassifierOptions(pooling="sides"))
