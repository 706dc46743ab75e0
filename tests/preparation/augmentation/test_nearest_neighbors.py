"""The search in blocks gives what looking at every pair gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from product_relevance.preparation.augmentation import nearest_neighbors
from product_relevance.preparation.augmentation.nearest_neighbors import Band, Eligible


@given(st.integers(0, 99), st.integers(1, 12), st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_the_search_in_blocks_finds_what_looking_at_every_pair_finds(seed, count, block):
    rng = np.random.default_rng(seed)
    queries, targets = (rng.standard_normal((n, 6)).astype(np.float32) for n in (17, 11))
    queries, targets = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, targets))
    high = rng.random(17).astype(np.float32)
    forbidden = [np.unique(rng.integers(0, 11, rng.integers(0, 5))) for _ in range(17)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest_neighbors, "BLOCK_VALUES", block)
        places, found = nearest_neighbors.nearest_in_band(
            queries, targets, Band(-0.5, high), count, Eligible(forbidden)
        )
    table = np.round(queries @ targets.T, 4)
    for row, values in enumerate(table):
        fit = [p for p in range(11) if -0.5 <= values[p] <= high[row] and p not in forbidden[row]]
        fit.sort(key=lambda p: (-values[p], p))
        assert [p for p in places[row] if p >= 0] == fit[:count]
        assert np.allclose(found[row][places[row] >= 0], values[fit[:count]], atol=1.1e-4)


def test_a_row_gets_only_what_it_is_allowed():
    vectors = np.eye(4, dtype=np.float32)
    none, high = [np.zeros(0, np.int32)] * 4, np.ones(4, np.float32)
    allowed = np.array([[True, False, False, False], [False, True, True, True]])
    eligible = Eligible(none, lambda rows: allowed[[0, 1, 1, 0]][rows])
    places, _ = nearest_neighbors.nearest_in_band(vectors, vectors, Band(0.0, high), 4, eligible)
    assert [sorted(p for p in row if p >= 0) for row in places.tolist()] == [[0], [1, 2, 3], [1, 2, 3], [0]]
