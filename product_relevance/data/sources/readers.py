"""Bring any kind of source into one table of raw values, with the defects of what could not be parsed."""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from product_relevance.data.sources.defects import RecordError, raise_defects, show_value
from product_relevance.data.sources.delimited import read_delimited
from product_relevance.data.sources.dialects import find_dialect
from product_relevance.data.sources.encodings import COMPRESSIONS, find_encoding, kind_of_name
from product_relevance.data.sources.json_lines import read_json_lines
from product_relevance.data.sources.options import ReadingOptions
from product_relevance.data.sources.several import find_files, join_tables
from product_relevance.data.sources.tables import RawTable, Source, require_kind_of_name, usable_name
from product_relevance.utils import console
from product_relevance.utils.files import json_line, sha256_of

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def read_table(source: str | os.PathLike[str] | Source) -> RawTable:
    """Read a file, several files, a saved `datasets` folder or a data set of the Hub, by the kind that its name shows.

    Args:
        source: `.txt`, `.jsonl` or `.json` (JSON lines), `.csv`, `.tsv`, each also with `.gz`, `.zst` or `.xz` behind,
            `.parquet`, a folder, `org/name`, or several files (see `find_files`); a `Source` names a split and a
            revision as well, an encoding and a delimiter.

    Returns:
        The rows, not yet checked field by field.

    Raises:
        RecordError: There is no such source, or it cannot be read at all.
    """
    require_source(source)
    name = os.fspath(source)
    asked = source if isinstance(source, Source) else Source(name)
    if (files := find_files(name, READERS)) is not None:
        _reject_options(name, split=asked.split, revision=asked.revision)
        return join_tables(name, [_read_file(file, asked.reading) for file in files])
    if os.path.isdir(name):
        _reject_options(name, revision=asked.revision)
        return _read_folder(name, asked.split)
    if os.path.isfile(name):
        _reject_options(name, split=asked.split, revision=asked.revision)
        return _read_file(name, asked.reading)
    return _read_hub(name, asked.split, asked.revision)


def _read_file(name: str, reading: ReadingOptions) -> RawTable:
    _require_file(name)
    return READERS[kind_of_name(name)](name, reading)


def require_source(source: str | os.PathLike[str] | Source) -> None:
    """Raise an error for what is no file of a known kind, no folder and no id on the Hub, before any work on it.

    Raises:
        RecordError: There is no such source.
    """
    name = os.fspath(source)
    suffix = kind_of_name(name)
    if os.path.isdir(name) or find_files(name, READERS) is not None:
        return
    if os.path.isfile(name):
        return _require_file(name)
    if isinstance(source, str | Source) and HUB_ID.fullmatch(name) and suffix not in READERS:
        return
    raise RecordError(f"{name}: found no such file or folder, expected {FORMATS}; check the name")


def _require_file(name: str) -> None:
    suffix, last = kind_of_name(name), Path(name).suffix.lower()
    if suffix not in READERS or (suffix == ".parquet" and last in COMPRESSIONS):
        raise RecordError(f"{name}: found a file ending in {last!r}, expected {FORMATS}; convert or rename it")


def read_columns(path: str | os.PathLike[str]) -> dict[str, list[Any]]:
    """Read a table that is no file of records, such as one of translations, column by column.

    Raises:
        RecordError: It cannot be read, or a line of it does not parse.
    """
    table = read_table(path)
    if table.defects:
        raise_defects(table.name, table.defects, "Correct the table: what such a line says is lost.")
    return table.columns


def _reject_options(name: str, **options: str | None) -> None:
    for option, value in options.items():
        if value is not None:
            kinds = "a Hub data set" if option == "revision" else "a saved datasets folder or a Hub data set"
            flag = "--data_revision" if option == "revision" else "--split"
            raise RecordError(f"{name}: found {option} {value!r}, expected one for {kinds} only; leave {flag} out")


def _read_csv(name: str, reading: ReadingOptions) -> RawTable:
    encoding = reading.encoding or find_encoding(name, require_kind_of_name(name))
    default = "\t" if kind_of_name(name) == ".tsv" else ","
    dialect = find_dialect(name, default, encoding, reading.delimiter)
    table = read_delimited(name, dialect)
    table.form = f"columns with a {dialect.name} between, {encoding}"
    return table


def _read_parquet(name: str, _: ReadingOptions) -> RawTable:
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_kind_of_name(name)
    try:
        # Not pq.read_table: that one invents columns from folder names such as `fold=0/`.
        with pq.ParquetFile(name) as file:
            return _from_arrow(name, file.read(), sha256_of(name))
    except RecordError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _unreadable(name, error, "a Parquet file") from error


def _read_folder(name: str, split: str | None) -> RawTable:
    import pyarrow as pa

    datasets = _import_datasets(name)
    try:
        with console.bars_on_terminal_only(datasets):
            data = datasets.load_from_disk(name)
        several = isinstance(data, dict) and len(data) > 1
        table = _from_arrow(name, _pick_split(name, data, split).with_format("arrow")[:], "")
        table.sha256 = sha256_of(os.path.join(name, str(split)) if several else name)
    except RecordError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, pa.ArrowException) as error:
        raise _unreadable(name, error, "a folder written by datasets.save_to_disk") from error
    return table


def _import_datasets(name: str) -> ModuleType:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise RecordError(
            f"{name}: found no package {error.name}, expected it for folders and data sets of the Hub; pip install "
            "datasets, or give a file"
        ) from None
    found: ModuleType = datasets
    return found


def _read_hub(name: str, split: str | None, revision: str | None) -> RawTable:
    import pyarrow as pa

    datasets = _import_datasets(name)
    try:
        with console.bars_on_terminal_only(datasets):
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
        found = "several splits" if split is None else f"no split {split!r}"
        advice = "name one with --split"
        if os.path.isdir(name):
            advice += f", or give its own folder, {os.path.join(name, next(iter(data)))}"
        raise RecordError(f"{name}: found {found}, expected one of {', '.join(data)}; {advice}")
    return data[split]


def _from_arrow(name: str, data: Any, sha256: str) -> RawTable:
    names = [column for column in data.column_names if not re.fullmatch(r"__index_level_\d+__", column)]
    if bad := [column for column in names if not usable_name(column) or names.count(column) > 1]:
        raise RecordError(f"{name}: found the column {show_value(bad[0])}, expected distinct names; rename it")
    columns = {column: data.column(column).to_pylist() for column in names}
    return RawTable(name, columns, list(range(1, data.num_rows + 1)), sha256=sha256, form="Arrow or Parquet")


def _unreadable(name: str, error: Exception, expected: str) -> RecordError:
    reason = " ".join(str(error).split())[:300]
    return RecordError(
        f"{name}: found {type(error).__name__} ({reason}), expected {expected}; check the name and content"
    )


READERS: dict[str, Callable[[str, ReadingOptions], RawTable]] = {
    ".txt": read_json_lines,
    ".jsonl": read_json_lines,
    ".json": read_json_lines,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
}
FORMATS = f"{', '.join(READERS)}, a folder or a Hub data set id (org/name)"
