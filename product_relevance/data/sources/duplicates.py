"""Rows of the same query and target: found, and resolved as it was asked for."""

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache

from product_relevance.data.sources.defects import Defect
from product_relevance.data.sources.tables import RawTable


@dataclass(frozen=True)
class Resolution:
    """What became of rows with the same query and target.

    Attributes:
        left_out: Rows that others stand for.
        labels: Of each row, as it is now.
        changed: How many rows have another label now.
    """

    left_out: frozenset[int]
    labels: list[int | None]
    changed: int


def find_contradictions(table: RawTable, target_field: str, bad: set[int]) -> Iterator[Defect]:
    """Find all rows of each (query, target) pair that has several labels: nobody knows which one is right.

    Args:
        table: As read.
        target_field: `category_path` or `item_title`.
        bad: Rows with another defect; they are not looked at.

    Yields:
        A defect for each row of such a pair. Texts are compared in NFKC, case-folded, with blanks collapsed.
    """
    labels = table.labels
    for rows in group_pairs(table, target_field, bad):
        if len({labels[row] for row in rows}) > 1:
            for row in rows:
                other = next(other for other in rows if labels[other] != labels[row])
                found = f"{labels[row]}, but {labels[other]} for the same pair at {table.place(other)}"
                advice = "correct one of the rows or leave all of the pair out"
                expected = "one label for one query and target"
                yield table.defect(row, "label", found, expected, advice)


def group_pairs(table: RawTable, target_field: str, bad: Collection[int] = ()) -> Iterator[list[int]]:
    """Yield the rows of each (query, target) pair that stands in several rows with a label; arguments as above."""
    groups: dict[str, list[int]] = {}
    fold_target = cache(_folded)  # a category path occurs in many rows
    queries, targets = table.columns["origin_query"], table.columns[target_field]
    for row, label in enumerate(table.labels):
        if label is not None and row not in bad:
            groups.setdefault(f"{_folded(queries[row])}\n{fold_target(targets[row])}", []).append(row)
    return (rows for rows in groups.values() if len(rows) > 1)


def resolve_duplicates(table: RawTable, target_field: str, how: str, bad: Collection[int] = ()) -> Resolution:
    """Leave one row of each (query, target) pair.

    Args:
        table: As read.
        target_field: `category_path` or `item_title`.
        how: "drop" keeps the first row of a pair whose rows agree, and none of one whose rows do not. "majority" gives
            the first row the label that most rows have, and keeps none where several labels are as frequent. "mean"
            gives it the mean, rounded to a whole number, halves up.
        bad: Rows with a defect; they are not looked at.
    """
    labels, left_out, changed = list(table.labels), set[int](), 0
    for rows in group_pairs(table, target_field, bad):
        first, values = rows[0], [label for row in rows if (label := labels[row]) is not None]
        chosen = _choose(values, how)
        left_out.update(rows[1:] if chosen is not None else rows)
        if chosen is not None and chosen != labels[first]:
            labels[first], changed = chosen, changed + 1
    return Resolution(frozenset(left_out), labels, changed)


def _choose(labels: list[int], how: str) -> int | None:
    if how == "mean":
        return (2 * sum(labels) + len(labels)) // (2 * len(labels))
    counts = Counter(labels).most_common(2)
    if len(counts) == 1:
        return counts[0][0]
    return counts[0][0] if how == "majority" and counts[0][1] > counts[1][1] else None


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
