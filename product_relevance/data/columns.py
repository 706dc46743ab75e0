"""Add columns step by step with map functions, cached by what goes in."""

import hashlib
import importlib.util
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from product_relevance.utils import console

logger = logging.getLogger(__name__)

BATCH_ROWS = 1000
# Raise it when a map function here gives other values than before: old cache files are then no longer found.
VERSION = 2

Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Step:
    """A map function with its options.

    Attributes:
        name: of the step, in messages and in the names of cache files.
        function: `function(batch, **options)` gets and returns a dict of lists, one value per row, and depends on
            nothing else.
        options: of the function; they must fit into JSON, since the cache is found by them.
    """

    name: str
    function: Callable[..., Columns]
    options: Mapping[str, Any] = field(default_factory=dict)

    def run(self, batch: Columns, **options: Any) -> Columns:
        """Return the columns of a batch.

        Raises:
            ValueError: A list that is too short: it would shift every later row against its record without a word.
        """
        rows = len(next(iter(batch.values())))
        result = self.function(batch, **options)
        for column, values in result.items():
            if len(values) != rows:
                raise ValueError(f"step {self.name!r}: column {column!r} has {len(values)} rows, expected {rows}")
        return result


def add_columns(
    frame: pd.DataFrame, steps: Iterable[Step], cache_dir: str | os.PathLike[str] | None = None
) -> pd.DataFrame:
    """Run map functions over a frame in batches of 1,000 rows and add (or replace) the columns they return.

    Args:
        frame: Records; a function sees all columns but those that hold objects such as dicts.
        steps: What to run, one after another.
        cache_dir: Folder for cache files, made if need be; needs `datasets`, without it nothing is cached.

    Returns:
        A copy of the frame with the columns; index, order and other columns unchanged.

    Raises:
        ValueError: Options that are no JSON, or a function that returns another number of rows.
    """
    frame = frame.copy()
    folder = Path(cache_dir) if cache_dir and _has_datasets() else None
    for step in steps:
        table = _as_table(frame)
        if folder and len(frame):
            columns = _cached(step, table, _cache_path(folder, frame[table.column_names], step))
        else:
            columns = _computed(step, table)
        for column, values in columns.items():
            frame[column] = pd.Series(values, index=frame.index, dtype=None if values else "str")
    return frame


def fingerprint_frame(frame: pd.DataFrame) -> str:
    """Return the sha256 of a frame's column names, types and values in their order; the index does not count."""
    digest = hashlib.sha256(json.dumps([[str(c), str(frame[c].dtype)] for c in frame]).encode())
    for column in frame:
        digest.update(pd.util.hash_pandas_object(frame[column], index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _has_datasets() -> bool:
    if importlib.util.find_spec("datasets") is None:
        logger.info("datasets is not installed: columns are computed without a cache")
        return False
    return True


def _as_table(frame: pd.DataFrame) -> pa.Table:
    plain = [c for c in frame if frame[c].dtype != object or frame[c].map(_is_plain).all()]
    return pa.Table.from_pandas(frame[plain], preserve_index=False).replace_schema_metadata(None)


def _is_plain(value: object) -> bool:
    return value is None or value is pd.NA or isinstance(value, str | float)


def _cache_path(folder: Path, frame: pd.DataFrame, step: Step) -> Path:
    try:
        function = [step.function.__module__, step.function.__qualname__]
        asked = json.dumps([VERSION, step.name, *function, dict(step.options)], sort_keys=True)
    except (TypeError, AttributeError) as error:
        raise ValueError(
            f"step {step.name!r}: expected a function and options that fit into JSON, found: {error}"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(f"{fingerprint_frame(frame)} {asked}".encode()).hexdigest()
    return folder / f"{key}.arrow"


def _cached(step: Step, table: pa.Table, path: Path) -> Columns:
    if path.exists():
        try:
            return _mapped(step, table, path)
        # A damaged file shows in different ways: pyarrow's errors, OSError, datasets' own.
        except Exception as error:
            logger.warning("%s: cannot be read (%s); computing step %s again", path, error, step.name)
            path.unlink(missing_ok=True)
    return _mapped(step, table, path)


def _mapped(step: Step, table: pa.Table, path: Path) -> Columns:
    import datasets

    with console.bars_on_terminal_only(datasets):
        mapped = datasets.Dataset(table).map(
            step.run,
            fn_kwargs=dict(step.options),
            batched=True,
            batch_size=BATCH_ROWS,
            remove_columns=table.column_names,
            cache_file_name=str(path),
            load_from_cache_file=True,
            # Else datasets pickles the function to fingerprint it, which differs from process to process.
            new_fingerprint=path.stem,
            desc=step.name,
        )
    result = mapped.data.table
    result.validate(full=True)
    if len(result) != len(table):
        raise ValueError(f"{path}: found {len(result)} rows, expected {len(table)}")
    columns: Columns = result.to_pydict()
    return columns


def _computed(step: Step, table: pa.Table) -> Columns:
    columns: Columns = {}
    starts = range(0, max(len(table), 1), BATCH_ROWS)
    # Shown as the progress bars of datasets are: only where the work is long.
    for start in console.progress_bar(
        starts, desc=step.name, unit_scale=BATCH_ROWS, unit=" rows", shown=len(starts) >= 20
    ):
        batch = table.slice(start, BATCH_ROWS).to_pydict()
        for column, values in step.run(batch, **step.options).items():
            columns.setdefault(column, []).extend(values)
    return columns
