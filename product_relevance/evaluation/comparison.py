"""Compare two models on the same rows: paired differences with intervals, and the rows that changed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from product_relevance.evaluation import intervals
from product_relevance.evaluation.reports.markdown_tables import metrics_table

MEASURES = ("auc", "f1", "macro_f1")


@dataclass(frozen=True)
class Judged:
    """What one model says of n rows.

    Attributes:
        scores: Probabilities, shape (n,).
        relevant: Whether the row counts as relevant at the model's own threshold, shape (n,).
    """

    scores: np.ndarray
    relevant: np.ndarray


@dataclass(frozen=True)
class Difference:
    """One measure of both models, and model B's less model A's with its 95% interval over queries."""

    a: float
    b: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Two models on one labelled file.

    Attributes:
        rows: How many there are.
        measures: auc, f1 and macro_f1; auc is missing where the rows have one label only.
        changed: Rows whose decision differs between the models.
        mended: Changed rows that are right with B and were wrong with A; the others became wrong.
    """

    rows: int
    measures: Mapping[str, Difference]
    changed: int
    mended: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a file or a terminal."""
        return asdict(self)

    def is_at_least(self, measure: str, margin: float) -> bool:
        """Return whether B is surely more than `margin` above A: the whole interval of the difference lies there.

        A margin below 0 asks that B is no worse by so much (a test of non-inferiority).

        Raises:
            ValueError: The measure is missing, since the rows have one label only.
        """
        if measure not in self.measures:
            raise ValueError(f"--measure {measure}: the file has rows of one label only, expected both labels")
        return self.measures[measure].low > margin


def compare_models(labels: ArrayLike, queries: ArrayLike, a: Judged, b: Judged) -> Comparison:
    """Measure two models on the same rows, with paired 95% intervals from a bootstrap over queries.

    Args:
        labels: 0 or 1, shape (n,).
        queries: Query of each row, any values, shape (n,): rows of one query are not independent.
        a, b: The models' scores and decisions.

    Returns:
        The comparison; B's figures less A's.

    Raises:
        ValueError: No rows, or not as many values everywhere.
    """
    truth, groups = np.asarray(labels, dtype=int), np.asarray(queries)
    lengths = {len(truth), len(groups), *(len(part) for m in (a, b) for part in (m.scores, m.relevant))}
    if lengths != {len(truth)} or not len(truth):
        raise ValueError(f"compare: found {sorted(lengths)} values, expected one per row, and at least one row")
    whole, drawn = _measure(truth, (a, b), np.ones((1, len(truth)), dtype=int)), []
    for times in intervals.query_draws(groups, count=intervals.draw_count(len(truth))):
        drawn.append(_measure(truth, (a, b), times))
    spread = np.concatenate(drawn, axis=-1)
    found = {
        name: _difference(whole[:, i, 0], spread[:, i])
        for i, name in enumerate(MEASURES)
        if np.isfinite(whole[:, i]).all()
    }
    changed = a.relevant != b.relevant
    mended = changed & (b.relevant == (truth == 1))
    return Comparison(len(truth), found, int(changed.sum()), int(mended.sum()))


def comparison_table(found: Comparison) -> str:
    """Lay a comparison out for a terminal."""
    rows = [
        {
            "measure": name,
            "A": value.a,
            "B": value.b,
            "B - A": f"{value.difference:+.4f}",
            "95% interval": f"{value.low:+.4f} to {value.high:+.4f}",
            "excludes 0": "yes" if value.low > 0 or value.high < 0 else "no",
        }
        for name, value in found.measures.items()
    ]
    worse = found.changed - found.mended
    changed = f"{found.changed} of {found.rows} rows changed: {found.mended} became right, {worse} became wrong"
    return metrics_table(rows, [*rows[0]]) + f"\n\n{changed}"


def _measure(labels: np.ndarray, models: tuple[Judged, Judged], times: np.ndarray) -> np.ndarray:
    """Return each measure of both models where row i counts `times[..., i]` times, shape (2, measures, draws)."""
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw may hold one label only
        return np.array([_measure_model(labels, model, times) for model in models])


def _measure_model(labels: np.ndarray, model: Judged, times: np.ndarray) -> list[np.ndarray]:
    relevant = np.asarray(model.relevant, dtype=bool)
    area = intervals.weighted_auc(labels, np.asarray(model.scores, dtype=np.float64), times)
    return [
        area,
        *(np.nan_to_num(one(labels, relevant, times)) for one in (intervals.weighted_f1, intervals.weighted_macro_f1)),
    ]


def _difference(whole: np.ndarray, drawn: np.ndarray) -> Difference:
    spread = drawn[1] - drawn[0]
    low, high = intervals.percentile_interval(spread[np.isfinite(spread)])
    return Difference(float(whole[0]), float(whole[1]), float(whole[1] - whole[0]), low, high)
