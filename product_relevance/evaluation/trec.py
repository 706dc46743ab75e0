"""Judgements and rankings in the plain-text formats of TREC, which other tools of information retrieval read."""

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from product_relevance.utils.files import atomic_write

QRELS = ("query_id", "doc_id", "relevance")  # the names of ir-measures, which takes such tables
RUN = ("query_id", "doc_id", "score")
TAG = "product_relevance"  # last field of a run file: who ranked
QRELS_LINE = "four fields: query id, 0, document id, grade"
RUN_LINE = "six fields: query id, Q0, document id, rank, score, name of the run"


def read_qrels(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read judgements: `query 0 document grade` on each line.

    Args:
        path: Of a text file in UTF-8; blank lines are passed over.

    Returns:
        Columns query_id and doc_id (texts) and relevance (whole numbers), in the order of the file.

    Raises:
        ValueError: A line of another form, or a document that is judged twice for one query; names file and line.
    """
    rows = []
    for place, fields in _lines(path, 4, QRELS_LINE):
        rows.append((fields[0], fields[2], _whole(fields[3], place)))
    return _distinct(path, pd.DataFrame(rows, columns=[*QRELS]))


def read_run(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a ranking: `query Q0 document rank score name` on each line; the score decides, as in trec_eval.

    Args:
        path: Of a text file in UTF-8; blank lines are passed over.

    Returns:
        Columns query_id and doc_id (texts) and score (float), in the order of the file.

    Raises:
        ValueError: A line of another form, or a document that is ranked twice for one query; names file and line.
    """
    rows = []
    for place, fields in _lines(path, 6, RUN_LINE):
        rows.append((fields[0], fields[2], _finite(fields[4], place)))
    return _distinct(path, pd.DataFrame(rows, columns=[*RUN]))


def write_qrels(qrels: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write judgements, whole or not at all.

    Args:
        qrels: Columns query_id, doc_id and relevance.
        path: Where the file shall be.

    Raises:
        ValueError: An id that is empty or has white space, which separates the fields.
    """
    _require_ids(qrels)
    rows = qrels[[*QRELS]].itertuples(index=False, name=None)
    with atomic_write(path) as file:
        file.writelines(f"{query} 0 {document} {grade}\n" for query, document, grade in rows)


def write_run(run: pd.DataFrame, path: str | os.PathLike[str], tag: str = TAG) -> None:
    """Write a ranking, whole or not at all; within a query the best score comes first.

    Args:
        run: Columns query_id, doc_id and score.
        path: Where the file shall be.
        tag: Name of the ranking, without white space.

    Raises:
        ValueError: An id that is empty or has white space, which separates the fields.
    """
    _require_ids(run)
    with atomic_write(path) as file:
        for query, part in run.groupby("query_id", sort=False):
            best = part.sort_values("score", ascending=False, kind="stable")
            for rank, (document, score) in enumerate(zip(best["doc_id"], best["score"], strict=True), start=1):
                file.write(f"{query} Q0 {document} {rank} {float(score)!r} {tag}\n")


def _lines(path: str | os.PathLike[str], count: int, expected: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the place and the fields of each line."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as text in UTF-8 ({error})") from None
    for number, line in enumerate(text.split("\n"), start=1):
        fields = line.split()
        if fields and len(fields) != count:
            raise ValueError(f"{path}:{number}: found {len(fields)} fields, expected {expected}; correct the line")
        if fields:
            yield f"{path}:{number}", fields


def _whole(text: str, place: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{place}: grade: found {text!r}, expected a whole number; correct the line") from None


def _finite(text: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{place}: score: found {text!r}, expected a finite number; correct the line")
    return value


def _distinct(path: str | os.PathLike[str], table: pd.DataFrame) -> pd.DataFrame:
    twice = table.duplicated(["query_id", "doc_id"])
    if twice.any():
        query, document = table.loc[twice, ["query_id", "doc_id"]].iloc[0]
        found = f"found the document {document} twice for the query {query}"
        raise ValueError(f"{path}: {found}, expected each once; leave one line out")
    return table


def require_names(what: str, names: Iterable[object]) -> None:
    """Check that a TREC file can hold names.

    Args:
        what: They are, for the error.
        names: Of queries or documents.

    Raises:
        ValueError: A name that is empty or has white space, which separates the fields.
    """
    if bad := [each for each in _distinct_texts(names) if len(each.split()) != 1 or each.strip() != each]:
        expected = "expected ids without white space, which separates the fields; give the rows other ids"
        raise ValueError(f"{what}: found {bad[0]!r}, {expected}")


def _require_ids(table: pd.DataFrame) -> None:
    for name in ("query_id", "doc_id"):
        require_names(name, table[name])


def _distinct_texts(ids: Iterable[object]) -> list[str]:
    return [str(each) for each in dict.fromkeys(ids)]
