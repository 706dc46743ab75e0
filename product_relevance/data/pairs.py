"""What users give as pairs (tuples, dicts of other tools, records, frames), read as queries and targets."""

from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from product_relevance.utils.tasks import TARGET_FIELD

TEXTS = ("text", "text_pair")  # query and target in pipelines of transformers and at Inference Endpoints
QUERY = "origin_query"  # of our records
LANGUAGES = ("given_language", "language")
TRANSLATIONS = ("translation", "translated_query")
EXPECTED = (
    'a list of pairs such as (query, target), [query, target] or {"text": query, "text_pair": target}, or records '
    "with origin_query; one pair goes into a list: [(query, target)]"
)
SHOWN = 40


class Pairs(NamedTuple):
    """n pairs taken apart.

    Attributes:
        queries: n texts.
        targets: n texts.
        languages: n codes or None each; None where nobody gave one.
        translations: n English texts or None each; None where nobody gave one.
    """

    queries: list[str]
    targets: list[str]
    languages: list[str | None] | None
    translations: list[str | None] | None


def read_pairs(
    pairs: Iterable[Any],
    languages: Iterable[str | None] | None = None,
    translations: Iterable[str | None] | None = None,
    task: str = "QC,QI",
) -> Pairs:
    """Take pairs apart, in any form that people paste; an iterator is read once.

    Args:
        pairs: tuples, lists or rows of an array; dicts with `text` and `text_pair`, or our records, of which language
            and translation are read, too; a data set or a frame of such rows.
        languages: n codes, which win over those in dicts.
        translations: n English texts, which win over those in dicts.
        task: QC, QI or both; a record of the other task is an error.

    Raises:
        ValueError: no list of pairs, or a pair that is none; the message names its place and what was found.
    """
    rows = [_row(row, place, task) for place, row in enumerate(_rows(pairs))]
    queries, targets, codes, english = (list(column) for column in zip(*rows, strict=True)) if rows else ([],) * 4
    own = (column if any(value is not None for value in column) else None for column in (codes, english))
    given = (
        None if languages is None else _listed(languages, "languages"),
        None if translations is None else _listed(translations, "translations"),
    )
    return Pairs(queries, targets, *(mine if asked is None else asked for mine, asked in zip(own, given, strict=True)))


def read_targets(query: str, targets: Iterable[str], top_k: int | None = None) -> list[str]:
    """Check the arguments of a ranking and return its targets as a list.

    Raises:
        ValueError: a query or target that is no text, one text for all targets, or no number of places from 1.
    """
    if not isinstance(query, str):
        raise ValueError(f"query: found {_shown(query)}, expected one text")
    listed = _listed(targets, "targets")
    for place, target in enumerate(listed):
        if not isinstance(target, str):
            raise ValueError(f"target {place}: found {_shown(target)}, expected a text")
    if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, Integral) or top_k < 1):
        raise ValueError(f"top_k: found {top_k!r}, expected a whole number from 1, or None for all")
    return listed


def pair_forms(task: str) -> list[tuple[str, str]]:
    """Return the names of query and target that a dict may have for a task: QC, QI or both."""
    return [TEXTS, *((QUERY, TARGET_FIELD[name]) for name in task.split(","))]


def sides_of(row: Mapping[str, Any], task: str) -> tuple[str, str] | None:
    """Return the names under which a dict holds query and target; None unless one form alone fits."""
    found = [form for form in pair_forms(task) if form[0] in row and form[1] in row]
    if QUERY in row:  # `text` and `text_pair` were made from it, as the template says
        found = [form for form in found if form != TEXTS]
    if len(found) > 1:  # a table of both tasks has a column for each
        found = [form for form in found if not _missing(row[form[1]])]
    return found[0] if len(found) == 1 else None


def _rows(pairs: Iterable[Any]) -> list[Any]:
    if isinstance(pairs, pd.DataFrame):
        return pairs.to_dict("records")
    if isinstance(pairs, Mapping):
        raise ValueError(f"pairs: found {_shown(pairs)}, expected {EXPECTED}; two columns: zip(queries, targets)")
    if isinstance(pairs, str | bytes | set | frozenset) or not isinstance(pairs, Iterable):
        raise ValueError(f"pairs: found {_shown(pairs)}, expected {EXPECTED}")
    return list(pairs)


def _row(row: object, place: int, task: str) -> tuple[str, str, Any, Any]:
    """Return query, target, language and translation."""
    if isinstance(row, pd.Series):
        row = row.to_dict()
    elif isinstance(row, np.ndarray):
        row = row.tolist()
    language = translation = None
    if isinstance(row, Mapping) and (names := sides_of(row, task)):
        query, target = row[names[0]], row[names[1]]
        language, translation = _first(row, LANGUAGES), _first(row, TRANSLATIONS)
    elif isinstance(row, tuple | list) and len(row) == 2:
        query, target = row
    else:
        expected = " or ".join(f"{query} and {target}" for query, target in pair_forms(task))
        raise ValueError(
            f"pair {place}: found {_shown(row)}, expected {expected if isinstance(row, Mapping) else EXPECTED}"
        )
    for side, text in (("query", query), ("target", target)):
        if not isinstance(text, str):
            raise ValueError(f"pair {place}: found {_shown(text)} as its {side}, expected a text")
    return query, target, language, translation


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if name in row and not _missing(row[name])), None)


def _listed(values: Iterable[Any], name: str) -> list[Any]:
    if isinstance(values, str | bytes | Mapping | set | frozenset) or not isinstance(values, Iterable):
        raise ValueError(f"{name}: found {_shown(values)}, expected a list of texts")
    return list(values)


def _missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def _shown(value: object) -> str:
    """Say what a value is, so short that it fits into a message."""
    if _missing(value):
        return "NaN" if isinstance(value, float) else str(value)
    if isinstance(value, str):
        return f"the text {value[:SHOWN] + '...' if len(value) > SHOWN else value!r}"
    if isinstance(value, Mapping):
        return f"a dict with the keys {', '.join(map(str, list(value)[:8]))}" if value else "an empty dict"
    if isinstance(value, int | float):
        return f"the number {value}"
    size = f" of {len(value)}" if isinstance(value, tuple | list | set | frozenset) else ""
    return f"a {type(value).__name__}{size}"
