"""Bring any kind of source into one table of raw values, with the defects of what could not be parsed."""

import csv
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from product_relevance.defects import FATAL, Defect, RecordError, show
from product_relevance.files import json_line, sha256_of

ABSENT = type("Absent", (), {"__repr__": lambda self: "nothing"})()
BOM = b"\xef\xbb\xbf"
CHUNK = 10_000
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# Python integers beyond 18 digits do not fit a 64-bit column, and "007" is not the number 7.
INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")


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


def read_table(source: str | os.PathLike, *, split: str | None = None, revision: str | None = None) -> RawTable:
    """Read a file, a saved `datasets` folder or a data set of the Hub, by the kind that its name tells.

    Args:
        source: `.txt`, `.jsonl` or `.json` (JSON lines), `.csv`, `.tsv`, `.parquet`, a folder, or `org/name`.
        split: Of a folder or Hub data set that has several.
        revision: Of a Hub data set: branch, tag or commit.

    Returns:
        The rows, not yet checked field by field.

    Raises:
        RecordError: There is no such source, or it cannot be read at all.
    """
    name = os.fspath(source)
    if os.path.isdir(name):
        _refuse(name, revision=revision)
        return _read_folder(name, split)
    suffix = Path(name).suffix.lower()
    if os.path.isfile(name) and suffix in READERS:
        _refuse(name, split=split, revision=revision)
        return READERS[suffix](name)
    formats = f"{', '.join(READERS)}, a saved datasets folder or a Hub data set id (org/name)"
    if os.path.isfile(name):
        raise RecordError(f"{name}: found a file ending in {suffix!r}, expected {formats}; convert or rename it")
    if isinstance(source, str) and HUB_ID.fullmatch(name) and suffix not in READERS:
        return _read_hub(name, split, revision)
    raise RecordError(f"{name}: found no such file or folder, expected {formats}; check the name")


def _refuse(name: str, **options: str | None) -> None:
    for option, value in options.items():
        if value is not None:
            kinds = "a Hub data set" if option == "revision" else "a saved datasets folder or a Hub data set"
            raise RecordError(f"{name}: found {option} {value!r}, expected one for {kinds} only; leave it out")


def read_json_lines(name: str) -> RawTable:
    """Read JSON lines, split at newline characters only; blank lines count but hold no record.

    Args:
        name: The file. A byte order mark and Windows line ends are tolerated.

    Returns:
        The rows, with a defect for each line that is not one JSON object in UTF-8 without NUL.
    """
    table = RawTable(name, sha256=sha256_of(name))
    parse = _row_parser()
    rows, lines = [], []
    for line, raw in _raw_lines(name):
        if not raw.strip():
            continue
        try:
            rows.append(parse(raw))
            lines.append(line)
        except (ValueError, RecursionError) as error:
            table.defects.append(_line_defect(line, raw, error))
        if len(rows) == CHUNK:
            table.extend(rows, lines)
            rows, lines = [], []
    table.extend(rows, lines)
    return table


def _raw_lines(name: str) -> Iterator[tuple[int, bytes]]:
    with open(name, "rb") as file:
        for line, raw in enumerate(file, start=1):
            yield line, raw.removeprefix(BOM) if line == 1 else raw


def _row_parser() -> Callable[[bytes], dict[str, Any]]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        row = dict(pairs)
        if len(row) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"the field {show(twice)} twice")
        return row

    decode = json.JSONDecoder(object_pairs_hook=unique).decode
    known: set[str] = set()

    def parse(raw: bytes) -> dict[str, Any]:
        if b"\0" in raw:
            raise ValueError(f"a NUL character at byte {raw.index(0) + 1}")
        row = decode(raw.decode("utf-8").strip())
        if not isinstance(row, dict):
            raise RecordError(f"a JSON {type(row).__name__}, {show(row)}")
        if not row.keys() <= known:
            known.update(filter(_usable_name, row))
            if not row.keys() <= known:
                raise ValueError("a field whose name is empty or not text")
        return row

    return parse


def _usable_name(name: str) -> bool:
    return bool(name.strip()) and not re.search("[\0\ud800-\udfff]", name)


def _line_defect(line: int, raw: bytes, error: Exception) -> Defect:
    expected, advice = "one JSON object a line", "correct the line"
    if isinstance(error, UnicodeDecodeError):
        found = f"byte 0x{raw[error.start]:02x} at position {error.start + 1}, which is not UTF-8"
        expected, advice = "UTF-8 text", "save the file as UTF-8"
    elif isinstance(error, json.JSONDecodeError):
        found = f"{show(raw.decode('utf-8').strip())} (bad JSON: {error.msg} at character {error.colno})"
    else:
        found = "too deep a nesting" if isinstance(error, RecursionError) else str(error)
    text = raw.decode("utf-8", "backslashreplace").rstrip("\r\n")
    return Defect(line, "", found, expected, advice, FATAL, raw=text)


