"""Several files as one source: a list with commas, a pattern with * or ?, or a folder of files."""

import glob
import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from product_relevance.data.sources.defects import RecordError
from product_relevance.data.sources.encodings import kind_of_name
from product_relevance.data.sources.tables import ABSENT, RawTable

SAVED = ("dataset_info.json", "dataset_dict.json", "state.json")  # of a folder that `datasets` wrote


def find_files(name: str, kinds: Collection[str]) -> list[str] | None:
    """Return the files that a name stands for, in the order of their names; None if it stands for one source.

    Args:
        name: A folder of files, a pattern such as `exports/*.csv`, or names with commas between.
        kinds: Endings of files that can be read.

    Raises:
        RecordError: A pattern that no file fits, or a list with a file that is not there.
    """
    if os.path.isdir(name):
        inside = sorted(os.path.join(name, file) for file in os.listdir(name) if not file.startswith((".", "_")))
        files = [path for path in inside if os.path.isfile(path) and kind_of_name(path) in kinds]
        saved = any(os.path.exists(os.path.join(name, file)) for file in SAVED)
        return None if saved or not files else files
    if os.path.exists(name):
        return None
    if glob.has_magic(name):
        if files := sorted(path for path in glob.glob(name, recursive=True) if os.path.isfile(path)):
            return files
        raise RecordError(f"{name}: found no file that fits this pattern, expected one at least; check the name")
    if "," not in name:
        return None
    files = [part.strip() for part in name.split(",") if part.strip()]
    if lost := [file for file in files if not os.path.isfile(file)]:
        raise RecordError(f"{lost[0]}: found no such file, expected each file of the list {name}; check the name")
    return files


def join_tables(name: str, tables: list[RawTable]) -> RawTable:
    """Put the rows of several files under one another; a column that a file lacks is ABSENT in its rows.

    Args:
        name: What the source is called.
        tables: At least one, in their order.
    """
    names = dict.fromkeys(chain.from_iterable(table.columns for table in tables))
    joined = RawTable(name, {column: [] for column in names})
    for table in tables:
        joined.parts.append((len(joined.lines), table.name))
        for column, values in joined.columns.items():
            values += table.columns.get(column) or [ABSENT] * len(table.lines)
        joined.lines += table.lines
        joined.defects += [replace(defect, file=table.name) for defect in table.defects]
    digests = "".join(table.sha256 for table in tables)
    joined.sha256 = hashlib.sha256(digests.encode()).hexdigest()
    joined.form = f"{len(tables)} files; " + " and ".join(dict.fromkeys(table.form for table in tables))
    return joined


def distinguish_ids(table: RawTable, ids: Sequence[Any]) -> list[Any]:
    """Return ids that name the file of their row where two files use the same id, as exports of two months do.

    Args:
        table: Of `join_tables`, or of one file.
        ids: One value per row.

    Returns:
        The ids as they are, or all of them with their file's name in front, such as `2026-11:DE-00001`.
    """
    bounds = [start for start, _ in table.parts[1:]]
    files = [list(ids[start:end]) for start, end in zip([0, *bounds], [*bounds, len(ids)], strict=True)]
    distinct = [set(map(str, part)) for part in files]
    if len(set().union(*distinct)) == sum(map(len, distinct)):
        return list(ids)
    names = [name for _, name in table.parts]
    stems = [Path(name).name.partition(".")[0] for name in names]
    shown = stems if len(set(stems)) == len(stems) else names
    return [f"{name}:{value}" for name, part in zip(shown, files, strict=True) for value in part]
