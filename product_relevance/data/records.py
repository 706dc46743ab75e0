"""Read the competition's records from any source, check every row, and say what is wrong and where."""

import json
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from product_relevance.data.sources.defects import (
    EMPTY,
    FATAL,
    Defect,
    RecordError,
    raise_defects,
    show_value,
    write_rejects,
)
from product_relevance.data.sources.duplicates import find_contradictions, resolve_duplicates
from product_relevance.data.sources.options import ReadingOptions
from product_relevance.data.sources.readers import read_table
from product_relevance.data.sources.record_fields import require_fields, to_record_fields
from product_relevance.data.sources.scales import require_scale
from product_relevance.data.sources.tables import RawTable, Source
from product_relevance.data.sources.validation import UNREADABLE, find_defects, is_missing, usable_text
from product_relevance.text.language_codes import is_code, normal_codes
from product_relevance.utils.tasks import TARGET_FIELD, TASKS

__all__ = ["ROLES", "RecordError", "read_records", "source_record"]

logger = logging.getLogger(__name__)

NO_FILE_NAME = re.compile(r"[*?,\[\]]+")  # of patterns and lists
ROLES = ("train", "test", "any")
OWN_COLUMNS = ("id", "task", "language", "origin_query", "target", "label", "defect", "original", "line")


def read_records(
    source: str | os.PathLike[str] | Source,
    *,
    task: str | None = None,
    role: str = "train",
    on_bad_rows: str = "error",
    rejects_path: str | os.PathLike[str] | None = None,
) -> pd.DataFrame:
    """Read and check one source of records.

    A test row is never dropped, since a submission needs every id. Without a query or a target it is kept in both
    modes, with the text "" and the reason in `defect`; what else is wrong with a test row stops the reading under
    "error" and is reported in `defect` under "skip"; a line whose id or task cannot be relied on always stops it.

    Args:
        source: `.txt`, `.jsonl` or `.json` (JSON lines), `.csv`, `.tsv`, `.parquet`, a folder written by
            `datasets.save_to_disk`, or (if nothing here has this name) a Hub id `org/name`; or a `Source`, which
            also names the split of a folder or Hub data set that has several, the revision of a Hub data set, and how
            columns, labels and duplicates are read. Several files are a list with commas, a pattern or a folder.
        task: "QC" or "QI"; None takes the task that most rows name, else the one that the targets look like.
        role: "train" (labels required, contradictory ones are defects), "test" (labels of no interest, no row dropped)
            or "any" (labels optional, as in evaluation files).
        on_bad_rows: "error" raises with the first ten defects; "skip" leaves bad rows out and writes each of them
            with its reason to `rejects_path`.
        rejects_path: Default: `<source's stem>.rejects.jsonl` in the current folder. Not written without rejects.

    Returns:
        One row a record, in source order: id (int64; str if one is a text), task, language (see `normal_code`; a code
        that was written in another way is in `original`), origin_query, target (str, as given), label (Int8; only if
        the source has labels), defect ("" if fine), other fields (`source_<name>` where a name is taken), original
        (JSON of the fields that had to be replaced, "" if none; see `source_record`) and line (1-based; row number
        for binary sources). Attributes: source, sha256, task, role, rejected (rows left out, and lines that are no
        row), contradictory_rows, unknown_languages (rows with each code that is none of ISO 639), rows_per_second.

    Raises:
        RecordError: A defect under "error", a source that cannot be read at all, or no usable row.
        ValueError: An option has none of its values.
    """
    started = time.perf_counter()
    _check_option("task", task, (None, *TASKS))
    _check_option("role", role, ROLES)
    _check_option("on_bad_rows", on_bad_rows, ("error", "skip"))
    table, task, reading = _read_table(source, task, role)
    defects, clashes = _find_all(table, task, role, reading.on_duplicates)
    _settle(table.name, defects, role, on_bad_rows)
    dropped = set() if role == "test" else _leave_out(table, defects, rejects_path)
    doubles = _resolve(table, task, reading.on_duplicates, dropped) if role != "test" else frozenset[int]()
    kept = [row for row in range(len(table.lines)) if row not in dropped and row not in doubles]
    frame = _frame(table, task, kept, _reasons(defects) if role == "test" else {})
    rows = len(table.lines) + sum(defect.lines for defect in table.defects)
    frame.attrs |= {"source": table.name, "sha256": table.sha256, "task": task, "role": role}
    unknown, seconds = _count_unknown(table.name, frame["language"]), time.perf_counter() - started
    frame.attrs |= {"rejected": rows - len(kept) - len(doubles), "duplicates": len(doubles)}
    frame.attrs |= {"contradictory_rows": clashes, "unknown_languages": unknown}
    frame.attrs["rows_per_second"] = round(rows / max(seconds, 1e-9))
    return frame


