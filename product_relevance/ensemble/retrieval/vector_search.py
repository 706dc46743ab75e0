"""Find the nearest of many unit vectors: exactly, by blocks of a matrix product, or by an index of usearch."""

import hashlib
import importlib.util
import json
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from product_relevance.utils import console
from product_relevance.utils.extras import how_to_install
from product_relevance.utils.files import atomic_write, sha256_of

logger = logging.getLogger(__name__)

BLOCK_VALUES = 2**25  # similarities that are in memory at a time: 128 MiB
ADDED = 16_384  # vectors that an index takes between two steps of its progress bar
# A larger value finds more and takes longer. The graph holds vectors in bfloat16; scores are computed in float32.
CONNECTIVITY, EXPANSION_ADD, EXPANSION_SEARCH = 16, 128, 1024


@dataclass(frozen=True)
class Nearest:
    """The nearest vectors of each query, nearest first, equal ones by their place.

    Attributes:
        places: Of vectors, shape (queries, count); -1 where there are fewer.
        scores: Their inner products with the query, shape (queries, count); -inf where there are fewer.
    """

    places: np.ndarray
    scores: np.ndarray


Search = Callable[[np.ndarray, int], Nearest]


def search_exactly(vectors: np.ndarray, queries: np.ndarray, count: int) -> Nearest:
    """Find the nearest vectors by all inner products; no more than a block of them is in memory at a time.

    Args:
        vectors: float32 (n, dimensions).
        queries: float32 (q, dimensions).
        count: How many to find for each query; all n if there are fewer.
    """
    count = min(count, len(vectors))
    places = np.empty((len(queries), count), np.int64)
    scores = np.empty((len(queries), count), np.float32)
    step = max(1, BLOCK_VALUES // max(1, len(vectors)))
    starts = range(0, len(queries), step)
    for start in console.progress_bar(starts, desc="searching", unit="block", shown=len(starts) >= 20):
        block = queries[start : start + step] @ vectors.T
        for row, similarities in enumerate(block, start=start):
            places[row] = found = _largest(similarities, count)
            scores[row] = similarities[found]
    return Nearest(places, scores)


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the largest values, largest first; of equal ones a partition alone would keep any."""
    if 0 < count < len(values):
        least = np.partition(values, len(values) - count)[len(values) - count]
        possible = np.flatnonzero(values >= least)
    else:
        possible = np.arange(len(values))
    return possible[np.argsort(-values[possible], kind="stable")][:count]


def open_index(vectors: np.ndarray, folder: str | os.PathLike[str] | None = None) -> Search:
    """Build an index of usearch (a graph of neighbours, HNSW), or read the one that is kept for these vectors.

    Args:
        vectors: float32 (n, dimensions).
        folder: Where the index is kept; a file of other vectors or a damaged one is never used. None keeps nothing.

    Returns:
        What finds the nearest vectors of queries (q, dimensions); the index may miss some of them.

    Raises:
        ValueError: usearch is not installed.
    """
    index = _new_index(vectors.shape[1])
    path = None if folder is None else Path(folder) / f"{_index_key(vectors)}.usearch"
    if path is None or not _restored(index, path):
        for start in _starts(len(vectors)):
            part = vectors[start : start + ADDED]
            index.add(np.arange(start, start + len(part)), part, threads=_threads())
        if path is not None:
            _keep_index(index, path)

    def search(queries: np.ndarray, count: int) -> Nearest:
        return _search_index(index, vectors, queries, min(count, len(vectors)))

    return search


def _starts(rows: int) -> Iterator[int]:
    yield from console.progress_bar(range(0, rows, ADDED), desc="indexing", unit="block", shown=rows > ADDED)


def require_usearch() -> None:
    """Check that the index can be built, before hours of encoding.

    Raises:
        ValueError: usearch is not installed.
    """
    if importlib.util.find_spec("usearch") is None:
        raise ValueError(f"--index usearch: usearch is not installed: {how_to_install('rank')}")


def _new_index(dimensions: int) -> Any:
    require_usearch()
    from usearch.index import Index

    return Index(
        ndim=dimensions,
        metric="ip",
        dtype="bf16",
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
        expansion_search=EXPANSION_SEARCH,
    )


def _threads() -> int:
    return int(os.environ.get("OMP_NUM_THREADS") or 0)  # 0: all cores


def _index_key(vectors: np.ndarray) -> str:
    asked = [version("usearch"), CONNECTIVITY, EXPANSION_ADD, vectors.shape]
    digest = hashlib.sha256(json.dumps(asked).encode())
    digest.update(np.ascontiguousarray(vectors).data)
    return digest.hexdigest()[:32]


def _restored(index: Any, path: Path) -> bool:
    """Read a kept index into `index` if its bytes are those that were written."""
    record = path.with_suffix(".sha256")
    if not (path.is_file() and record.is_file()):
        return False
    if record.read_text(encoding="utf-8", errors="replace") != sha256_of(path):
        logger.warning("%s: its content is not what was written; the index is built again", path)
        return False
    index.load(str(path))
    index.expansion_search = EXPANSION_SEARCH
    return True


def _keep_index(index: Any, path: Path) -> None:
    """Write an index, then the digest without which it is not read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        index.save(str(temporary))
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    with atomic_write(path.with_suffix(".sha256")) as file:
        file.write(sha256_of(path))


def _search_index(index: Any, vectors: np.ndarray, queries: np.ndarray, count: int) -> Nearest:
    places = np.full((len(queries), count), -1, np.int64)
    scores = np.full((len(queries), count), -np.inf, np.float32)
    more = min(len(vectors), count + count // 2 + 10)  # bfloat16 confuses those that are nearly as near
    for row, query in enumerate(queries):
        keys = np.sort(np.asarray(index.search(query, more, threads=1).keys, dtype=np.int64))
        similarities = vectors[keys] @ query
        order = np.argsort(-similarities, kind="stable")[:count]
        places[row, : len(order)], scores[row, : len(order)] = keys[order], similarities[order]
    return Nearest(places, scores)
