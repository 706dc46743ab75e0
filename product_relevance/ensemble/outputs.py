"""Files of predictions: the format that a name asks for, and what a finished one was made of."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from product_relevance.data.submission import join_predictions, write_submission
from product_relevance.utils.files import atomic_write, sha256_of, write_table
from product_relevance.utils.tasks import LABELS

LINES, SEPARATORS = (".txt", ".jsonl"), {".csv": ",", ".tsv": "\t"}
TABLES = (*SEPARATORS, ".parquet")
FORMATS = (*LINES, *TABLES)
MADE_OF = b"made_of"  # key in the metadata of the scores beside an output


def scores_path(target: Path) -> Path:
    """Return where the scores of an output lie."""
    return target.with_name(target.name + ".scores.parquet")


def require_format(output: str | Path, with_texts: bool = False) -> None:
    """Raise ValueError if the name of an output asks for a format that is not written.

    Args:
        output: Name of the file.
        with_texts: Whether it is to be a table for people to read.

    Raises:
        ValueError: Another ending, or none.
    """
    suffix = Path(output).suffix
    found = f"--output {output}: found {f'the ending {suffix}' if suffix else 'no ending'}, expected one of "
    lines = f"{' and '.join(LINES)} are JSON lines, the competition's format"
    if with_texts and suffix.lower() not in TABLES:
        raise ValueError(f"{found}{', '.join(TABLES)}: --with_texts writes a table, and {lines}")
    if suffix.lower() not in FORMATS:
        raise ValueError(f"{found}{', '.join(FORMATS)}: {lines}")


def write_output(records: pd.DataFrame, scores: pd.DataFrame, target: Path, asked: dict, parts: Path) -> None:
    """Write predictions and, beside them, their scores with what both were made of; the predictions appear last.

    Args:
        records: n rows from `read_records`.
        scores: n rows with `prediction` and `score`.
        target: .txt and .jsonl hold JSON lines in the competition's format; .csv, .tsv and .parquet hold a table of
            the same fields, score and of a graded run grade, or what `lay_out_rows` gives if asked for with texts.
        asked: What the predictions depend on, as JSON.
        parts: Folder for the file until it is whole.
    """
    whole = parts / f"whole{target.suffix}"
    if asked.get("with_texts"):
        write_rows(lay_out_rows(records, scores), whole)
    else:
        _write(records, scores, whole)
    table = pa.Table.from_pandas(scores, preserve_index=False)
    made = {**(table.schema.metadata or {}), MADE_OF: describe_origin(asked, sha256_of(whole))}
    with atomic_write(scores_path(target), "wb") as file:
        pq.write_table(table.replace_schema_metadata(made), file)
    with atomic_write(target, "wb") as file, open(whole, "rb") as source:
        shutil.copyfileobj(source, file)


def describe_origin(asked: dict, sha256: str) -> bytes:
    """Return the metadata of scores whose output has these bytes."""
    return json.dumps({"asked": asked, "sha256": sha256}, sort_keys=True).encode()


def require_same(target: Path, asked: dict) -> None:
    """Accept an output that is there if the same inputs made it and nobody changed it since.

    Raises:
        ValueError: Another one; the message says what differs.
    """
    way_out = "add --overwrite to replace it"
    try:
        found = json.loads(pq.read_metadata(scores_path(target)).metadata[MADE_OF])
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{target} is there already, and nothing says what it was made of; {way_out}") from None
    before = found["asked"]
    # An option that is gone since the file was written stands there as False.
    names = sorted(asked.keys() | before.keys())
    if other := [name for name in names if (asked.get(name) or None) != (before.get(name) or None)]:
        raise ValueError(f"{target} is there already, made with another {', '.join(other)}; {way_out}")
    if sha256_of(target) != found["sha256"]:
        raise ValueError(f"{target} is there already, and was changed since it was written; {way_out}")


def json_sha256(*values: object) -> str:
    """Return the sha256 of values as JSON."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def lay_out_rows(records: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Lay out predictions for people to read, whatever the source calls its columns.

    Args:
        records: n rows from `read_records`.
        scores: n rows with `prediction` and `score`, and `grade` of a graded run.

    Returns:
        Columns id, language, query, target (texts as the source has them), score, decision, and grade if there is one.
    """
    names = {"id": "id", "language": "language", "origin_query": "query", "target": "target"}
    table = records[[*names]].rename(columns=names).reset_index(drop=True)
    table["score"] = scores["score"].to_numpy()
    table["decision"] = [LABELS[value] for value in scores["prediction"]]
    return table.assign(grade=scores["grade"].to_numpy()) if "grade" in scores else table


def write_rows(table: pd.DataFrame, path: Path) -> None:
    """Write a table as .csv, .tsv or .parquet, whole or not at all; ids of two kinds become texts."""
    if table["id"].map(type).nunique() > 1:  # numbers and texts, which a column cannot hold together
        table = table.assign(id=table["id"].astype(str))
    if path.suffix.lower() == ".parquet":
        write_table(table, path)
        return
    with atomic_write(path) as file:
        table.to_csv(file, index=False, sep=SEPARATORS[path.suffix.lower()], lineterminator="\n")


def _write(records: pd.DataFrame, scores: pd.DataFrame, path: Path) -> None:
    predictions = scores["prediction"].tolist()
    if path.suffix.lower() in LINES:
        write_submission(records, predictions, path)
        return
    table = pd.DataFrame(list(join_predictions(records, predictions)))
    names = [name for name in ("score", "grade") if name in scores]
    write_rows(table.assign(**{name: np.asarray(scores[name]) for name in names}), path)
