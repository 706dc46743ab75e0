"""A source's rows as they were given, with the defects of what could not be parsed."""

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from product_relevance.data.sources.defects import Defect, RecordError
from product_relevance.data.sources.encodings import UNREADABLE, open_bytes, unreadable_bytes
from product_relevance.data.sources.labels import LabelScale
from product_relevance.data.sources.options import ReadingOptions

ABSENT = type("Absent", (), {"__repr__": lambda self: "nothing"})()
PARQUET = ("a Parquet file", "text", "give it the ending .parquet")
# How files begin that are not what they are taken for: what was found, what was expected, the way out.
SIGNATURES = {
    b"PAR1": PARQUET,
    b"PK\x03\x04": ("a ZIP archive or an Excel workbook", "plain text", "unpack it, or save the sheet as CSV"),
    b"\x1f\x8b": ("a gzip archive", "plain text", "give it an ending such as .csv.gz"),
    b"\x28\xb5\x2f\xfd": ("a Zstandard archive", "plain text", "give it an ending such as .csv.zst"),
    b"\xfd7zXZ\0": ("an xz archive", "plain text", "give it an ending such as .csv.xz"),
    b"version https://git-lfs": ("a Git LFS pointer", "the file itself", "fetch it with: git lfs pull"),
}


@dataclass(frozen=True)
class Source:
    """A file, folder or Hub data set by name, with what to take of it and how it is read.

    Attributes:
        name: Of a file, several files, a folder or a data set of the Hub.
        split: Of a folder or Hub data set that has several.
        revision: Of a Hub data set.
        reading: How rows become records.
    """

    name: str
    split: str | None = None
    revision: str | None = None
    reading: ReadingOptions = field(default_factory=ReadingOptions)

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
        given: The columns under the file's own names, where `columns` has other ones.
        scale: How its labels are read.
        form: What kind of file it is, for people.
        parts: Of several files, the position of each one's first row and its name.
    """

    name: str
    columns: dict[str, list[Any]] = field(default_factory=dict)
    lines: list[int] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    sha256: str = ""
    given: dict[str, list[Any]] | None = None
    scale: LabelScale = field(default_factory=LabelScale)
    form: str = ""
    parts: list[tuple[int, str]] = field(default_factory=list)

    @cached_property
    def labels(self) -> list[int | None]:
        """The labels as numbers, None for what is none; empty without such a column. Read once: do not add rows."""
        return self.scale.read_all(self.columns.get("label", ()))

    def row(self, position: int) -> dict[str, Any]:
        """One row as it was given, without the fields it does not have."""
        columns = self.columns if self.given is None else self.given
        row = {name: values[position] for name, values in columns.items()}
        return {name: value for name, value in row.items() if value is not ABSENT}

    def file_of(self, position: int) -> str:
        """The name of the file that a row is from."""
        if not self.parts:
            return self.name
        return self.parts[bisect_right(self.parts, position, key=lambda part: part[0]) - 1][1]

    def place(self, position: int) -> str:
        """File and line of a row."""
        return f"{self.file_of(position)}:{self.lines[position]}"

    def defect(self, position: int, field: str, found: str, expected: str, advice: str) -> Defect:
        """Return what is wrong with a field of a row."""
        file = self.file_of(position) if self.parts else ""
        return Defect(self.lines[position], field, found, expected, advice, row=position, file=file)

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


def require_kind_of_name(name: str) -> bytes:
    """Check that a file begins as its name says, so that a wrong kind is one error and not one for each line.

    Args:
        name: The file.

    Returns:
        Its first bytes, unpacked where the name ends in .gz, .zst or .xz.

    Raises:
        RecordError: It begins as one of another kind than its name says, or it cannot be opened.
    """
    try:
        with open_bytes(name) as file:
            head = file.read(32)
    except UNREADABLE as error:
        raise unreadable_bytes(name, error) from None
    kind = next((kind for start, kind in SIGNATURES.items() if head.startswith(start)), None)
    if kind and not (kind == PARQUET and Path(name).suffix.lower() == ".parquet"):
        raise RecordError("{}: found {}, expected {}; {}".format(name, *kind))
    return head
