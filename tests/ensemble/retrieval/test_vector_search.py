"""The exact search is the whole matrix product, the index finds nearly the same, and no damaged index is used."""

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_relevance.ensemble.retrieval import vector_search
from product_relevance.ensemble.retrieval.vector_search import open_index, search_exactly


def unit_vectors(rows: int, dimensions: int = 24, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, dimensions), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@given(st.integers(1, 40), st.integers(0, 9), st.integers(1, 50), st.integers(1, 60))
def test_the_exact_search_is_the_whole_matrix_product(rows, asked, count, block):
    # whole numbers: their products are exact in any order of summing, and many are equal
    numbers = np.random.default_rng(rows)
    vectors = numbers.integers(-2, 3, (rows, 6)).astype(np.float32)
    queries = numbers.integers(-2, 3, (asked, 6)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_search, "BLOCK_VALUES", block)
        found = search_exactly(vectors, queries, count)
    table = queries @ vectors.T
    best = np.argsort(-table, axis=1, kind="stable")[:, :count]
    assert np.array_equal(found.places, best)
    assert np.array_equal(found.scores, np.take_along_axis(table, best, axis=1))


def test_the_index_finds_nearly_all_of_5000_random_vectors():
    pytest.importorskip("usearch")
    vectors, queries = unit_vectors(5000, 96), unit_vectors(40, 96, seed=1)
    exact, found = search_exactly(vectors, queries, 100), open_index(vectors)(queries, 100)
    shares = [len(set(a) & set(b)) / 100 for a, b in zip(exact.places, found.places, strict=True)]
    assert np.mean(shares) >= 0.95
    assert (np.diff(found.scores, axis=1) <= 0).all()
    assert np.allclose(found.scores, np.take_along_axis(queries @ vectors.T, found.places, axis=1), atol=1e-5)


def test_the_index_gives_all_vectors_where_there_are_fewer_than_asked_for():
    pytest.importorskip("usearch")
    vectors = unit_vectors(7)
    found = open_index(vectors)(vectors[:2], 50)
    assert found.places.shape == (2, 7) and sorted(found.places[0]) == list(range(7))
    assert found.places[:, 0].tolist() == [0, 1]


def test_a_kept_index_is_read_again_and_another_catalogue_has_another(tmp_path, monkeypatch):
    pytest.importorskip("usearch")
    vectors, queries = unit_vectors(300), unit_vectors(5, seed=1)
    fresh = open_index(vectors, tmp_path)(queries, 10)
    with monkeypatch.context() as patch:
        patch.setattr(vector_search, "_keep_index", None)  # what is read is not written again
        again = open_index(vectors, tmp_path)(queries, 10)
    assert np.array_equal(fresh.places, again.places) and np.array_equal(fresh.scores, again.scores)
    changed = vectors.copy()
    changed[3] = unit_vectors(1, seed=9)[0]
    assert open_index(changed, tmp_path)(changed[3:4], 1).places.tolist() == [[3]]
    assert len(list(tmp_path.glob("*.usearch"))) == 2


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: b"", lambda data: data[:-4] + b"\0\1\2\3"])
def test_a_damaged_index_is_built_again(tmp_path, damage, caplog):
    pytest.importorskip("usearch")
    vectors, queries = unit_vectors(300), unit_vectors(5, seed=1)
    fresh = open_index(vectors, tmp_path)(queries, 10)
    (file,) = tmp_path.glob("*.usearch")
    file.write_bytes(damage(file.read_bytes()))
    with caplog.at_level(logging.WARNING):
        again = open_index(vectors, tmp_path)(queries, 10)
    assert "built again" in caplog.text and np.array_equal(fresh.places, again.places)
    caplog.clear()
    open_index(vectors, tmp_path)
    assert not caplog.text


def test_an_index_without_its_digest_is_half_written_and_not_used(tmp_path, monkeypatch):
    pytest.importorskip("usearch")
    vectors = unit_vectors(50)
    monkeypatch.setattr(vector_search, "atomic_write", None)
    with pytest.raises(TypeError):
        open_index(vectors, tmp_path)
    monkeypatch.undo()
    assert list(tmp_path.glob("*.usearch")) and not list(tmp_path.glob("*.sha256"))
    assert open_index(vectors, tmp_path)(vectors[:1], 1).places.tolist() == [[0]]
    assert list(tmp_path.glob("*.sha256"))
