"""Write, check, compare and pack submissions in the competition's format."""

import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from product_relevance.data.records import read_records, source_record
from product_relevance.data.sources.defects import RecordError, show_value
from product_relevance.data.sources.dialects import find_dialect
from product_relevance.data.sources.encodings import BOM, find_encoding, kind_of_name, raw_lines
from product_relevance.data.sources.json_lines import read_json_lines
from product_relevance.data.sources.options import ReadingOptions
from product_relevance.data.sources.tables import RawTable, Source, require_kind_of_name
from product_relevance.data.sources.validation import is_missing
from product_relevance.utils.files import atomic_write, json_line
from product_relevance.utils.tasks import TARGET_FIELD, TASKS

SUBMISSION_FILES = tuple(f"submit_{task}.txt" for task in TASKS)
SHOWN_IDS = 5
LINES = (".txt", ".jsonl", ".json")
DELIMITERS = {".csv": ",", ".tsv": "\t"}


def write_submission(records: pd.DataFrame, predictions: Sequence[int], path: str | os.PathLike[str]) -> Path:
    """Write predictions in the competition's format, one JSON line a record, in the records' order.

    A line holds id, task, language, origin_query, category_path or item_title, and prediction. All but the
    prediction are what the source had, also where `read_records` put "" for an unusable text: a title "nan" is
    written as "nan" again, and one that was null, NaN or absent as null.

    Args:
        records: From `read_records`.
        predictions: Shape (n,), 0 or 1 (or booleans), by position.
        path: The file to write, whole or not at all.

    Returns:
        The path.

    Raises:
        ValueError: There are more or fewer predictions than records, or one is not 0 or 1.
    """
    rows = join_predictions(records, predictions)
    with atomic_write(path, "wb") as file:
        for row in rows:
            file.write(json_line(row))
    return Path(path)


