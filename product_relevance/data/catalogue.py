"""Read a catalogue of targets and a list of queries from any file: what is ranked, and for what."""

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from product_relevance.data.sources.column_map import ColumnMap
from product_relevance.data.sources.defects import Defect, RecordError, raise_defects
from product_relevance.data.sources.encodings import find_encoding, kind_of_name, raw_lines
from product_relevance.data.sources.options import ReadingOptions
from product_relevance.data.sources.readers import read_table, require_source
from product_relevance.data.sources.record_fields import require_columns, to_record_fields
from product_relevance.data.sources.several import find_files
from product_relevance.data.sources.tables import RawTable, Source, require_kind_of_name
from product_relevance.data.sources.validation import find_list_defects, is_missing
from product_relevance.text.language_codes import normal_codes
from product_relevance.utils.tasks import TARGET_FIELD

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Catalogue:
    """Targets with their ids, which are distinct.

    Attributes:
        name: Of the file.
        ids: n texts.
        targets: n category paths or item titles.
    """

    name: str
    ids: list[str]
    targets: list[str]


@dataclass(frozen=True)
class Queries:
    """Distinct queries with their ids.

    Attributes:
        name: Of the file.
        ids: q texts.
        texts: q queries.
        languages: q codes, of the file or identified.
        translations: q English texts or None each; None where the file has none.
    """

    name: str
    ids: list[str]
    texts: list[str]
    languages: list[str]
    translations: list[str | None] | None


def read_catalogue(source: Source, task: str, on_bad_rows: str = "error") -> Catalogue:
    """Read the targets of a file.

    Args:
        source: As in `read_records`; of its columns, `target` and `id` are used. A text file without JSON has one
            target per line, and the number of the line is its id.
        task: QC or QI.
        on_bad_rows: "error" raises; "skip" leaves rows without a usable text or a new id out.

    Raises:
        RecordError: No usable row, a column that is missing, a bad row under "error".
    """
    field = TARGET_FIELD[task]
    table = read_fields(source, {"target": field}, task)
    kept = _usable_rows(table, field, on_bad_rows)
    ids, texts = table.columns["id"], table.columns[field]
    return Catalogue(table.name, [str(ids[row]) for row in kept], [texts[row].strip() for row in kept])


def read_queries(source: Source, task: str, on_bad_rows: str = "error") -> Queries:
    """Read the queries of a file; one that stands in several rows is taken once, with the id of the first.

    Args:
        source: As in `read_records`; of its columns, `query`, `language`, `translation` and `id` (or a column
            `query_id`) are used. A text file without JSON has one query per line.
        task: QC or QI.
        on_bad_rows: As in `read_catalogue`.

    Raises:
        RecordError: As in `read_catalogue`.
    """
    table = read_fields(source, {"query": "origin_query"}, task, ("language", "translation"))
    kept, columns = _usable_rows(table, "origin_query", on_bad_rows), table.columns
    first: dict[str, int] = {}
    for row in kept:
        first.setdefault(columns["origin_query"][row].strip(), row)
    if len(first) < len(kept):
        logger.info("%s: %s rows repeat a query; it is ranked once", table.name, f"{len(kept) - len(first):,}")
    rows, english = [*first.values()], columns.get("translated_query")
    codes = [code if isinstance(code := columns["language"][row], str) else "und" for row in rows]
    given = None if english is None else [None if is_missing(english[row]) else str(english[row]) for row in rows]
    return Queries(table.name, [str(columns["id"][row]) for row in rows], [*first], normal_codes(codes), given)


def read_fields(source: Source, needed: dict[str, str], task: str, others: Collection[str] = ()) -> RawTable:
    """Read a table by the columns that are asked for, with an id in each row.

    Args:
        source: Its map may name columns of other files, too.
        needed: The words of `--columns` that the file must have, and the fields that they become.
        task: QC or QI.
        others: Words that the file may have.

    Raises:
        RecordError: There is no such source, no row, or no such column.
    """
    require_source(source)
    if is_plain_text(source.name):
        return to_record_fields(_read_lines(source, next(iter(needed.values()))), ReadingOptions(), task)[0]
    raw = read_table(source)
    if not raw.lines and raw.defects:
        raise_defects(raw.name, raw.defects, "No line could be read: is this the right file?")
    if not raw.lines:
        raise RecordError(f"{raw.name}: found no row, expected at least one; check that the file is complete")
    reading = source.reading.fitting(raw.columns)
    columns = _columns_of(raw, reading.columns, needed, others)
    table, _ = to_record_fields(raw, replace(reading, columns=columns), task)
    require_columns(table, reading.columns, needed)
    return table


def is_plain_text(name: str) -> bool:
    """Return whether a file has texts or fields line by line: its name ends in .txt, and it does not begin as JSON."""
    if kind_of_name(name) != ".txt" or find_files(name, {".txt"}) is not None:
        return False
    start = require_kind_of_name(name).replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")  # marks of encodings
    return not re.match(rb"\{|\[\s*\{", start)


def _read_lines(source: Source, field: str) -> RawTable:
    encoding = source.reading.encoding or find_encoding(source.name, require_kind_of_name(source.name))
    texts = {line: raw.decode("utf-8", "surrogateescape").strip() for line, raw in raw_lines(source.name, encoding)}
    found = {line: text for line, text in texts.items() if text}
    if not found:
        raise RecordError(f"{source.name}: found no line with text, expected one text per line")
    return RawTable(source.name, {"id": [*found], field: [*found.values()]}, [*found], form=f"lines, {encoding}")


def _columns_of(raw: RawTable, given: ColumnMap, needed: dict[str, str], others: Collection[str]) -> ColumnMap:
    """Return the part of a map that concerns this file; a plain name such as `query` needs no flag."""
    asked = given.given()
    found = {word: column for word, column in asked.items() if word in needed}
    found |= {word: column for word, column in asked.items() if word in others and column in raw.columns}
    for word, field in needed.items():
        if word not in found and field not in raw.columns and word in raw.columns:
            found[word] = word
    own_id = [name for name in (asked.get("id"), "query_id" if "query" in needed else None) if name in raw.columns]
    if own_id and own_id[0]:
        found["id"] = own_id[0]
    elif "id" in asked and "target" in needed:
        found["id"] = asked["id"]  # a column that is missing is an error of the catalogue
    return ColumnMap.parse(found)


def _usable_rows(table: RawTable, field: str, on_bad_rows: str) -> list[int]:
    defects: list[Defect] = [*table.defects, *find_list_defects(table, field, target=field != "origin_query")]
    if defects and on_bad_rows == "error":
        raise_defects(table.name, defects, "Correct the file, or pass --on_bad_rows skip to leave these rows out.")
    bad: set[Any] = {defect.row for defect in defects}
    kept = [row for row in range(len(table.lines)) if row not in bad]
    if not kept:
        raise RecordError(f"{table.name}: found no usable row, expected at least one; see its first rows", defects)
    if defects:
        logger.warning("%s: %s bad rows left out, the first: %s", table.name, f"{len(bad):,}", defects[0].reason)
    return kept
