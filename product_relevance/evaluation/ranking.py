"""Measures of rankings through ir-measures: per query, with intervals and paired differences over queries."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from product_relevance.evaluation import intervals
from product_relevance.evaluation.comparison import Difference
from product_relevance.evaluation.reports.markdown_tables import metrics_table
from product_relevance.utils.extras import how_to_install

USUAL = ("nDCG@10", "RR@10", "AP", "P@5", "R@50")
Measure = Any  # of ir-measures, which has no types


@dataclass(frozen=True)
class RankingFigure:
    """The mean of one measure over queries, with its 95% interval from a bootstrap over queries."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RankingReport:
    """How well one ranking answers the judged queries.

    Attributes:
        queries: How many are judged; each counts, and one that the ranking lacks counts as 0.
        without_relevant: Those of them that have no relevant document: no order can find one.
        measures: Name of each measure to its figure.
    """

    queries: int
    without_relevant: int
    measures: Mapping[str, RankingFigure]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a file or a terminal."""
        return asdict(self)


def parse_measures(names: Sequence[str], relevant_from: int = 1, flag: str = "--measures") -> list[Measure]:
    """Read measures as ir-measures writes them.

    Args:
        names: As nDCG@10, RR@10, AP, P@5, R@50, or AP(rel=2).
        relevant_from: Lowest grade that counts as relevant where a measure asks for two kinds and names no grade.
        flag: What gave the names, for messages.

    Raises:
        ValueError: ir-measures is not installed, or knows no such measure.
    """
    try:
        import ir_measures
    except ImportError:
        raise ValueError(f"{flag}: ir-measures is not installed: {how_to_install('rank')}") from None
    return [_parse_measure(ir_measures, name, relevant_from, flag) for name in dict.fromkeys(names)]


def _parse_measure(ir_measures: Any, name: str, relevant_from: int, flag: str) -> Measure:
    try:
        measure = ir_measures.parse_measure(name)
        if relevant_from > 1 and "rel" in measure.SUPPORTED_PARAMS and "rel" not in measure.params:
            measure = measure(rel=relevant_from)
        supported = ir_measures.DefaultPipeline.supports(measure)
    except (NameError, ValueError, SyntaxError, AttributeError, TypeError, AssertionError):
        expected = f"a measure of ir-measures, as {', '.join(USUAL)} (capital letters matter)"
        raise ValueError(f"{flag} {name}: expected {expected}") from None
    if not supported:
        raise ValueError(f"{flag} {name}: no installed tool computes it; leave it out")
    return measure


def judge_rows(queries: ArrayLike, labels: ArrayLike, ids: ArrayLike | None = None) -> pd.DataFrame:
    """Make judgements of labelled rows: the rows of a query are the documents that are judged for it.

    Args:
        queries: Name of the query of each row, shape (n,).
        labels: 0 or 1, or grades, shape (n,).
        ids: Of the rows, shape (n,); their position if None.

    Returns:
        Columns query_id, doc_id and relevance.
    """
    names = np.arange(len(np.asarray(labels))) if ids is None else np.asarray(ids)
    table = {"query_id": np.asarray(queries).astype(str), "doc_id": names.astype(str)}
    return pd.DataFrame(table | {"relevance": np.asarray(labels, dtype=int)})


def rank_rows(qrels: pd.DataFrame, scores: ArrayLike) -> pd.DataFrame:
    """Make a ranking of the judged rows themselves: columns query_id, doc_id and score (n,), in their order."""
    return qrels[["query_id", "doc_id"]].assign(score=np.asarray(scores, dtype=np.float64))


def measure_out_of_fold(oof: pd.DataFrame, names: Sequence[str], relevant_from: int = 1) -> dict[str, Any]:
    """Measure out-of-fold scores as rankings of the rows of each query.

    Args:
        oof: query_digest, score, and grade or label.
        names: Measures, as `parse_measures` reads them.
        relevant_from: Lowest grade that counts as relevant.

    Returns:
        `RankingReport.to_json`, of the run's validation rows alone: no other targets compete.

    Raises:
        ValueError: As `parse_measures`, or the rows do not say their query.
    """
    measures = parse_measures(names, relevant_from, "ranking_measures of the run")
    if "query_digest" not in oof:
        raise ValueError(
            "ranking_measures of the run: found no query_digest in the out-of-fold rows; train the folds again"
        )
    qrels = judge_rows(oof["query_digest"], oof["grade"] if "grade" in oof else oof["label"])
    found = measure_queries(qrels, rank_rows(qrels, oof["score"]), measures)
    return report_ranking(qrels, found, relevant_from).to_json()


def measure_queries(qrels: pd.DataFrame, run: pd.DataFrame, measures: Sequence[Measure]) -> pd.DataFrame:
    """Measure each judged query, as ir-measures defines and breaks ties.

    Args:
        qrels: Judgements, columns query_id, doc_id and relevance.
        run: Ranking, columns query_id, doc_id and score; documents without a judgement are not relevant.
        measures: Of `parse_measures`.

    Returns:
        One row per judged query, by its id, and one column per measure. A query without a ranking, or without a
        relevant document, has what ir-measures gives it, which is 0.

    Raises:
        ValueError: No judgements.
    """
    import ir_measures

    if not len(qrels):
        raise ValueError("found no judgements, expected at least one query with a judged document")
    found = ir_measures.iter_calc([*measures], qrels, run)
    table = pd.DataFrame([(each.query_id, str(each.measure), each.value) for each in found])
    wide = table.pivot(index=0, columns=1, values=2)
    whole = wide.reindex(index=sorted(set(qrels["query_id"])), columns=[str(measure) for measure in measures])
    return whole.fillna(0.0).astype(float).rename_axis(index="query_id", columns=None)


def report_ranking(qrels: pd.DataFrame, per_query: pd.DataFrame, relevant_from: int = 1) -> RankingReport:
    """Give the mean of each measure over queries, with 95% intervals; the draws are the same for any ranking.

    Args:
        qrels: Judgements.
        per_query: Of `measure_queries`.
        relevant_from: Lowest grade that counts as relevant.
    """
    drawn = _draw_means(per_query.to_numpy())
    figures = {
        name: RankingFigure(float(per_query[name].mean()), *intervals.percentile_interval(drawn[:, place]))
        for place, name in enumerate(per_query.columns)
    }
    answered = qrels.loc[qrels["relevance"] >= relevant_from, "query_id"].nunique()
    return RankingReport(len(per_query), len(per_query) - answered, figures)


def compare_rankings(a: pd.DataFrame, b: pd.DataFrame) -> dict[str, Difference]:
    """Compare two rankings of the same judged queries, with paired 95% intervals: each draw has the same queries.

    Args:
        a, b: Of `measure_queries`.

    Returns:
        Measure to its means, and B's less A's.

    Raises:
        ValueError: Other queries or other measures.
    """
    if not (a.index.equals(b.index) and a.columns.equals(b.columns)):
        raise ValueError("found rankings of other queries or measures, expected the same judgements and measures")
    drawn = _draw_means(b.to_numpy() - a.to_numpy())
    means = zip(a.columns, a.mean(), b.mean(), strict=True)
    return {
        name: Difference(float(one), float(other), float(other - one), *intervals.percentile_interval(drawn[:, place]))
        for place, (name, one, other) in enumerate(means)
    }


def ranking_table(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay reports (`RankingReport.to_json`) of several rankings out for a terminal, one row per ranking."""
    rows = []
    for name, report in reports.items():
        row: dict[str, Any] = {"ranking": name}
        for measure, figure in report["measures"].items():
            row |= {measure: figure["value"], f"{measure} 95%": [figure["low"], figure["high"]]}
        rows.append(row)
    first = next(iter(reports.values()))
    note = (
        f"{first['queries']:,} queries, of which {first['without_relevant']:,} have no relevant target and count as 0"
    )
    return f"{metrics_table(rows, [*rows[0]])}\n\n{note}"


def _draw_means(values: np.ndarray) -> np.ndarray:
    """Return the means of the columns of `values` (queries, measures) in each draw of queries, (draws, measures)."""
    count = intervals.draw_count(len(values))
    drawn = [times @ values / len(values) for times in intervals.query_draws(np.arange(len(values)), count=count)]
    return np.concatenate(drawn)