def join_predictions(records: pd.DataFrame, predictions: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Return the fields of each record with its prediction; arguments and errors as in `write_submission`."""
    values = _checked_predictions(predictions, len(records))
    columns = ["id", "task", "language", "origin_query", "target", "original"]
    rows = records.reindex(columns=columns, fill_value="").to_dict("records")
    return (source_record(row) | {"prediction": value} for row, value in zip(rows, values, strict=True))


def _checked_predictions(predictions: Sequence[int], rows: int) -> list[int]:
    values = np.asarray(predictions)
    if values.shape != (rows,):
        raise ValueError(f"predictions: found shape {values.shape}, expected ({rows},), one for each record")
    if rows and values.dtype.kind not in "biu":
        raise ValueError(f"predictions: found {values.dtype} values, expected 0 or 1; apply the threshold to scores")
    if bad := set(values.tolist()) - {0, 1}:
        raise ValueError(f"predictions: found {show_value(bad.pop())}, expected 0 or 1")
    return [int(value) for value in values]


def check_submission(
    source_file: str | os.PathLike[str] | Source, submission_file: str | os.PathLike[str]
) -> list[str]:
    """Compare a submission with the file it answers.

    Args:
        source_file: The test records, in any form that `read_records` knows.
        submission_file: JSON lines. Their order may differ from the source's.

    Returns:
        The defects, as `file:line: field 'x': found ..., expected ...`; empty if the submission may be uploaded.

    Raises:
        RecordError: The source itself cannot be used.
    """
    records = read_records(source_file, role="test", on_bad_rows="skip")
    expected = {str(row["id"]): source_record(row) for row in records.to_dict("records")}
    name = os.fspath(submission_file)
    if not os.path.isfile(name):
        return [f"{name}: found no such file, expected a submission"]
    try:
        table = read_json_lines(name)
    except RecordError as error:
        return [str(error)]
    if other := _other_task(table, records.attrs["task"]):
        return [
            f"{name}: found a submission for {other}, expected one for {records.attrs['task']} as in {source_file}"
        ]
    messages = [(0, text) for text in _uncounted_rows(source_file, len(records))]
    messages += _layout_defects(name) + [(defect.line, defect.message(name)) for defect in table.defects]
    first_lines: dict[str, int] = {}
    for position, line in enumerate(table.lines):
        row = table.row(position)
        messages += [(line, f"{name}:{line}: {text}") for text in _row_defects(row, expected)]
        key = str(row.get("id", ""))
        if key in expected and first_lines.setdefault(key, line) != line:
            text = (
                f"field 'id': found {show_value(key)} again, expected each id once; first in line {first_lines[key]}"
            )
            messages.append((line, f"{name}:{line}: {text}"))
    lost = [show_value(row["id"]) for key, row in expected.items() if key not in first_lines]
    if lost:
        some = ", ".join(lost[:SHOWN_IDS]) + (", ..." if len(lost) > SHOWN_IDS else "")
        messages.append(
            (0, f"{name}: found no line for {len(lost):,} ids ({some}), expected every id of {source_file}")
        )
    return [text for _, text in sorted(messages, key=lambda item: item[0])]


def _other_task(table: RawTable, task: str) -> str | None:
    tasks = {value for value in table.columns.get("task", ()) if isinstance(value, str)}
    return next(iter(tasks)) if len(tasks) == 1 and tasks <= set(TASKS) - {task} else None


def _uncounted_rows(source: str | os.PathLike[str] | Source, records: int) -> list[str]:
    """Count the rows of a text file without its reader: a line with as many delimiters as the header is one."""
    name, suffix = os.fspath(source), kind_of_name(os.fspath(source))
    if not os.path.isfile(name) or suffix not in (*LINES, *DELIMITERS):
        return []
    asked = source.reading if isinstance(source, Source) else ReadingOptions()
    encoding = asked.encoding or find_encoding(name, require_kind_of_name(name), windows=suffix in DELIMITERS)
    lines = (line for _, line in raw_lines(name, encoding))
    if suffix in LINES:
        rows = sum(bool(line.strip()) for line in lines)
    else:
        delimiter = find_dialect(name, DELIMITERS[suffix], encoding, asked.delimiter).delimiter.encode()
        width = next(lines, b"").count(delimiter)
        rows = sum(line.count(delimiter) >= width for line in lines)
    if rows <= records:
        return []
    return [f"{name}: found {rows:,} lines that look like rows, expected {records:,}, as many as were read as records"]


def _layout_defects(name: str) -> list[tuple[int, str]]:
    messages = []
    with open(name, "rb") as file:
        for line, raw in enumerate(file, start=1):
            if line == 1 and raw.startswith(BOM):
                messages.append((line, f"{name}:1: found a byte order mark, expected plain UTF-8"))
            if not raw.removeprefix(BOM).strip():
                messages.append((line, f"{name}:{line}: found a blank line, expected a record"))
    return messages


def _row_defects(row: dict[str, Any], expected: dict[str, dict[str, Any]]) -> list[str]:
    source = expected.get(str(row.get("id", "")))
    if source is None:
        return [f"field 'id': found {show_value(row.get('id'))}, expected an id of the source"]
    messages = [f"field {name!r}: found nothing, expected it" for name in [*source, "prediction"] if name not in row]
    for name, value in row.items():
        if name == "prediction":
            if type(value) is not int or value not in (0, 1):
                messages.append(f"field 'prediction': found {show_value(value)}, expected the number 0 or 1")
        elif name not in source:
            messages.append(f"field {name!r}: found {show_value(value)}, expected no such field")
        elif not _same(value, source[name]):
            messages.append(
                f"field {name!r}: found {show_value(value)}, expected {show_value(source[name])} as in the source"
            )
    return messages


def _same(value: Any, expected: Any) -> bool:
    if is_missing(value) or is_missing(expected):
        return is_missing(value) and is_missing(expected)
    return type(value) is type(expected) and value == expected


def compare_submissions(a: str | os.PathLike[str], b: str | os.PathLike[str], examples: int = 10) -> dict[str, Any]:
    """Count how often two submissions for the same records differ.

    Args:
        a: A submission.
        b: Another one, in any order.
        examples: How many differing records to show, at most.

    Returns:
        rows, differing, share (0 to 1), by_language (language -> rows, differing, share; largest share first) and
        examples (the fields of a record, with the predictions as `a` and `b`), in the order of `a`.

    Raises:
        RecordError: A file is no submission, or their ids or tasks differ.
    """
    first, second = _read_submission(a), _read_submission(b)
    if only := first.keys() ^ second.keys():
        some = ", ".join(sorted(only)[:SHOWN_IDS])
        raise RecordError(f"{a}, {b}: found {len(only):,} ids in one only ({some}), expected the same ids in both")
    rows = pd.DataFrame(
        {
            "language": [str(row.get("language")) for row in first.values()],
            "differs": [row["prediction"] != second[key]["prediction"] for key, row in first.items()],
        }
    )
    by_language = rows.groupby("language")["differs"].agg(["size", "sum", "mean"]).sort_values("mean", ascending=False)
    shown = [key for key, differs in zip(first, rows["differs"], strict=True) if differs][:examples]
    return {
        "rows": len(rows),
        "differing": int(rows["differs"].sum()),
        "share": float(rows["differs"].mean()),
        "by_language": {
            str(code): {"rows": int(row["size"]), "differing": int(row["sum"]), "share": float(row["mean"])}
            for code, row in by_language.to_dict("index").items()
        },
        "examples": [_example(first[key], second[key]) for key in shown],
    }


def _example(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in a.items() if name != "prediction"}
    return fields | {"a": a["prediction"], "b": b["prediction"]}


def _read_submission(path: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    name = os.fspath(path)
    if not os.path.isfile(name):
        raise RecordError(f"{name}: found no such file, expected a submission")
    table = read_json_lines(name)
    if table.defects or not table.lines:
        message = (
            table.defects[0].message(name) if table.defects else f"{name}: found no records, expected a submission"
        )
        raise RecordError(message)
    rows: dict[str, dict[str, Any]] = {}
    for position, line in enumerate(table.lines):
        row = table.row(position)
        if type(row.get("prediction")) is not int or row["prediction"] not in (0, 1):
            found = show_value(row.get("prediction"))
            raise RecordError(f"{name}:{line}: field 'prediction': found {found}, expected the number 0 or 1")
        key = f"{row.get('task')} {row.get('id')}"
        if "id" not in row or rows.setdefault(key, row) is not row:
            raise RecordError(f"{name}:{line}: field 'id': found {show_value(row.get('id'))}, expected each id once")
    return rows


def _require_task(path: Path) -> None:
    """Raise an error for a submission that holds records of another task than its name says."""
    named, table = path.stem.removeprefix("submit_"), read_json_lines(os.fspath(path))
    for position, line in enumerate(table.lines):
        row = table.row(position)
        for task in TASKS:
            if task != named and (row.get("task") == task or TARGET_FIELD[task] in row):
                raise ValueError(
                    f"{path}:{line}: found a record of {task}, expected {named} by the file's name; name each file by "
                    "the task of its records"
                )


def zip_submission(
    paths: Iterable[str | os.PathLike[str]], output: str | os.PathLike[str] = "submit.zip", *, overwrite: bool = False
) -> Path:
    """Pack the submissions for upload. The same files always give the same bytes.

    Args:
        paths: `submit_QC.txt` and `submit_QI.txt`, in any folder; one of them alone is packed with a notice.
        output: The archive to write, whole or not at all.
        overwrite: Whether an archive that exists may be replaced.

    Returns:
        The archive's path.

    Raises:
        ValueError: A file is missing, empty, of the other task, named otherwise or given twice, or the archive exists.
    """
    files = sorted((Path(path) for path in paths), key=lambda path: path.name)
    names = [path.name for path in files]
    if not files or len(set(names)) < len(names) or not set(names) <= set(SUBMISSION_FILES):
        raise ValueError(
            f"found {', '.join(names) or 'no file'}, expected {' and '.join(SUBMISSION_FILES)}; rename them"
        )
    for path in files:
        if not path.is_file() or not path.stat().st_size:
            raise ValueError(
                f"{path}: found {'an empty' if path.is_file() else 'no such'} file, expected a submission"
            )
        _require_task(path)
    if os.path.exists(output) and not overwrite:
        raise ValueError(f"{output}: found an archive of this name; pass overwrite=True, or name another one")
    if len(files) == 1:
        print(f"{output} holds {names[0]} only: a complete upload holds {' and '.join(SUBMISSION_FILES)}.")
    with atomic_write(output, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for path in files:
            # A fixed date and mode, so that the archive depends on its content only.
            entry = zipfile.ZipInfo(path.name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    return Path(output)
