"""Check raw records row by row and against each other."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from product_relevance.data.sources.defects import EMPTY, FATAL, ROW, Defect, show_value
from product_relevance.data.sources.tables import ABSENT, RawTable

UNREADABLE = re.compile("[\0\ud800-\udfff]")
# Blanks, controls and the zero-width marks that make a text look empty.
INVISIBLE = re.compile("[\\s\0-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff]*")
CORRECT = "correct the row or leave it out"


def find_defects(table: RawTable, task: str, target_field: str, role: str) -> Iterator[Defect]:
    """Check each row by itself, and the ids against each other.

    Args:
        table: As read; it has all the fields that the role needs.
        task: "QC" or "QI".
        target_field: `category_path` or `item_title`.
        role: "train" asks for a label in each row; "any" lets it be missing; in a "test" file nobody reads it.

    Yields:
        The defects, field by field.
    """
    yield from _id_defects(table)
    yield from _task_defects(table, task)
    yield from _text_defects(_Field(table, "language"), ROW)
    yield from _text_defects(_Field(table, "origin_query"), EMPTY)
    yield from _text_defects(_Field(table, target_field), EMPTY, is_target=True)
    if role != "test":
        yield from _label_defects(table, role)
    own = ("id", "task", "language", "origin_query", target_field, "label")
    for name in [name for name in table.columns if name not in own]:
        yield from _extra_defects(_Field(table, name))


def find_list_defects(table: RawTable, field: str, target: bool) -> Iterator[Defect]:
    """Check the ids and the texts of a list of queries or of targets.

    Args:
        table: As read, with ids.
        field: Of the texts.
        target: Whether they are targets.

    Yields:
        The defects, field by field.
    """
    yield from _id_defects(table)
    yield from _text_defects(_Field(table, field), ROW, is_target=target)


@dataclass(frozen=True)
class _Field:
    """A field of a table, which makes the defects of its values."""

    table: RawTable
    name: str

    @property
    def values(self) -> list[Any]:
        return self.table.columns.get(self.name, [])

    def defect(self, row: int, found: str, expected: str, advice: str, reach: str = ROW) -> Defect:
        return replace(self.table.defect(row, self.name, found, expected, advice), reach=reach)


def _id_defects(table: RawTable) -> Iterator[Defect]:
    field, seen = _Field(table, "id"), dict[str, int]()
    for row, value in enumerate(field.values):
        if isinstance(value, bool) or not isinstance(value, int | str):
            found = "nothing" if is_missing(value) else show_value(value)
            yield field.defect(row, found, "an integer or a text", "give each row its id", FATAL)
        elif isinstance(value, str) and (INVISIBLE.fullmatch(value) or UNREADABLE.search(value)):
            yield field.defect(row, show_value(value), "an integer or a readable text", CORRECT, FATAL)
        elif (first := seen.setdefault(f"{value}", row)) != row:
            found = f"{show_value(value)} again, first at {table.place(first)}"
            yield field.defect(row, found, "each id once", "remove one row or correct its id", FATAL)


def _task_defects(table: RawTable, task: str) -> Iterator[Defect]:
    field = _Field(table, "task")
    for row, value in enumerate(field.values):
        if value != task:
            found = "nothing" if is_missing(value) else show_value(value)
            yield field.defect(row, found, f"'{task}'", "keep QC and QI rows in files of their own", FATAL)


def _text_defects(field: _Field, empty: str, is_target: bool = False) -> Iterator[Defect]:
    """Find texts that are missing, empty (both with the reach `empty`), unreadable, or no texts at all."""
    for row, value in enumerate(field.values):
        if isinstance(value, str):
            bare = value.strip()
            if bare and value.isprintable() and (len(bare) != 3 or not is_target):
                continue
            problem = _text_problem(value, bare, is_target)
            if problem:
                advice = "correct the row" if problem[1] != "readable text" else "save the text as UTF-8 without NUL"
                yield field.defect(row, *problem, advice, ROW if problem[1] == "readable text" else empty)
        elif is_missing(value):
            yield field.defect(row, "nothing" if value is ABSENT else "null", "text", CORRECT, empty)
        else:
            yield field.defect(row, f"{show_value(value)} ({type(value).__name__})", "text", CORRECT)


def usable_text(value: Any, is_target: bool = False) -> str:
    """Make the best of a test row's text.

    Args:
        value: As the source had it.
        is_target: Whether "nan" means that there is none.

    Returns:
        The text without what UTF-8 files cannot hold; "" where nothing is left or there was no text.
    """
    text = UNREADABLE.sub("", value) if isinstance(value, str) else ""
    return "" if _text_problem(text, text.strip(), is_target) else text


def _text_problem(value: str, bare: str, is_target: bool) -> tuple[str, str] | None:
    if bad := UNREADABLE.search(value):
        return f"{show_value(value)} ({_unreadable_kind(bad[0])})", "readable text"
    if INVISIBLE.fullmatch(value):
        return f"an empty text, {show_value(value)}", "text"
    # A data frame that was written as text holds "nan" where a title was missing; a query "nan" is bread.
    return (f"{show_value(value)}, a missing value", "text") if is_target and bare.lower() == "nan" else None


def _unreadable_kind(character: str) -> str:
    return "a NUL character" if character == "\0" else "bytes that are not UTF-8, or half a surrogate pair"


def _label_defects(table: RawTable, role: str) -> Iterator[Defect]:
    field = _Field(table, "label")
    for row, (value, label) in enumerate(zip(field.values, table.labels, strict=True)):
        if label is None and (role == "train" or not _no_label(value)):
            found = "nothing" if _no_label(value) else show_value(value)
            yield field.defect(row, found, table.scale.expected, CORRECT)


def _extra_defects(field: _Field) -> Iterator[Defect]:
    if UNREADABLE.search("".join(value for value in field.values if isinstance(value, str))):
        for row, value in enumerate(field.values):
            if isinstance(value, str) and (bad := UNREADABLE.search(value)):
                found = f"{show_value(value)} ({_unreadable_kind(bad[0])})"
                yield field.defect(row, found, "readable text", "save the text as UTF-8 without NUL")


def is_missing(value: Any) -> bool:
    """Return whether a raw value is absent, null or NaN."""
    return value is ABSENT or value is None or (isinstance(value, float) and math.isnan(value))


def _no_label(value: Any) -> bool:
    return is_missing(value) or (isinstance(value, str) and not value.strip())
