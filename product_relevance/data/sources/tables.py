"""A source's rows as they were given, with the defects of what could not be parsed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from product_relevance.data.sources.defects import Defect, RecordError

ABSENT = type("Absent", (), {"__repr__": lambda self: "nothing"})()
BOM = b"\xef\xbb\xbf"
UTF_16 = ("UTF-16 text", "UTF-8 text", "save it as UTF-8")
PARQUET = ("a Parquet file", "text", "give it the ending .parquet")
# How files begin that are not what they are taken for: what was found, what was expected, the way out.
SIGNATURES = {
    b"\xff\xfe": UTF_16,
    b"\xfe\xff": UTF_16,
    b"PAR1": PARQUET,
    b"PK\x03\x04": ("a ZIP archive or an Excel workbook", "plain text", "unpack it, or save the sheet as CSV"),
    b"\x1f\x8b": ("a gzip archive", "plain text", "unpack it"),
    b"version https://git-lfs": ("a Git LFS pointer", "the file itself", "fetch it with: git lfs pull"),
}


@dataclass(frozen=True)
class Source:
    """A file, folder or Hub data set by name, with the split and the revision to take of it."""

    name: str
    split: str | None = None
    revision: str | None = None

    def __fspath__(self) -> str:
        return self.name

    def __str__(self) -> str:
        return self.name


@dataclass
class RawTable:
    """A source's rows as they were given, column by column.

    Attributes:
        name: The source, as the caller named it.
        columns: Field name to values, all of one length; ABSENT where a row has no such field.
        lines: 1-based line numbers of a text file, row numbers of a binary source.
        defects: Lines that could not be parsed; they are not in `columns`.
        sha256: Fingerprint of the content.
    """

    name: str
    columns: dict[str, list[Any]] = field(default_factory=dict)
    lines: list[int] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    sha256: str = ""

    def row(self, position: int) -> dict[str, Any]:
        """One row as it was given, without the fields it does not have."""
        row = {name: values[position] for name, values in self.columns.items()}
        return {name: value for name, value in row.items() if value is not ABSENT}

    def extend(self, rows: list[dict[str, Any]], lines: list[int]) -> None:
        """Append rows; a field that is new is ABSENT in all rows before."""
        for name in dict.fromkeys(chain.from_iterable(rows)):
            self.columns.setdefault(name, [ABSENT] * len(self.lines))
        for name, values in self.columns.items():
            values.extend([row.get(name, ABSENT) for row in rows])
        self.lines.extend(lines)


def usable_name(name: str) -> bool:
    """Return whether a field may have this name."""
    return bool(name.strip()) and not re.search("[\0\ud800-\udfff]", name)


def raw_lines(name: str) -> Iterator[tuple[int, bytes]]:
    """Yield the physical lines of a text file with their 1-based numbers, split at newline characters only."""
    with open(name, "rb") as file:
        for line, raw in enumerate(file, start=1):
            yield line, raw.removeprefix(BOM) if line == 1 else raw


def require_kind_of_name(name: str) -> None:
    """Check that a file begins as its name says, so that a wrong kind is one error and not one for each line.

    Args:
        name: The file.

    Raises:
        RecordError: It begins as one of another kind than its name says, or it cannot be opened.
    """
    try:
        with open(name, "rb") as file:
            head = file.read(32)
    except OSError as error:
        found = f"{type(error).__name__} ({error.strerror})"
        raise RecordError(f"{name}: found {found}, expected a file that can be read; check its permissions") from None
    kind = next((kind for start, kind in SIGNATURES.items() if head.startswith(start)), None)
    if b"\0" * 4 in (head[0:8:2], head[1:8:2]):
        kind = UTF_16  # without a byte order mark: every other byte of plain letters is 0
    if kind and not (kind == PARQUET and name.lower().endswith(".parquet")):
        raise RecordError("{}: found {}, expected {}; {}".format(name, *kind))
