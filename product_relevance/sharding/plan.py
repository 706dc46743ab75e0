"""Split a large source into shards, and run a pure function from each shard to a file with a manifest."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from pathlib import Path

import pandas as pd

from product_relevance.utils.files import atomic_write, sha256_of, write_table
from product_relevance.utils.run_folder import read_json, write_json

logger = logging.getLogger(__name__)

TEXT = (".txt", ".jsonl", ".json")
MAX_ROWS = 200_000  # a shard is read whole: this bounds memory, whatever the number of rows
BATCH_ROWS = 10_000
PLAN, OWN = "plan.json", ("input", "output", "logs")


def shard_bounds(rows: int, shards: int) -> list[int]:
    """Return where each shard of consecutive rows begins, and at last `rows`; sizes differ by one at most."""
    return [rows * i // shards for i in range(shards + 1)]


def make_plan(
    source: str | os.PathLike, folder: str | os.PathLike, shards: int, job: dict, overwrite: bool = False
) -> dict:
    """Split a source into shards in a folder of its own; what is there of the same source and job is kept.

    The source is streamed: no more than a batch of rows is in memory. JSON lines are copied byte by byte, so that the
    checks of each shard see what was written. A folder that holds as many Parquet files as asked for is not split.

    Args:
        source: JSON lines (.txt, .jsonl, .json), a Parquet file, or a folder of Parquet files with the same columns.
        folder: For plan.json, `input/`, `output/` and `logs/`; made if need be.
        shards: How many.
        job: What determines the output beside the source, as JSON.
        overwrite: Replace the shards of another source or job.

    Returns:
        Content of plan.json: source (sha256), rows, job, and shards (input, sha256, first row, rows) of each.

    Raises:
        ValueError: No such source, no rows, too few or too large shards, or a folder with shards of another job.
    """
    if shards < 1:
        raise ValueError(f"--shards {shards}: expected 1 at least")
    source, folder = Path(source), Path(folder)
    files = _files(source)
    wanted = {"source": sha256_of(source), "number": shards, "job": job}
    if (found := _same_plan(folder, wanted, overwrite)) is not None:
        return found
    as_they_are = files[0].suffix == ".parquet" and len(files) == shards
    sizes = [_rows(file) for file in files]
    edges = list(accumulate(sizes, initial=0)) if as_they_are else shard_bounds(sum(sizes), shards)
    _check_sizes(source, edges)
    _claim(folder, wanted)
    made = files if as_they_are else _split(files, folder, edges)
    parts = [
        {"input": os.path.abspath(path), "sha256": sha256_of(path), "first": start, "rows": end - start}
        for path, (start, end) in zip(made, pairwise(edges), strict=True)
    ]
    content = wanted | {"rows": edges[-1], "shards": parts}
    write_json(folder / PLAN, content)
    return content


def require_plan(source: str | os.PathLike, folder: str | os.PathLike, shards: int, job: dict) -> dict:
    """Return the plan that `make_plan` made of the same arguments; nothing is written.

    Args:
        source, folder, shards, job: See `make_plan`.

    Returns:
        Content of plan.json.

    Raises:
        ValueError: No plan, one of another source or job, or the source was not split to its end.
    """
    folder, wanted = Path(folder), {"source": sha256_of(Path(source)), "number": shards, "job": job}
    if (folder / PLAN).is_file() and (found := _same_plan(folder, wanted, overwrite=False)) is not None:
        return found
    raise ValueError(f"{folder}: found no shards; the same command with --plan_only for --array_task splits the file")


def read_plan(folder: str | os.PathLike) -> dict:
    """Return the plan of a folder; ValueError where there is none."""
    return read_json(Path(folder) / PLAN)


def process_shard(folder: str | os.PathLike, number: int, job: Callable[[Path], pd.DataFrame]) -> dict:
    """Process one shard, unless it is whole: the output and then its manifest appear under their names at once.

    The output depends on the input shard and the job alone, so that it does not matter where, when, or how often this
    runs: two processes that do the same shard write the same bytes.

    Args:
        folder: With the plan.
        number: Of the shard, from 0.
        job: From an input shard to a table with one row a record, in their order.

    Returns:
        The manifest: rows, sha256 of the output, and what it was made of (input's sha256, job).

    Raises:
        ValueError: The input shard changed since it was split, has a defect, or the table has another number of rows.
    """
    content = read_plan(folder)
    if (found := _manifest(folder, number, content)) is not None:
        return found
    part = content["shards"][number]
    source, target = Path(part["input"]), output_path(folder, number)
    if sha256_of(source) != part["sha256"]:
        raise ValueError(f"{source}: differs from what was split; delete {folder} and start again")
    try:
        table = job(source)
    except ValueError as error:
        first = part["first"] + 1
        raise ValueError(f"shard {number}, whose first row is row {first:,} of the source: {error}") from error
    if len(table) != part["rows"]:
        raise ValueError(f"shard {number}: found {len(table)} rows of output, expected {part['rows']}")
    target.parent.mkdir(parents=True, exist_ok=True)
    table.attrs = {}  # pandas writes them into the file, and the speed of reading may be among them
    write_table(table, target)
    made = {"rows": len(table), "sha256": sha256_of(target), "input": part["sha256"], "job": content["job"]}
    write_json(manifest_path(folder, number), made)
    return made


def unfinished_shards(folder: str | os.PathLike) -> list[int]:
    """Return the shards without a whole output; one whose bytes are not those that were written is logged."""
    content = read_plan(folder)
    return [number for number in range(len(content["shards"])) if _manifest(folder, number, content) is None]


def output_path(folder: str | os.PathLike, number: int) -> Path:
    """Return where the output of a shard lies."""
    return Path(folder) / "output" / f"{number:05d}.parquet"


def manifest_path(folder: str | os.PathLike, number: int) -> Path:
    """Return where the manifest of a shard lies."""
    return output_path(folder, number).with_suffix(".json")


def drop_remains(folder: str | os.PathLike) -> None:
    """Delete what killed processes left under temporary names; only once all shards are whole."""
    for path in (Path(folder) / "output").glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _manifest(folder: str | os.PathLike, number: int, content: dict) -> dict | None:
    path, part = manifest_path(folder, number), content["shards"][number]
    try:
        found = read_json(path)
    except ValueError:  # none yet, or shortened by hand
        return None
    made_of = {"rows": part["rows"], "input": part["sha256"], "job": content["job"]}
    target = output_path(folder, number)
    whole = target.is_file() and isinstance(found, dict) and sha256_of(target) == found.get("sha256")
    if whole and {key: found.get(key) for key in made_of} == made_of:
        return found
    logger.warning("%s: not what its manifest says, and is made again", target)
    return None


def _files(source: Path) -> list[Path]:
    if source.is_file() and source.suffix in (*TEXT, ".parquet"):
        return [source]
    files = sorted(source.glob("*.parquet"))
    if files:
        return files
    kinds = f"{', '.join(TEXT)}, a Parquet file or a folder of Parquet files"
    raise ValueError(f"{source}: expected {kinds} to split into shards; prepare.py writes Parquet of any records")


def _same_plan(folder: Path, wanted: dict, overwrite: bool) -> dict | None:
    """Return the plan that is there, if it is the one wanted and its source was split to the end."""
    if not (folder / PLAN).is_file():
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder}: found other things than shards; name a new or an empty folder")
        return None
    found = read_plan(folder)
    if {key: found.get(key) for key in wanted} == wanted:
        return found if "shards" in found else None
    if not overwrite:
        raise ValueError(
            f"{folder}: found shards of another source, run or options; name another output, or replace them: "
            "relevance predict has --overwrite, of a preparation remove the folder"
        )
    return None


def _claim(folder: Path, wanted: dict) -> None:
    """Make the folder one of these shards, by a plan that lacks them as yet, and empty it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / PLAN, wanted)
    for name in OWN:
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "input").mkdir()


