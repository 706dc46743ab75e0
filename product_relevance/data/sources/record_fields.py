"""Give a table the fields of a record: columns are renamed; id, task and language are made if they are missing."""

import logging
from collections import Counter
from dataclasses import replace
from typing import Any

from product_relevance.data.sources.column_map import FIELDS, ColumnMap
from product_relevance.data.sources.defects import RecordError, show_value
from product_relevance.data.sources.guesses import guess_columns
from product_relevance.data.sources.options import ReadingOptions
from product_relevance.data.sources.several import distinguish_ids
from product_relevance.data.sources.tables import ABSENT, RawTable
from product_relevance.text.languages import identify_languages
from product_relevance.text.path_format import path_separators
from product_relevance.utils.tasks import TARGET_FIELD, TASKS

logger = logging.getLogger(__name__)

SAMPLE = 10_000  # targets that show whether they are paths
SHOWN_NAMES = 40  # of columns in a message


def to_record_fields(table: RawTable, reading: ReadingOptions, task: str | None = None) -> tuple[RawTable, str]:
    """Rename the columns of a table to those of a record, and make those that may be missing.

    Args:
        table: As read.
        reading: Which column holds what, and how labels are read.
        task: QC or QI; None takes the one that most rows name, else the one that the targets look like.

    Returns:
        (a table of the same rows, its task). Its `given` has the columns as they were.

    Raises:
        RecordError: A column of the map is not there, or the task of the rows cannot be known.
    """
    for name, column in reading.columns.given().items():
        if column and column not in table.columns:
            raise RecordError(f"{table.name}: {_no_column(table, reading.columns, name, column)}", table.defects)
    task = task or _find_task(table, reading.columns)
    columns = _renamed(table, reading.columns, TARGET_FIELD[task])
    made = replace(table, columns=columns, given=table.columns, scale=reading.scale)
    rows = len(table.lines)
    if "id" not in columns and not reading.number_rows:
        raise RecordError(
            f"{table.name}: field 'id': found no column of ids, expected one, since a shard cannot number its rows; "
            "name it with --columns id=COLUMN when the file is prepared"
        )
    if "id" not in columns:
        columns["id"] = list(range(1, rows + 1))
        logger.warning("%s: has no column of ids: each row gets its number as its id, from 1 on", table.name)
    elif (ids := distinguish_ids(table, columns["id"])) != columns["id"]:
        columns["id"] = ids
        logger.warning("%s: files use the same ids: each id has its file's name in front, as %s", table.name, ids[0])
    if "task" not in columns:
        columns["task"] = [task] * rows
    if "language" not in columns and "origin_query" in columns:
        columns["language"] = _identified(table.name, columns["origin_query"])
    return made, task


def require_fields(table: RawTable, columns: ColumnMap, task: str, role: str) -> None:
    """Raise one error for a field that no row has.

    Args:
        table: Of `to_record_fields`.
        columns: The map that it was made by.
        task: QC or QI.
        role: Only "train" needs labels.

    Raises:
        RecordError: With the columns that are there, and the flag that names the right ones.
    """
    needed = {"query": "origin_query", "target": TARGET_FIELD[task]} | ({"label": "label"} if role == "train" else {})
    require_columns(table, columns, needed)


def require_columns(table: RawTable, columns: ColumnMap, needed: dict[str, str]) -> None:
    """Raise one error for the columns that a table lacks.

    Args:
        table: Of `to_record_fields`.
        columns: The map that it was made by.
        needed: The words of `--columns` to the fields that have to be there.

    Raises:
        RecordError: With the columns that are there, and the flag that names the right ones.
    """
    missing = {word: field for word, field in needed.items() if field not in table.columns}
    if not missing:
        return
    names = list(table.given or table.columns)
    free = [name for name in names if name not in columns.given().values()]
    guessed = guess_columns(free, missing)
    found = ColumnMap.parse(columns.given() | {word: guessed.get(word, "COLUMN") for word in missing})
    hint = "" if len(guessed) == len(missing) else ", with the column's own name in place of COLUMN"
    raise RecordError(
        f"{table.name}: field {next(iter(missing.values()))!r}: found no row that has it (there are: "
        f"{_listed(names)}), expected it in each row; name the columns with --columns {found.flag()}{hint}",
        table.defects,
    )


def guess_task(targets: list[Any]) -> str:
    """Return QC if most targets have levels with a separator between, as category paths have, else QI."""
    texts = [text for text in targets[:SAMPLE] if isinstance(text, str)]
    return "QC" if texts and path_separators(texts) else "QI"


def main_task(table: RawTable) -> str | None:
    """Return the task that most rows name; None where none does."""
    counts = Counter(value for value in table.columns.get("task", ()) if isinstance(value, str) and value in TASKS)
    return counts.most_common(1)[0][0] if counts else None


def _find_task(table: RawTable, columns: ColumnMap) -> str:
    named = columns.task if columns.task is not None else "task"
    if named in table.columns:
        task = main_task(replace(table, columns={"task": table.columns[named]}))
        if task is not None:
            return task
        found = next((show_value(value) for value in table.columns[named] if value is not ABSENT), "nothing")
        advice = "correct it, or give --columns task= if this column is something else"
        raise RecordError(f"{table.name}: field 'task': found {found}, expected QC or QI in each row; {advice}")
    if columns.target is None:
        own = [task for task, field in TARGET_FIELD.items() if field in table.columns]
        if len(own) == 1:
            return own[0]
        return _guess_by(table, [name for name in ("target", "origin_query") if name in table.columns])
    return _guess_by(table, [columns.target])


def _guess_by(table: RawTable, names: list[str]) -> str:
    if not names or names == ["origin_query"]:
        return "QI"  # without a target: `require_fields` says so
    task = guess_task(table.columns[names[0]])
    kind = "category paths: the task is QC" if task == "QC" else "item titles: the task is QI"
    logger.warning("%s: the column %r is read as %s", table.name, names[0], kind)
    return task


def _renamed(table: RawTable, columns: ColumnMap, target_field: str) -> dict[str, list[Any]]:
    """Return the columns by the names of a record's fields; an own name that holds something else gets another one."""
    given = columns.given()
    if not given:
        return dict(table.columns)
    fields = FIELDS | {"target": target_field}
    taken = {fields[name]: column for name, column in given.items()}
    found = {field: table.columns[column] for field, column in taken.items() if column}
    for name, values in table.columns.items():
        if name not in taken.values():
            found[_free_name(name, found, taken)] = values
    return found


def _free_name(name: str, found: dict[str, list[Any]], taken: dict[str, str]) -> str:
    while name in found or name in taken:
        name = f"source_{name}"
    return name


def _no_column(table: RawTable, columns: ColumnMap, name: str, column: str) -> str:
    names = list(table.columns)
    best = guess_columns(names, [name]).get(name)
    advice = f"; did you mean {name}={best}?" if best else ""
    return f"--columns {name}={column}: found no column {column!r} (there are: {_listed(names)}), expected one{advice}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return (", ".join(map(show_value, names[:SHOWN_NAMES])) or "no field at all") + more


def _identified(name: str, queries: list[Any]) -> list[str]:
    """Return the language of each query; that of what is no text is "und"."""
    distinct = list(dict.fromkeys(query for query in queries if isinstance(query, str)))
    codes = dict(zip(distinct, identify_languages(distinct), strict=True))
    found = [codes[query] if isinstance(query, str) else "und" for query in queries]
    counts = ", ".join(f"{code} {n:,}" for code, n in Counter(found).most_common(8))
    logger.warning("%s: has no column of languages: those of the queries are identified: %s", name, counts)
    return found
