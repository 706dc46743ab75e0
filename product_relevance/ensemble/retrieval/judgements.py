"""What is known to be relevant in a catalogue, and how well first stage and ensemble find it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from product_relevance.data.catalogue import Catalogue, Queries, is_plain_text, read_fields
from product_relevance.data.sources.encodings import kind_of_name
from product_relevance.data.sources.readers import READERS
from product_relevance.data.sources.scales import require_scale
from product_relevance.data.sources.tables import Source
from product_relevance.evaluation import ranking, trec
from product_relevance.evaluation.ranking import Measure
from product_relevance.evaluation.reports.markdown_tables import metrics_table
from product_relevance.text.cleaning import normalise_text
from product_relevance.utils.run_record import FinishedRunRecord, StackRecord
from product_relevance.utils.tasks import TARGET_FIELD

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judgements:
    """Grades of documents for queries.

    Attributes:
        qrels: Columns query_id, doc_id and relevance.
        relevant_from: Lowest grade that counts as relevant where a measure does not name one.
    """

    qrels: pd.DataFrame
    relevant_from: int = 1


def read_judgements(
    source: Source, queries: Queries, catalogue: Catalogue, run: FinishedRunRecord | StackRecord
) -> Judgements:
    """Read judgements in TREC form, or labelled records.

    Args:
        source: A file of records is matched by the texts of query and target, as `normalise_text` compares them; any
            other file is `query 0 document grade` on each line, with the ids of queries and catalogue.
        queries: What is asked; judgements of other queries are left out.
        catalogue: What is ranked; a judged target that it lacks counts as not found.
        run: Of the model, whose task and grades the labels have.

    Raises:
        ValueError: It cannot be read, or judges no query of the list.
    """
    labelled = kind_of_name(source.name) in READERS and not is_plain_text(source.name)
    found = _read_labelled(source, queries, catalogue, run) if labelled else trec.read_qrels(source.name)
    qrels = found[found["query_id"].isin(set(queries.ids))].reset_index(drop=True)
    if qrels.empty:
        expected = "expected texts of its queries" if labelled else "expected its query ids"
        raise ValueError(f"--qrels {source.name}: found no query of {queries.name}, {expected}")
    if lost := int((~qrels["doc_id"].isin(set(catalogue.ids))).sum()):
        logger.warning(
            "%s: %s judged targets are not in %s and count as not found", source.name, f"{lost:,}", catalogue.name
        )
    graded = labelled and len(run.labels) > 2
    return Judgements(qrels, int(run.relevant_from or 1) if graded else 1)


def _read_labelled(
    source: Source, queries: Queries, catalogue: Catalogue, run: FinishedRunRecord | StackRecord
) -> pd.DataFrame:
    target = TARGET_FIELD[run.task]
    needed = {"query": "origin_query", "target": target, "label": "label"}
    # Columns that were named for queries and catalogue hold here where they are there.
    source = replace(source, reading=replace(source.reading, remembered=("columns", "label_map")))
    table = read_fields(source, needed, run.task)
    require_scale(table)
    asked = {normalise_text(text): name for name, text in zip(queries.ids, queries.texts, strict=True)}
    documents: dict[str, list[str]] = {}
    for name, text in zip(catalogue.ids, catalogue.targets, strict=True):
        documents.setdefault(normalise_text(text), []).append(name)
    grades: dict[tuple[str, str], int] = {}
    for query, text, label in zip(table.columns["origin_query"], table.columns[target], table.labels, strict=True):
        known = asked.get(normalise_text(query)) if isinstance(query, str) else None
        if label is None or known is None or not isinstance(text, str):
            continue
        key = normalise_text(text)
        for document in documents.get(key, [f"not in the catalogue: {key}"]):
            grades[known, document] = max(label, grades.get((known, document), label))
    return pd.DataFrame([(*pair, grade) for pair, grade in grades.items()], columns=[*trec.QRELS])


def measure_stages(judgements: Judgements, frame: pd.DataFrame, measures: Sequence[Measure]) -> dict[str, Any]:
    """Measure the order of the first stage and that of the ensemble over all candidates.

    Args:
        judgements: What is known to be relevant.
        frame: Of `rank_catalogue.rank_candidates`.
        measures: Of `ranking.parse_measures`.

    Returns:
        `first_stage` and `ensemble` (see `RankingReport.to_json`), and `ensemble_less_first_stage`: measure to the
        paired difference, with its 95% interval over queries.
    """
    qrels, names = judgements.qrels, {"id": "doc_id"}
    runs = {
        stage: frame.rename(columns=names)[["query_id", "doc_id"]].assign(score=frame[column].astype(float))
        for stage, column in (("first_stage", "first_stage_score"), ("ensemble", "score"))
    }
    found = {stage: ranking.measure_queries(qrels, run, measures) for stage, run in runs.items()}
    reports = {
        stage: ranking.report_ranking(qrels, part, judgements.relevant_from).to_json() for stage, part in found.items()
    }
    differences = ranking.compare_rankings(found["first_stage"], found["ensemble"])
    return reports | {"ensemble_less_first_stage": {name: asdict(each) for name, each in differences.items()}}


def stages_table(found: dict[str, Any]) -> str:
    """Lay out what `measure_stages` returns for a terminal."""
    reports = ranking.ranking_table({"first stage": found["first_stage"], "ensemble": found["ensemble"]})
    rows = [
        {"measure": name, "ensemble less first stage": f"{each['difference']:+.4f}", "95% interval": _interval(each)}
        for name, each in found["ensemble_less_first_stage"].items()
    ]
    return f"{reports}\n\n{metrics_table(rows, [*rows[0]])}"


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['low']:+.4f} to {found['high']:+.4f}"
