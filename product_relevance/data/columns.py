"""Add columns step by step with map functions, cached by what goes in."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa

from product_relevance.utils import console

logger = logging.getLogger(__name__)

BATCH_ROWS = 1000
# Raise it when a map function here gives other values than before: old cache files are then no longer found.
VERSION = 2

Step = tuple[str, Callable[..., dict], dict]


def add_columns(
    frame: pd.DataFrame, steps: Iterable[Step], cache_dir: str | os.PathLike | None = None
) -> pd.DataFrame:
    """Run map functions over a frame in batches of 1,000 rows and add (or replace) the columns they return.

    Args:
        frame: Records; a function sees all columns but those that hold objects such as dicts.
        steps: (name, function, options): `function(batch, **options)` gets and returns a dict of lists, one value
            a row, and depends on nothing else. Options must fit into JSON, since the cache is found by them.
        cache_dir: Folder for cache files, made if need be; needs `datasets`, without it nothing is cached.

    Returns:
        A copy of the frame with the columns; index, order and other columns unchanged.

    Raises:
        ValueError: Options that are no JSON, or a function that returns another number of rows.
    """
    frame = frame.copy()
    datasets = _import_datasets() if cache_dir else None
    for name, function, options in steps:
        table = _as_table(frame)
        if datasets and len(frame):
            path = _cache_path(Path(cache_dir), frame[table.column_names], name, function, options)
            columns = _cached(datasets, table, path, name, function, options)
        else:
            columns = _computed(table, name, function, options)
        for column, values in columns.items():
            frame[column] = pd.Series(values, index=frame.index, dtype=None if values else "str")
    return frame


def fingerprint(frame: pd.DataFrame) -> str:
    """Return the sha256 of a frame's column names, types and values in their order; the index does not count."""
    digest = hashlib.sha256(json.dumps([[str(c), str(frame[c].dtype)] for c in frame]).encode())
    for column in frame:
        digest.update(pd.util.hash_pandas_object(frame[column], index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _import_datasets():
    try:
        import datasets
    except ImportError:
        logger.info("datasets is not installed: columns are computed without a cache")
        return None
    return datasets


def _as_table(frame: pd.DataFrame) -> pa.Table:
    plain = [c for c in frame if frame[c].dtype != object or frame[c].map(_is_plain).all()]
    return pa.Table.from_pandas(frame[plain], preserve_index=False).replace_schema_metadata(None)


def _is_plain(value: object) -> bool:
    return value is None or value is pd.NA or isinstance(value, str | float)


def _cache_path(folder: Path, frame: pd.DataFrame, name: str, function: Callable, options: dict) -> Path:
    try:
        asked = json.dumps([VERSION, name, function.__module__, function.__qualname__, options], sort_keys=True)
    except (TypeError, AttributeError) as error:
        raise ValueError(
            f"step {name!r}: expected a function and options that fit into JSON, found: {error}"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(f"{fingerprint(frame)} {asked}".encode()).hexdigest()
    return folder / f"{key}.arrow"


def _cached(datasets, table: pa.Table, path: Path, name: str, function: Callable, options: dict) -> dict[str, list]:
    if path.exists():
        try:
            return _mapped(datasets, table, path, name, function, options)
        # A damaged file shows in different ways: pyarrow's errors, OSError, datasets' own.
        except Exception as error:
            logger.warning("%s: cannot be read (%s); computing step %s again", path, error, name)
            path.unlink(missing_ok=True)
    return _mapped(datasets, table, path, name, function, options)


def _mapped(datasets, table: pa.Table, path: Path, name: str, function: Callable, options: dict) -> dict[str, list]:
    mapped = datasets.Dataset(table).map(
        _Checked(name, function),
        fn_kwargs=options,
        batched=True,
        batch_size=BATCH_ROWS,
        remove_columns=table.column_names,
        cache_file_name=str(path),
        load_from_cache_file=True,
        # Else datasets pickles the function to fingerprint it, which differs from process to process.
        new_fingerprint=path.stem,
        desc=name,
    )
    result = mapped.data.table
    result.validate(full=True)
    if len(result) != len(table):
        raise ValueError(f"{path}: found {len(result)} rows, expected {len(table)}")
    return result.to_pydict()


def _computed(table: pa.Table, name: str, function: Callable, options: dict) -> dict[str, list]:
    checked, columns = _Checked(name, function), {}
    starts = range(0, max(len(table), 1), BATCH_ROWS)
    # Shown as the progress bars of datasets are: only where the work is long.
    for start in console.bar(starts, desc=name, unit_scale=BATCH_ROWS, unit=" rows", shown=len(starts) >= 20):
        batch = table.slice(start, BATCH_ROWS).to_pydict()
        for column, values in checked(batch, **options).items():
            columns.setdefault(column, []).extend(values)
    return columns


class _Checked:
    # A list that is too short would shift every later row against its record without a word.
    def __init__(self, name: str, function: Callable):
        self.name, self.function = name, function

    def __call__(self, batch: dict, **options) -> dict:
        rows = len(next(iter(batch.values())))
        result = self.function(batch, **options)
        for column, values in result.items():
            if len(values) != rows:
                raise ValueError(f"step {self.name!r}: column {column!r} has {len(values)} rows, expected {rows}")
        return result
