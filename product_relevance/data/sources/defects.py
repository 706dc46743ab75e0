"""Describe the defects of records, report them, and write rejected rows to a file."""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from product_relevance.utils.files import atomic_write, json_line

logger = logging.getLogger(__name__)

SHOWN_DEFECTS = 10
SHOWN_CHARACTERS = 60

# How far a defect reaches. It matters for test rows only, which are never dropped: see `read_records`.
EMPTY = "empty"  # no query or no target: the row still gets a prediction
ROW = "row"  # something in the row is wrong, but its id is usable
FATAL = "fatal"  # the id of the row is unknown, or the file is of the wrong kind


@dataclass(slots=True)
class Defect:
    """One thing wrong with one row of a source.

    Attributes:
        line: 1-based line of a text file, row number of a binary one; 0 for the source as a whole.
        field: Name of the field; "" for the whole line.
        found: What is there, ready to show.
        expected: What should be there.
        advice: The way out.
        reach: EMPTY, ROW or FATAL.
        row: 0-based position among the parsed rows; -1 where the line could not be parsed.
        raw: The line's text where it could not be parsed.
        lines: How many physical lines were lost with it.
        file: The file that it is in; "" for a source of one file.
    """

    line: int
    field: str
    found: str
    expected: str
    advice: str
    reach: str = ROW
    row: int = -1
    raw: str | None = None
    lines: int = 1
    file: str = ""

    @property
    def reason(self) -> str:
        """The defect in words, without file, line and advice."""
        field = f"field {self.field!r}: " if self.field else ""
        return f"{field}found {self.found}, expected {self.expected}"

    def message(self, name: str) -> str:
        """The whole message: `file:line: field 'x': found ..., expected ...; what to do`."""
        name = self.file or name
        place = f"{name}:{self.line}" if self.line else name
        return f"{place}: {self.reason}; {self.advice}"


class RecordError(ValueError):
    """A source of records cannot be used as it is.

    Attributes:
        defects: All defects, in line order, of which the message shows the first ten.
    """

    def __init__(self, message: str, defects: Sequence[Defect] = ()) -> None:
        super().__init__(message)
        self.defects = list(defects)


def show_value(value: Any) -> str:
    """Show a value in an error message: as a literal, shortened to about 60 characters, on one line."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def raise_defects(name: str, defects: Sequence[Defect], way_out: str) -> None:
    """Raise one error for many defects.

    Args:
        name: The source's name.
        defects: At least one.
        way_out: A last line that says what to do about all of them.

    Raises:
        RecordError: Always.
    """
    defects = sorted(defects, key=lambda defect: (defect.file, defect.line))
    lines = [defect.message(name) for defect in defects[:SHOWN_DEFECTS]]
    if len(defects) > 1:
        first = f", of which the first {SHOWN_DEFECTS}" if len(defects) > SHOWN_DEFECTS else ""
        lines.insert(0, f"{name}: {len(defects):,} defects{first}:")
    raise RecordError("\n".join([*lines, way_out]), defects)


def write_rejects(path: str | os.PathLike[str], name: str, defects: Iterable[Defect], raw_rows: dict[int, Any]) -> int:
    """Write each rejected row with its reasons, as JSON lines in line order.

    A line holds file, line, field, found, expected (of the row's first defect), reason (all of them) and raw.

    Args:
        path: The file to write, whole or not at all.
        name: The source's name.
        defects: What was found; several may concern one row.
        raw_rows: The parsed rows by position.

    Returns:
        How many rows were rejected; of what could not be parsed, each line counts.
    """
    by_row: dict[tuple[str, int, int], list[Defect]] = {}
    for defect in sorted(defects, key=lambda defect: (defect.file, defect.line, defect.row)):
        by_row.setdefault((defect.file, defect.line, defect.row), []).append(defect)
    with atomic_write(path, "wb") as file:
        for found in by_row.values():
            first = found[0]
            row = {"file": first.file or name, "line": first.line, "field": first.field, "found": first.found}
            row |= {"expected": first.expected, "reason": "; ".join(defect.reason for defect in found)}
            file.write(json_line(row | {"raw": raw_rows.get(first.row, first.raw)}))
    lost = sum(found[0].lines for found in by_row.values())
    logger.warning("%s: %s bad rows left out; see %s", name, f"{lost:,}", path)
    return lost
