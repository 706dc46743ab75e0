"""Scored shards joined into one submission with its table of scores."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from product_relevance.data.records import read_records
from product_relevance.data.submission import write_submission
from product_relevance.ensemble import outputs
from product_relevance.sharding import plan as shards
from product_relevance.utils.files import atomic_write


def join_shards(folder: Path, target: Path) -> int:
    """Join scored shards into one submission and, beside it, one table of scores; one shard at a time is in memory.

    Args:
        folder: With the plan and all its shards.
        target: The submission.

    Returns:
        The number of rows.

    Raises:
        ValueError: An id that stands in two shards, where no check of one shard could see it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    plan, ids, digest = shards.read_plan(folder), [], hashlib.sha256()
    parts = plan["shards"]
    tables = [shards.output_path(folder, number) for number in range(len(parts))]
    schema = _one_schema([pq.read_schema(path) for path in tables])
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target, "wb") as file, atomic_write(outputs.scores_path(target), "wb") as beside:
        with pq.ParquetWriter(beside, schema) as writer:
            for path, part in zip(tables, parts, strict=True):
                table = pq.read_table(path).cast(schema)
                ids.append(pd.util.hash_array(table["id"].cast(pa.string()).to_numpy()))
                writer.write_table(table)
                frame = read_records(part["input"], role="test", on_bad_rows="skip")  # scoring it has judged its rows
                lines = write_submission(frame, table["prediction"].to_numpy(), folder / "part.txt")
                text = lines.read_bytes()
                digest.update(text)
                file.write(text)
            made = outputs.describe_origin(describe_request(plan["source"], plan["job"]), digest.hexdigest())
            writer.add_key_value_metadata({outputs.MADE_OF: made})
        _require_distinct(np.concatenate(ids))
    return sum(map(len, ids))


def describe_request(source: str, job: dict) -> dict:
    """Return what an output depends on: its source and the key of its job."""
    return {"file": source} | {name: value for name, value in job.items() if name != "options"} | job["options"]


def _one_schema(schemas: list):
    """Return the schema that fits all shards: ids are texts where those of one shard are."""
    import pyarrow as pa

    if len({schema.field("id").type for schema in schemas}) > 1:
        schemas = [schema.set(0, pa.field("id", pa.string())) for schema in schemas]
    return pa.unify_schemas(schemas)


def _require_distinct(ids: np.ndarray) -> None:
    if twice := len(ids) - len(np.unique(ids)):
        raise ValueError(f"{twice:,} ids stand in more than one shard; expected each id once: correct the source")
