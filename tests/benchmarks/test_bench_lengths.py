"""Buckets of lengths: each row once, and one shape per bucket."""

import bench_lengths
import numpy as np
import random_models


def test_a_bucket_has_one_shape_and_each_row_is_scored_once():
    ids = random_models.random_rows(200, 1000)
    for bucket in (16, 64):
        found = list(bench_lengths.batches_of(ids, bucket, 512))
        shapes = [tuple(batch["input_ids"].shape) for _, batch in found]
        assert len(set(shapes)) == len({length for _, length in shapes}) and len(shapes) > len(set(shapes))
        assert all(length % bucket == 0 and rows * length <= 512 for rows, length in shapes)
        assert sorted(np.concatenate([rows for rows, _ in found])) == list(range(200))
        for rows, batch in found:
            assert batch["attention_mask"].sum(1)[: len(rows)].tolist() == [len(ids[i]) for i in rows]


def test_free_shapes_pad_to_the_longest_row_of_a_batch():
    ids = random_models.random_rows(200, 1000)
    for rows, batch in bench_lengths.batches_of(ids, 0, 512):
        assert batch["input_ids"].shape == (len(rows), max(len(ids[i]) for i in rows))
