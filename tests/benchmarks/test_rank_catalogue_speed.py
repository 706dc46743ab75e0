"""The benchmark of the first stage: made vectors are unit vectors near encoded ones, recall is the share found."""

import numpy as np
import pytest
import rank_catalogue

from product_relevance.ensemble.retrieval.vector_search import Nearest
from tests.helpers.made_rows import encode


def test_each_index_is_measured_on_a_catalogue_of_made_vectors(tmp_path):
    pytest.importorskip("usearch")
    encoded = encode(rank_catalogue.made_titles(40, seed=0), "passage")
    np.save(tmp_path / "vectors.npy", encoded)
    options = {"queries": 5, "candidates": 10, "seed": 0}
    exact, index = (
        rank_catalogue.measure_search(str(tmp_path / "vectors.npy"), 300, kind, options)
        for kind in rank_catalogue.KINDS
    )
    assert exact["recall"] == 1 and index["recall"] >= 0.95 and exact["titles"] == index["titles"] == 300


def test_made_vectors_are_near_the_encoded_ones():
    encoded = encode(rank_catalogue.made_titles(20, seed=0), "passage")
    made = rank_catalogue.made_vectors(encoded, 50, np.random.default_rng(0))
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    assert (made @ encoded.T).max(axis=1).min() > 0.8


def test_the_recall_is_the_share_of_the_nearest_that_was_found():
    exact = Nearest(np.array([[1, 2], [3, 4]]), np.ones((2, 2)))
    assert rank_catalogue.recall_of(Nearest(np.array([[2, 1], [3, -1]]), np.ones((2, 2))), exact) == 0.75


def test_titles_are_the_same_for_the_same_seed():
    assert rank_catalogue.made_titles(5, seed=1) == rank_catalogue.made_titles(5, seed=1)
    assert rank_catalogue.made_titles(5, seed=1) != rank_catalogue.made_titles(5, seed=2)