def _read_table(
    source: str | os.PathLike[str] | Source, task: str | None, role: str
) -> tuple[RawTable, str, ReadingOptions]:
    """Read a source into the fields of records, with the task and the options that fit it."""
    reading = source.reading if isinstance(source, Source) else ReadingOptions()
    raw = read_table(source)
    _require_rows(raw)
    reading = reading.fitting(raw.columns)
    table, found = to_record_fields(raw, reading, task)
    _require_task(table, found)
    require_fields(table, reading.columns, found, role)
    if role != "test":
        require_scale(table)
    return table, found, reading


def source_record(row: Mapping[Hashable, Any]) -> dict[str, Any]:
    """Give back a record as its source had it: the five fields in the competition's names and order.

    Args:
        row: Column name to value of one row of `read_records`' frame.

    Returns:
        id, task, language, origin_query and category_path or item_title; what was absent, null or NaN is None.
    """
    record = {name: row[name] for name in ("id", "task", "language", "origin_query")}
    record[TARGET_FIELD[row["task"]]] = row["target"]
    original: dict[str, Any] = json.loads(row.get("original") or "{}")
    return record | original


def _check_option(name: str, value: str | None, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: found {value!r}, expected one of {', '.join(map(str, allowed))}")


def _require_rows(table: RawTable) -> None:
    if table.lines:
        return
    if table.defects:
        raise_defects(table.name, table.defects, "No line could be read as a record: is this the right file?")
    raise RecordError(f"{table.name}: found no records, expected at least one; check that the file is complete")


def _require_task(table: RawTable, task: str) -> None:
    """Raise one error for a whole file of the other task."""
    other = next(name for name in TASKS if name != task)
    own, other_field = TARGET_FIELD[task], TARGET_FIELD[other]
    named = Counter(value for value in table.columns.get("task", ()) if isinstance(value, str))
    lacks = own not in table.columns
    if other_field in table.columns and (lacks or (named[other] and not named[task])):
        found = f"the field {other_field!r}" if lacks else f"{other!r} in the field 'task' of all rows"
        advice = f"it looks like a {other} file: take it for task {other}, or name a {task} file"
        raise RecordError(f"{table.name}: found {found}, expected {own!r} and {task!r}; {advice}", table.defects)


def _find_all(table: RawTable, task: str, role: str, on_duplicates: str) -> tuple[list[Defect], int]:
    defects = table.defects + list(find_defects(table, task, TARGET_FIELD[task], role))
    bad = {defect.row for defect in defects}
    clashes = list(find_contradictions(table, TARGET_FIELD[task], bad))
    if role == "train" and on_duplicates == "error":
        defects += clashes
    elif clashes and on_duplicates in ("error", "keep"):
        logger.warning("%s: %s rows belong to pairs that have several labels", table.name, f"{len(clashes):,}")
    return defects, len(clashes)


def _resolve(table: RawTable, task: str, how: str, dropped: set[int]) -> frozenset[int]:
    """Settle rows of the same query and target as it was asked for; return the rows that others stand for."""
    if how in ("error", "keep"):
        return frozenset()
    found = resolve_duplicates(table, TARGET_FIELD[task], how, dropped)
    table.labels[:] = found.labels
    logger.warning(
        "%s: %s rows of the same query and target left out (%s), %s others have another label now",
        *(table.name, f"{len(found.left_out):,}", how, f"{found.changed:,}"),
    )
    return found.left_out


def _settle(name: str, defects: list[Defect], role: str, on_bad_rows: str) -> None:
    """Raise, or warn about the test rows whose defects the mode lets pass."""
    if role != "test":
        if defects and on_bad_rows == "error":
            raise_defects(name, defects, "Correct the source, or pass --on_bad_rows skip to leave these rows out.")
        return
    if fatal := [defect for defect in defects if defect.reach == FATAL]:
        raise_defects(
            name, fatal, "A test row cannot be skipped, since a submission needs every id: correct the source."
        )
    worse = [defect for defect in defects if defect.reach != EMPTY]
    if worse and on_bad_rows == "error":
        raise_defects(name, worse, "Correct the source, or pass --on_bad_rows skip to predict with what is left.")
    if defects:
        count = len({defect.row for defect in defects})
        logger.warning("%s: %s test rows have a defect and are kept", name, f"{count:,}")


def _leave_out(table: RawTable, defects: list[Defect], rejects_path: str | os.PathLike[str] | None) -> set[int]:
    dropped = {defect.row for defect in defects if defect.row >= 0}
    if defects:
        path = rejects_path or f"{NO_FILE_NAME.sub('_', Path(table.name).stem)}.rejects.jsonl"
        write_rejects(path, table.name, defects, {row: table.row(row) for row in dropped})
    if len(dropped) == len(table.lines):
        raise RecordError(f"{table.name}: found no usable row, expected at least one; see the rejected rows", defects)
    return dropped


def _reasons(defects: Iterable[Defect]) -> dict[int, str]:
    reasons: dict[int, str] = {}
    for defect in defects:
        reasons[defect.row] = f"{reasons[defect.row]}; {defect.reason}" if defect.row in reasons else defect.reason
    return reasons


def _frame(table: RawTable, task: str, kept: list[int], reasons: dict[int, str]) -> pd.DataFrame:
    columns = {name: [values[row] for row in kept] for name, values in table.columns.items()}
    texts = {"language": "language", "origin_query": "origin_query", "target": TARGET_FIELD[task]}
    # Only test tables have reasons, and those are whole: a row's position is the same here as in the table.
    original = _mend(columns, TARGET_FIELD[task], reasons)
    _use_one_form(columns["language"], original)
    frame = {"id": _ids(columns["id"], original)}
    frame["task"] = pd.Series(columns["task"], dtype="str")
    for name, field in texts.items():
        frame[name] = pd.Series(columns[field], dtype="str")
    labels = [table.labels[row] for row in kept] if "label" in columns else []
    if any(label is not None for label in labels):
        frame["label"] = pd.Series(labels, dtype="Int8")
    frame["defect"] = pd.Series([reasons.get(row, "") for row in range(len(kept))], dtype="str")
    for name in [name for name in columns if name not in {"id", "task", "label", *texts.values()}]:
        values = [None if is_missing(value) else value for value in columns[name]]
        frame[_free_name(name, columns)] = pd.Series(values, dtype=object).infer_objects()
    was = {row: json.dumps(fields, default=str) for row, fields in original.items()}
    frame["original"] = pd.Series([was.get(row, "") for row in range(len(kept))], dtype="str")
    frame["line"] = pd.Series([table.lines[row] for row in kept], dtype="int64")
    return pd.DataFrame(frame)


def _use_one_form(languages: list[str], original: dict[int, dict[str, Any]]) -> None:
    """Write each language in one form; note in `original` the codes that were written in another."""
    for row, (code, given) in enumerate(zip(normal_codes(languages), languages, strict=True)):
        if code != given:
            original.setdefault(row, {}).setdefault("language", given)
            languages[row] = code


def _count_unknown(name: str, languages: pd.Series) -> dict[str, int]:
    counts = {str(code): int(n) for code, n in languages.value_counts().items()}
    unknown = {code: n for code, n in counts.items() if code and not is_code(code)}
    if unknown:
        found = ", ".join(f"{show_value(code)} {n:,}" for code, n in list(unknown.items())[:10])
        message = "%s: field 'language': %s rows have codes that are none of ISO 639, each kept as a language: %s"
        logger.warning(message, name, f"{sum(unknown.values()):,}", found)
    return unknown


def _ids(ids: list[int | str], original: dict[int, dict[str, Any]]) -> pd.Series:
    """Make a column of one type, so that Parquet can hold it; note in `original` the ids that had another one."""
    column = pd.Series(ids, dtype=object).infer_objects()
    if column.dtype == "int64" or all(isinstance(value, str) for value in ids):
        return column
    for row, value in enumerate(ids):
        if isinstance(value, int):
            original.setdefault(row, {})["id"] = value
    return pd.Series([str(value) for value in ids], dtype="str")


def _mend(columns: dict[str, list[Any]], target_field: str, rows: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Put usable texts into the rows that have a defect; return what was there, by row."""
    originals: dict[int, dict[str, Any]] = {}
    for row in rows:
        was = {}
        for field in columns.keys() - {"id", "task", "label"}:
            value = columns[field][row]
            if field in ("language", "origin_query", target_field):
                columns[field][row] = usable_text(value, is_target=field == target_field)
                if columns[field][row] != value:
                    was[field] = None if is_missing(value) else value
            elif isinstance(value, str):
                columns[field][row] = UNREADABLE.sub("", value)
        if was:
            originals[row] = was
    return originals


def _free_name(name: str, columns: dict[str, list[Any]]) -> str:
    free = name
    while free in OWN_COLUMNS or (free != name and free in columns):
        free = f"source_{free}"
    return free