def _read_delimited(name: str, delimiter: str) -> RawTable:
    table = RawTable(name, sha256=sha256_of(name))
    rows = _delimited_rows(table, delimiter)
    _, header = next(rows, (0, []))
    body = list(rows)
    table.lines = [line for line, _ in body]
    columns = zip(*(row for _, row in body), strict=True) if body else ([] for _ in header)
    table.columns = {column: list(values) for column, values in zip(header, columns, strict=True)}
    ids = table.columns.get("id", [])
    if ids and all(map(INTEGER.fullmatch, ids)):
        table.columns["id"] = [int(value) for value in ids]
    return table


def _delimited_rows(table: RawTable, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    # Bad bytes become lone surrogates here, so that the check of the fields can name the field they are in.
    text_lines = (raw.decode("utf-8", "surrogateescape") for _, raw in _raw_lines(table.name))
    reader = csv.reader(text_lines, delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            table.defects.append(_column_defect(line, f"a row that does not parse ({error})", header))
            continue
        if not row:
            continue
        header = header or _checked_header(table.name, line, row)
        if len(row) == len(header):
            yield line, row
        else:
            table.defects.append(_column_defect(line, f"{len(row)} columns", header, delimiter.join(row)))


def _checked_header(name: str, line: int, header: list[str]) -> list[str]:
    bad = [column for column in header if not _usable_name(column) or header.count(column) > 1]
    if bad:
        found = f"the column name {show(bad[0])}{' twice' if _usable_name(bad[0]) else ''}"
        raise RecordError(f"{name}:{line}: found {found}, expected a header of distinct names; correct the header")
    return header


def _column_defect(line: int, found: str, header: list[str], raw: str | None = None) -> Defect:
    expected = f"{len(header)} columns as in the header" if header else "a header"
    advice = "put a text that holds the delimiter, a quote or a newline in quotes, and double the quotes in it"
    return Defect(line, "", found, expected, advice, FATAL, raw=raw)


def _read_parquet(name: str) -> RawTable:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Not pq.read_table: that one invents columns from folder names such as `fold=0/`.
        with pq.ParquetFile(name) as file:
            return _from_arrow(name, file.read(), sha256_of(name))
    except RecordError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _unreadable(name, error, "a Parquet file") from error


def _read_folder(name: str, split: str | None) -> RawTable:
    import datasets
    import pyarrow as pa

    try:
        data = _pick_split(name, datasets.load_from_disk(name), split)
        return _from_arrow(name, data.with_format("arrow")[:], sha256_of(name))
    except RecordError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, pa.ArrowException) as error:
        raise _unreadable(name, error, "a folder written by datasets.save_to_disk") from error


def _read_hub(name: str, split: str | None, revision: str | None) -> RawTable:
    import datasets
    import pyarrow as pa

    try:
        data = _pick_split(name, datasets.load_dataset(name, split=split, revision=revision), split)
        table = _from_arrow(name, data.with_format("arrow")[:], "")
    except RecordError:
        raise
    except (OSError, ValueError, RuntimeError, pa.ArrowException) as error:
        raise _unreadable(name, error, "a file or folder here, or a data set of the Hub") from error
    rows = b"".join(json_line(table.row(position)) for position in range(len(table.lines)))
    table.sha256 = hashlib.sha256(rows).hexdigest()
    return table


def _pick_split(name: str, data: Any, split: str | None) -> Any:
    if not isinstance(data, dict):
        return data
    if split is None and len(data) == 1:
        return next(iter(data.values()))
    if split not in data:
        found = "no split named" if split is None else f"split {split!r}"
        raise RecordError(f"{name}: found {found}, expected one of {', '.join(data)}; choose a split")
    return data[split]


def _from_arrow(name: str, data: Any, sha256: str) -> RawTable:
    names = [column for column in data.column_names if not re.fullmatch(r"__index_level_\d+__", column)]
    if bad := [column for column in names if not _usable_name(column) or names.count(column) > 1]:
        raise RecordError(f"{name}: found the column {show(bad[0])}, expected distinct names; rename it")
    columns = {column: data.column(column).to_pylist() for column in names}
    return RawTable(name, columns, list(range(1, data.num_rows + 1)), sha256=sha256)


def _unreadable(name: str, error: Exception, expected: str) -> RecordError:
    told = " ".join(str(error).split())[:300]
    return RecordError(
        f"{name}: found {type(error).__name__} ({told}), expected {expected}; check the name and content"
    )


READERS: dict[str, Callable[[str], RawTable]] = {
    ".txt": read_json_lines,
    ".jsonl": read_json_lines,
    ".json": read_json_lines,
    ".csv": lambda name: _read_delimited(name, ","),
    ".tsv": lambda name: _read_delimited(name, "\t"),
    ".parquet": _read_parquet,
}
