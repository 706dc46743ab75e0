"""Prefixes: groups that save as many tokens as any, and batches that hold every row once beside its own prefix."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from product_relevance.models.prefix_groups import make_batches, share_prefixes

rows_of_few_tokens = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=7), max_size=7, unique_by=tuple)
rows_of_pairs = st.lists(
    st.tuples(st.integers(0, 4), st.integers(2, 30), st.integers(1, 20)), min_size=1, max_size=60, unique=True
).map(lambda drawn: [[7] * query * 3 + [8 + query] * 5 + [20, target] + [9] * end for query, target, end in drawn])


def partitions(items: list) -> list[list[list]]:
    """Every way to put items into groups."""
    if not items:
        return [[]]
    first, *rest = items
    found = []
    for groups in partitions(rest):
        found.append([[first], *groups])
        found += [[*groups[:i], [first, *group], *groups[i + 1 :]] for i, group in enumerate(groups)]
    return found


def saved_by(groups: list[list[list[int]]], shortest: int) -> int:
    """Tokens saved where each group forwards its longest common prefix once, and a token of each row is left."""
    total = 0
    for group in groups:
        most = min(map(len, group)) - 1
        common = next((i for i in range(most) if len({row[i] for row in group}) > 1), most)
        total += common * (len(group) - 1) if common >= shortest else 0
    return total


@given(rows_of_few_tokens, st.integers(1, 3))
def test_no_other_grouping_saves_more_tokens(rows, shortest):
    best = max(saved_by(groups, shortest) for groups in partitions(rows))
    assert share_prefixes(rows, shortest).saved == best


@given(rows_of_pairs)
def test_a_group_has_two_rows_or_more_that_begin_with_its_prefix_and_go_on(rows):
    sharing = share_prefixes(rows, 2)
    for group in set(sharing.group) - {-1}:
        members = np.flatnonzero(sharing.group == group)
        (length,) = set(sharing.length[members])
        assert len(members) > 1 and 2 <= length < min(len(rows[i]) for i in members)
        assert len({tuple(rows[i][:length]) for i in members}) == 1
    assert not sharing.length[sharing.group < 0].any()


def test_a_row_inside_a_longer_group_keeps_what_it_shares_with_the_others():
    query, path = [1, 2, 3, 4], [5, 6, 7, 8, 9]
    rows = [[*query, *path, 10], [*query, *path, 11], [*query, *path, 12], [*query, 13], [*query, 14], [*query, 15]]
    assert share_prefixes(rows[::-1]).length.tolist() == [4, 4, 4, 9, 9, 9]


def test_rows_without_a_common_start_share_nothing():
    sharing = share_prefixes([[1, 2, 3, 4, 5], [2, 2, 3, 4, 5], [3]])
    assert sharing.saved == 0 and set(sharing.group) == {-1}
    assert share_prefixes([]).saved == 0


@given(rows_of_pairs, st.integers(1, 300), st.integers(1, 16), st.booleans())
def test_batches_hold_every_row_once_beside_its_own_prefix_and_keep_to_the_budget(rows, tokens, most, apart):
    found = list(make_batches(rows, tokens, most, None if apart else share_prefixes(rows)))
    assert sorted(np.concatenate([batch.rows for batch in found])) == list(range(len(rows)))
    for batch in found:
        longest = max(len(rows[i]) for i in batch.rows)
        if batch.prefixes:
            for row, place in zip(batch.rows, batch.places, strict=True):
                prefix = batch.prefixes[place]
                assert rows[row][: len(prefix)] == prefix != rows[row]
            ends = [len(rows[i]) - len(batch.prefixes[p]) for i, p in zip(batch.rows, batch.places, strict=True)]
            longest = max(ends) + max(map(len, batch.prefixes))
        assert len(batch.rows) <= most and (longest * len(batch.rows) <= tokens or len(batch.rows) == 1)
        assert len(batch.prefixes) * max([0, *map(len, batch.prefixes)]) <= tokens or len(batch.prefixes) == 1


@given(rows_of_pairs)
def test_halves_of_a_batch_hold_its_rows_and_only_their_prefixes(rows):
    for batch in make_batches(rows, 400, 64, share_prefixes(rows)):
        halves = [half for half in batch.halves() if len(half.rows)]
        assert np.concatenate([half.rows for half in halves]).tolist() == batch.rows.tolist()
        if len(batch.rows) == 1:
            assert len(halves) == 1 and not halves[0].prefixes  # the row alone, should its prefix not fit beside it
            continue
        for half in halves if batch.prefixes else []:
            assert set(half.places) == set(range(len(half.prefixes)))
            assert all(
                rows[r][: len(half.prefixes[p])] == half.prefixes[p]
                for r, p in zip(half.rows, half.places, strict=True)
            )
