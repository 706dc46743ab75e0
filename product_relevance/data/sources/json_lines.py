"""Read JSON lines into a table of raw values; a line that is no JSON object becomes a defect."""

import json
import re
from collections.abc import Callable
from typing import Any

from product_relevance.data.sources.defects import FATAL, Defect, RecordError, show_value
from product_relevance.data.sources.encodings import find_encoding, raw_lines
from product_relevance.data.sources.options import ReadingOptions
from product_relevance.data.sources.tables import RawTable, require_kind_of_name, usable_name
from product_relevance.utils.files import sha256_of

CHUNK = 10_000

COLUMNS_OF_JSON = re.compile(rb'\{\s*"(id|task|language|origin_query|category_path|item_title|label)"\s*:\s*\{')


def read_json_lines(name: str, reading: ReadingOptions | None = None) -> RawTable:
    """Read JSON lines, split at newline characters only; blank lines count but hold no record.

    Args:
        name: The file. A byte order mark and Windows line ends are tolerated.
        reading: May name its encoding, which else is UTF-8 or UTF-16.

    Returns:
        The rows, with a defect for each line that is not one JSON object in UTF-8 without NUL.

    Raises:
        RecordError: The whole file is something else.
    """
    encoding = reading.encoding if reading else None
    encoding = encoding or find_encoding(name, require_kind_of_name(name), windows=False)
    table = RawTable(name, sha256=sha256_of(name), form=f"JSON lines, {encoding}")
    parse = _row_parser()
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    for line, raw in raw_lines(name, encoding):
        if not raw.strip():
            continue
        if not (table.lines or rows or table.defects):
            _reject_whole_file(name, raw.strip())
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


def _reject_whole_file(name: str, first: bytes) -> None:
    """Raise one error for a file of JSON that is not JSON lines, by its first line that is not blank."""
    if first.startswith(b"["):
        found, advice = "a JSON array", f"convert it: jq -c '.[]' {name}"
    elif first == b"{":
        found, advice = "a JSON object over several lines", f"convert it: jq -c . {name}"
    elif COLUMNS_OF_JSON.match(first):
        found, advice = "a JSON object of whole columns", "write it with to_json(..., orient='records', lines=True)"
    elif b"origin_query" in first and not first.startswith(b"{"):
        found, advice = "a header, as CSV and TSV have it", "give the file the ending .csv or .tsv"
    else:
        return
    raise RecordError(f"{name}: found {found}, expected JSON lines, one object a line; {advice}")


def _row_parser() -> Callable[[bytes], dict[str, Any]]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        row = dict(pairs)
        if len(row) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"the field {show_value(twice)} twice")
        return row

    decode = json.JSONDecoder(object_pairs_hook=unique).decode
    known: set[str] = set()

    def parse(raw: bytes) -> dict[str, Any]:
        if b"\0" in raw:
            raise ValueError(f"a NUL character at byte {raw.index(0) + 1}")
        row = decode(raw.decode("utf-8").strip(" \t\r\n"))  # what JSON has between values, and no more
        if not isinstance(row, dict):
            raise RecordError(f"a JSON {type(row).__name__}, {show_value(row)}")
        if not row.keys() <= known:
            known.update(filter(usable_name, row))
            if not row.keys() <= known:
                raise ValueError("a field whose name is empty or not text")
        return row

    return parse


def _line_defect(line: int, raw: bytes, error: Exception) -> Defect:
    expected, advice = "one JSON object a line", "correct the line"
    if isinstance(error, UnicodeDecodeError):
        found = f"byte 0x{raw[error.start]:02x} at position {error.start + 1}, which is not UTF-8"
        expected, advice = "UTF-8 text", "save the file as UTF-8"
    elif isinstance(error, json.JSONDecodeError):
        found = f"{show_value(raw.decode('utf-8').strip())} (bad JSON: {error.msg} at character {error.colno})"
    else:
        found = "too deep a nesting" if isinstance(error, RecursionError) else str(error)
    text = raw.decode("utf-8", "backslashreplace").rstrip("\r\n")
    return Defect(line, "", found, expected, advice, FATAL, raw=text)