def _check_sizes(source: Path, edges: list[int]) -> None:
    sizes, rows = [end - start for start, end in pairwise(edges)], edges[-1]
    if not min(sizes):
        raise ValueError(f"{source}: found {rows:,} rows for {len(sizes):,} shards, expected a row for each at least")
    if max(sizes) > MAX_ROWS:
        raise ValueError(
            f"{source}: a shard would have {max(sizes):,} rows and is read whole; expected {MAX_ROWS:,} at most: "
            f"use --shards {-(-rows // MAX_ROWS)} or more"
        )


def _rows(file: Path) -> int:
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_metadata(file).num_rows
    with open(file, "rb") as lines:
        return sum(1 for line in lines if line.strip())


def _split(files: list[Path], folder: Path, edges: list[int]) -> list[Path]:
    split_files = _split_tables if files[0].suffix == ".parquet" else _split_lines
    names = [folder / "input" / f"{i:05d}{files[0].suffix}" for i in range(len(edges) - 1)]
    split_files(files, names, edges)
    return names


def _split_lines(files: list[Path], names: list[Path], edges: list[int]) -> None:
    """Copy lines; blank ones go with the record before them, so that no line is lost and none moves."""
    with open(files[0], "rb") as lines:
        line, row = lines.readline(), 0
        for name, end in zip(names, edges[1:], strict=True):
            with atomic_write(name, "wb") as file:
                while line and (row < end or not line.strip()):
                    file.write(line)
                    row += bool(line.strip())
                    line = lines.readline()


def _split_tables(files: list[Path], names: list[Path], edges: list[int]) -> None:
    import pyarrow.parquet as pq

    schema = pq.read_schema(files[0])
    batches = _batches(files, schema)
    rest = next(batches)
    for name, (start, end) in zip(names, pairwise(edges), strict=True):
        with atomic_write(name, "wb") as file, pq.ParquetWriter(file, schema) as writer:
            missing = end - start
            while missing:
                if not rest.num_rows:
                    rest = next(batches)
                writer.write_batch(rest.slice(0, missing))
                taken = min(missing, rest.num_rows)
                missing, rest = missing - taken, rest.slice(taken)


def _batches(files: list[Path], schema) -> Iterator:
    import pyarrow.parquet as pq

    for path in files:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(schema):
                raise ValueError(f"{path}: found other columns or types than in {files[0].name}, expected the same")
            yield from file.iter_batches(BATCH_ROWS)
