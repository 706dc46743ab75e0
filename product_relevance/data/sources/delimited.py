"""Read CSV and TSV, record by record, so that a stray quote costs its own line and no other one."""

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator

from product_relevance.data.sources.defects import FATAL, Defect, RecordError, show_value
from product_relevance.data.sources.dialects import BACKSLASH, Dialect
from product_relevance.data.sources.encodings import raw_lines
from product_relevance.data.sources.tables import RawTable, require_kind_of_name, usable_name
from product_relevance.utils.files import sha256_of

# Python integers beyond 18 digits do not fit a 64-bit column, and "007" is not the number 7.
INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
# What is inside a quoted text, as far as a line goes.
QUOTED = re.compile(r'(?:[^"]++|"")*+')
QUOTED_BACKSLASH = re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL)


def read_delimited(name: str, dialect: Dialect) -> RawTable:
    """Read a text file with a header line.

    A quoted text may hold a newline or the delimiter. One that holds both is a defect at the line where its quote
    opens, and the lines below are read as if that line were not there: it is nearly always a quote that belongs to a
    text, and the rows in between would vanish into it.

    Args:
        name: The file. A byte order mark and Windows line ends are tolerated.
        dialect: How its rows are written, see `find_dialect`.

    Returns:
        The rows as texts (ids as integers where all are), with a defect for each record that does not parse.

    Raises:
        RecordError: The header is of no use.
    """
    require_kind_of_name(name)
    table = RawTable(name, sha256=sha256_of(name))
    rows = _rows(table, dialect)
    _, header = next(rows, (0, []))
    body = list(rows)
    table.lines = [line for line, _ in body]
    columns = zip(*(row for _, row in body), strict=True) if body else ([] for _ in header)
    table.columns = {column: list(values) for column, values in zip(header, columns, strict=True)}
    ids = table.columns.get("id", [])
    if ids and all(map(INTEGER.fullmatch, ids)):
        table.columns["id"] = [int(value) for value in ids]
    return table


def _rows(table: RawTable, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    header: list[str] = []
    for line, row in _records(table.name, dialect):
        if isinstance(row, Defect):
            if not header:
                raise RecordError(row.message(table.name), [row])
            table.defects.append(row)
            continue
        header = header or _checked_header(table.name, line, row)
        if len(row) == len(header):
            yield line, row
        else:
            table.defects.append(_width_defect(line, row, len(header), dialect))


def _width_defect(line: int, row: list[str], columns: int, dialect: Dialect) -> Defect:
    found, expected = f"{len(row)} columns", f"{columns} columns as in the header"
    advice = f"put a text that holds a {dialect.name}, a quote or a newline in quotes, and double the quotes in it"
    lost = 1 + sum(value.count("\n") for value in row)
    return Defect(line, "", found, expected, advice, FATAL, raw=dialect.delimiter.join(row), lines=lost)


class _Lines:
    """Physical lines for a csv reader; those of the record that it is in are kept, to be read again if need be."""

    def __init__(self, lines: Iterable[str], dialect: Dialect) -> None:
        self._lines, self._again, self._delimiter = iter(lines), deque[str](), dialect.delimiter
        self._quoted = QUOTED_BACKSLASH if dialect.quoting == BACKSLASH else QUOTED
        self.record: list[str] = []
        self.open = 0  # how many of these lines end inside a quoted text
        self.number = 1  # of the record's first line

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        # The reader asks for one more line of a record only inside a quoted text.
        self.open = len(self.record)
        line = self._again.popleft() if self._again else next(self._lines)
        if self.open and (quoted := self._quoted.match(line)) and self._delimiter in quoted[0]:
            self._again.appendleft(line)
            raise csv.Error
        self.record.append(line)
        return line

    def finish(self, lines: int) -> list[str]:
        """Begin a new record behind the first so many lines of this one, and return those."""
        done, rest = self.record[:lines], self.record[lines:]
        self._again.extendleft(reversed(rest))
        self.number, self.record, self.open = self.number + lines, [], 0
        return done


def _records(name: str, dialect: Dialect) -> Iterator[tuple[int, list[str] | Defect]]:
    """Yield the records of a file, or what is wrong with them, by the lines where they begin; blank lines are none."""
    # Bad bytes become lone surrogates here, so that the check of the fields can name the field they are in.
    lines = _Lines((raw.decode("utf-8", "surrogateescape") for _, raw in raw_lines(name, dialect.encoding)), dialect)
    reader = dialect.reader(lines)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield _failed(lines, dialect, error)
            continue
        if len(lines.record) > 1 and (before := _lines_before(row, dialect.delimiter)) is not None:
            yield lines.number, _quote_defect(lines, before, dialect)
        elif row:
            yield lines.number, row
        lines.finish(len(lines.record))


def _failed(lines: _Lines, dialect: Dialect, error: csv.Error) -> tuple[int, Defect]:
    line, opened = lines.number, lines.record[: lines.open]
    if not opened:
        found, expected = f"a row that does not parse ({error})", "columns as in the header"
        raw = "".join(lines.finish(1)).rstrip("\r\n")
        return line, Defect(line, "", found, expected, _quotes(dialect), FATAL, raw=raw)
    # These lines end inside a quoted text, which a reader that is not strict gives as their last field.
    *before, _ = next(dialect.reader(iter(opened), strict=False))
    return line, _quote_defect(lines, sum(text.count("\n") for text in before), dialect)


def _quote_defect(lines: _Lines, before: int, dialect: Dialect) -> Defect:
    """Give up a record as far as the line whose quote is wrong; the lines below are read anew."""
    line = lines.number + before
    found = "a quote that is not closed before a newline and the next row"
    raw = "".join(lines.finish(before + 1)).rstrip("\r\n")
    return Defect(line, "", found, "a closing quote", _quotes(dialect), FATAL, raw=raw, lines=before + 1)


def _quotes(dialect: Dialect) -> str:
    needs = f"for a text that holds both a newline and a {dialect.name} take JSON lines or Parquet"
    return f"put a text that holds a quote in quotes, and double the quotes in it; {needs}"


def _lines_before(row: list[str], delimiter: str) -> int | None:
    """Return the lines of a record before the quoted text that holds a newline and the delimiter, None without one."""
    before = 0
    for text in row:
        if "\n" in text and delimiter in text:
            return before
        before += text.count("\n")
    return None


def _checked_header(name: str, line: int, header: list[str]) -> list[str]:
    header = [column.strip() for column in header]
    if header[0].startswith("{"):
        raise RecordError(f"{name}:{line}: found JSON lines, expected a header; give the file the ending .jsonl")
    if not header[0]:
        raise RecordError(
            f"{name}:{line}: found a first column without a name, as pandas writes its index, expected a header of "
            "distinct names; write the file with to_csv(..., index=False)"
        )
    if bad := [column for column in header if not usable_name(column) or header.count(column) > 1]:
        found = f"the column name {show_value(bad[0])}{' twice' if usable_name(bad[0]) else ''}"
        raise RecordError(f"{name}:{line}: found {found}, expected a header of distinct names; correct the header")
    return header
