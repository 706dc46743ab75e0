"""Guess which column holds what, by names first and by values where names say nothing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from product_relevance.data.sources.column_map import ColumnMap
from product_relevance.data.sources.guesses import guess_columns
from product_relevance.data.sources.labels import MAX_GRADES
from product_relevance.data.sources.scales import order_values
from product_relevance.data.sources.several import distinguish_ids
from product_relevance.data.sources.tables import RawTable
from product_relevance.data.sources.validation import is_missing
from product_relevance.text.language_codes import is_code, normal_code
from product_relevance.utils.tasks import TARGET_FIELD, TASKS

SAMPLE = 5_000  # rows that are looked at
MAX_LANGUAGES = 60
MOST = 0.9


def guess_map(table: RawTable, given: ColumnMap) -> ColumnMap:
    """Return a map of a table's columns.

    Args:
        table: As read, with the file's own columns.
        given: What is known of the map; it is kept.

    Returns:
        A map of what was found. Columns that have the names of a record's fields need none.
    """
    names = {name: column for name, column in given.given().items() if column}
    free = {column: _sample(values) for column, values in table.columns.items() if column not in names.values()}
    own = {"query": ["origin_query"], "target": [*TARGET_FIELD.values()]}
    wanted = [
        field
        for field in ("query", "target", "label", "language", "id", "task")
        if field not in given.given() and not set(own.get(field, [field])) & set(table.columns)
    ]
    named = guess_columns(free, wanted)
    if "id" in named:
        free[named["id"]] = distinguish_ids(table, table.columns[named["id"]])
    found = {field: column for field, column in named.items() if _fits(field, free[column])}
    free = {column: values for column, values in free.items() if column not in found.values()}
    found |= _guess_by_values([field for field in wanted if field not in found], free)
    return ColumnMap.parse(given.given() | found | _not_read(table, given))


def _sample(values: Iterable[Any]) -> list[Any]:
    kept = [value for value in list(values)[:SAMPLE] if not is_missing(value)]
    return [value for value in kept if not isinstance(value, str) or value.strip()]


def _not_read(table: RawTable, given: ColumnMap) -> dict[str, str]:
    """Return the columns with a field's name that hold something else: ids that repeat, no languages."""
    found: dict[str, str] = {}
    for field in ("id", "language", "task"):
        if field in table.columns and getattr(given, field) is None:
            values = distinguish_ids(table, table.columns[field]) if field == "id" else _sample(table.columns[field])
            if not _fits(field, values):
                found[field] = ""
    return found


def _fits(field: str, values: Sequence[Any]) -> bool:
    """Return whether values can be those of a field."""
    if field == "id":
        return len({str(value) for value in values}) == len(values)
    if field == "task":
        return bool(values) and set(map(str, values)) <= set(TASKS)
    if field == "language":
        return _share_of_codes(values) >= MOST
    if field in ("query", "target"):
        return sum(isinstance(value, str) for value in values) >= MOST * len(values)
    return True


def _share_of_codes(values: Sequence[Any]) -> float:
    texts = [value for value in values if isinstance(value, str)]
    distinct = {text: is_code(normal_code(text)) and len(text) < 12 for text in set(texts)}
    return sum(distinct[text] for text in texts) / len(values) if values and len(distinct) <= MAX_LANGUAGES else 0.0


def _guess_by_values(wanted: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    found: dict[str, str] = {}
    free = dict(columns)
    if "language" in wanted and (codes := [name for name, values in free.items() if _fits("language", values)]):
        found["language"] = codes[0]
        free.pop(codes[0])
    if "label" in wanted and (labels := [name for name, values in free.items() if _are_labels(values)]):
        # Tables have them behind the texts.
        found["label"] = min(reversed(labels), key=lambda name: len(set(map(str, free[name]))))
        free.pop(found["label"])
    texts = [name for name, values in free.items() if _are_texts(values)]
    if {"query", "target"} <= set(wanted) and len(texts) == 2:
        # A query has several targets, and is shorter.
        ordered = sorted(texts, key=lambda name: (len(set(map(str, free[name]))), _length(free[name])))
        found |= dict(zip(("query", "target"), ordered, strict=True))
    for field in ("query", "target"):
        if field in wanted and field not in found and len(texts) == 1:
            found[field] = texts[0]
    return found


def _are_labels(values: Sequence[Any]) -> bool:
    distinct = {str(value).strip(): 1 for value in values}
    return 2 <= len(distinct) <= min(MAX_GRADES, len(values) // 2) and order_values(distinct) is not None


def _are_texts(values: Sequence[Any]) -> bool:
    texts = [value for value in values if isinstance(value, str)]
    return bool(texts) and len(texts) >= MOST * len(values) and any(sign.isalpha() for sign in "".join(texts[:50]))


def _length(values: Sequence[Any]) -> float:
    return sum(len(str(value)) for value in values) / max(len(values), 1)
