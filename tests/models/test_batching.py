"""Batches: every row once, like lengths together, the same order for the same seed and epoch, exact padding."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from product_relevance.models.batching import pad_rows
from product_relevance.training.batches.dataset import LengthGroupedSampler


@given(st.lists(st.integers(1, 90), min_size=1, max_size=300), st.integers(1, 32), st.integers(0, 5))
def test_the_sampler_gives_every_row_once(lengths, batch, epoch):
    sampler = LengthGroupedSampler(lengths, batch, seed=1)
    sampler.set_epoch(epoch)
    assert sorted(sampler) == list(range(len(lengths)))


def test_the_sampler_saves_padding_and_changes_its_order_with_the_epoch():
    lengths = np.random.default_rng(0).integers(5, 80, 2000)
    sampler = LengthGroupedSampler(lengths, 32, seed=1)
    order = list(sampler)
    assert list(sampler) == order
    sampler.set_epoch(1)
    assert list(sampler) != order

    def padded(rows):
        return sum(len(b) * lengths[b].max() for b in np.array_split(rows, range(32, len(rows), 32)))

    assert padded(np.array(order)) < 1.1 * lengths.sum() < padded(np.arange(2000))


def test_successive_batches_do_not_follow_a_trend_in_length():
    lengths = np.random.default_rng(0).integers(5, 80, 6400)
    order = np.array(list(LengthGroupedSampler(lengths, 32, seed=1)))
    means = lengths[order].reshape(-1, 32).mean(axis=1)
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.25


def test_padding_is_on_the_right_and_masked():
    batch = pad_rows([[5, 6], [7, 8, 9]], 1)
    assert batch["input_ids"].tolist() == [[5, 6, 1], [7, 8, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
