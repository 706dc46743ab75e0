"""The targets nearest to each query inside a band of similarity, by a matrix product in blocks of rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from product_relevance.utils import console

BLOCK_VALUES = 2**22  # similarities in memory at once: 16 MiB, and twice that while they are ranked
DIGITS = 4  # of a similarity; what lies below is noise of batch sizes, threads and platforms


@dataclass(frozen=True)
class Band:
    """Similarities that a row's targets may have.

    Attributes:
        low: Least similarity.
        high: Greatest similarity of each row (rows,).
    """

    low: float
    high: np.ndarray


@dataclass(frozen=True)
class Eligible:
    """The targets that a row may get.

    Attributes:
        forbidden: Places in the targets that a row must not get, an array per row.
        allowed: From a slice of rows to booleans (rows of the slice, targets); None allows all targets.
    """

    forbidden: Sequence[np.ndarray]
    allowed: Callable[[slice], np.ndarray] | None = None


def nearest_in_band(
    queries: np.ndarray, targets: np.ndarray, band: Band, count: int, eligible: Eligible
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest targets of each row whose similarity lies in the row's band.

    Args:
        queries: Unit vectors (rows, dimensions).
        targets: Unit vectors (targets, dimensions).
        band: Their least and greatest similarity.
        count: How many to find.
        eligible: The targets that a row may get.

    Returns:
        (places in `targets` (rows, count), -1 where there are fewer; their similarities, rounded to 4 digits).
        Nearest first, equal ones by place.
    """
    count = min(count, len(targets))
    places = np.full((len(queries), count), -1, dtype=np.int32)
    similarities = np.full((len(queries), count), -np.inf, dtype=np.float32)
    step = max(1, BLOCK_VALUES // max(1, len(targets)))
    starts = range(0, len(queries), step) if count else range(0)
    for start in console.progress_bar(starts, desc="searching", unit="block", shown=len(starts) >= 50):
        rows = slice(start, start + step)
        block = np.round(queries[rows] @ targets.T, DIGITS)
        _forbid(block, eligible.forbidden[rows])
        if eligible.allowed is not None:
            block[~eligible.allowed(rows)] = -np.inf
        block[(block < band.low) | (block > band.high[rows, None])] = -np.inf
        places[rows], similarities[rows] = _best(block, count)
    return places, similarities


def _forbid(block: np.ndarray, forbidden: Sequence[np.ndarray]) -> None:
    rows = np.repeat(np.arange(len(block)), [len(places) for places in forbidden])
    block[rows, np.concatenate(forbidden)] = -np.inf


def _best(block: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    # Ranked as whole numbers that hold similarity, then place: of equal ones a partition would keep any.
    places = block.shape[1]
    ranks = np.rint(np.maximum(block, -9) * 10**DIGITS).astype(np.int64) * places - np.arange(places)
    ranks = -np.sort(-np.partition(ranks, places - count, axis=1)[:, -count:], axis=1)
    found = -ranks % places
    values = np.take_along_axis(block, found, axis=1)
    return np.where(np.isfinite(values), found, -1), values
