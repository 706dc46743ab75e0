"""A judged file as a ranking: the rows of each query in the order of their scores, measured and written for TREC."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from product_relevance.data.folds import hash_texts
from product_relevance.ensemble.files.judge_file import JudgedFile
from product_relevance.evaluation import ranking, trec
from product_relevance.evaluation.ranking import Measure
from product_relevance.evaluation.reports.markdown_tables import metrics_table


def qrels_of(judged: JudgedFile) -> pd.DataFrame:
    """Return labels or grades as judgements; a digest names each query, so that no text of it goes into a file."""
    names = [f"q{number:016x}" for number in hash_texts(judged.queries).tolist()]
    ids = judged.frame["id"]
    return ranking.judge_rows(names, judged.gains, ids if ids.is_unique else None)


def measure_order(judged: JudgedFile, names: Sequence[str]) -> ranking.RankingReport:
    """Measure the ensemble alone as a ranking of the rows of each query, by measures as ir-measures writes them."""
    qrels, least = qrels_of(judged), judged.relevant_from
    run = ranking.rank_rows(qrels, judged.scores)
    found = ranking.measure_queries(qrels, run, ranking.parse_measures(names, least))
    return ranking.report_ranking(qrels, found, least)


def measure_ranking(judged: JudgedFile, measures: Sequence[Measure]) -> dict[str, Any]:
    """Measure each fold and the ensemble as rankings of the rows of each query.

    Args:
        judged: The scored file.
        measures: Of `ranking.parse_measures`.

    Returns:
        `folds` {name: report} and `ensemble`, as of `RankingReport.to_json`, and `ensemble_less_fold`: fold to measure
        to the paired difference, with its 95% interval over queries.
    """
    qrels, least = qrels_of(judged), judged.relevant_from
    whole = ranking.measure_queries(qrels, ranking.rank_rows(qrels, judged.scores), measures)
    folds = {
        name: ranking.measure_queries(qrels, ranking.rank_rows(qrels, judged.folds[:, place]), measures)
        for place, name in enumerate(judged.ensemble.folds)
    }
    paired = {name: ranking.compare_rankings(part, whole) for name, part in folds.items()}
    return {
        "folds": {name: ranking.report_ranking(qrels, part, least).to_json() for name, part in folds.items()},
        "ensemble": ranking.report_ranking(qrels, whole, least).to_json(),
        "ensemble_less_fold": {
            name: {measure: asdict(each) for measure, each in found.items()} for name, found in paired.items()
        },
    }


def ranking_tables(found: dict[str, Any]) -> str:
    """Lay out what `measure_ranking` returns for a terminal."""
    rows = [
        {"ensemble less": name} | {measure: _difference(each) for measure, each in part.items()}
        for name, part in found["ensemble_less_fold"].items()
    ]
    reports = ranking.ranking_table({**found["folds"], "ensemble": found["ensemble"]})
    return f"{reports}\n\n{metrics_table(rows, [*rows[0]])}"


def _difference(found: dict[str, float]) -> str:
    return f"{found['difference']:+.4f} ({found['low']:+.4f} to {found['high']:+.4f})"


def write_trec(judged: JudgedFile, folder: str) -> list[Path]:
    """Write the labels as `qrels.txt` and the ensemble's order as `run.txt` into a folder; returns both paths.

    Raises:
        ValueError: An id of a row is empty or has white space.
    """
    qrels, place = qrels_of(judged), Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    trec.write_qrels(qrels, place / "qrels.txt")
    trec.write_run(ranking.rank_rows(qrels, judged.scores), place / "run.txt")
    return [place / "qrels.txt", place / "run.txt"]
