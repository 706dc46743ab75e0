"""Parts of the page on errors: confusion of the decisions, grades and the order of each query's rows."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from product_relevance.evaluation.grades import measure_each_grade
from product_relevance.evaluation.reports.grade_report import GRADE_COLUMNS, draw_confusion, draw_counts
from product_relevance.evaluation.reports.markdown_tables import format_cell
from product_relevance.utils.html_page import Section
from product_relevance.utils.tasks import LABELS


def show_confusion(labels: np.ndarray, decided: np.ndarray) -> Section:
    """Count decisions by label.

    Args:
        labels: 0 or 1, shape (n,).
        decided: 0 or 1, shape (n,).
    """
    counts = np.bincount(2 * labels + decided, minlength=4).reshape(2, 2)
    text = (
        f"{counts[0, 1] + counts[1, 0]:,} of {len(decided):,} decisions are wrong. {counts[0, 1]:,} irrelevant pairs "
        f"count as relevant, and {counts[1, 0]:,} relevant pairs as irrelevant."
    )
    names = [LABELS[0], LABELS[1]]
    title = f"{np.trace(counts) / len(decided):.1%} of the decisions are right"
    return Section("confusion", text, {"": _lay_out(counts, names)}, partial(draw_counts, counts, names, title))


def show_grades(measured: Mapping[str, Any]) -> Section:
    """Show how decided grades agree with the true ones; `measured` is of `grades.measure_grades`."""
    counts = np.array(measured["confusion"])
    apart = np.abs(np.subtract.outer(range(len(counts)), range(len(counts))))
    text = (
        f"{counts[apart == 0].sum():,} of {counts.sum():,} rows got their true grade, and "
        f"{counts[apart == 1].sum():,} one of its neighbours. "
        "Quadratic kappa is 1 for equal grades, and 0 for what chance gives."
    )
    whole = pd.DataFrame(
        [{GRADE_COLUMNS[key]: format_cell(measured[key]) for key in GRADE_COLUMNS if key in measured}]
    )
    each = pd.DataFrame(
        [{"grade": str(grade)} | found for grade, found in enumerate(measure_each_grade(counts))]
    ).rename(columns={"f1": "F1"})
    for name in ("precision", "recall", "F1"):
        each[name] = each[name].map(format_cell)
    tables = {"all grades": whole, "each grade": each}
    tables["rows by true and decided grade"] = _lay_out(counts, [f"grade {grade}" for grade in range(len(counts))])
    return Section("grades", text, tables, partial(draw_confusion, measured))


def _lay_out(counts: np.ndarray, names: list[str]) -> pd.DataFrame:
    table = pd.DataFrame({"true": names})
    for place, name in enumerate(names):
        table[f"decided {name}"] = counts[:, place]
    return table


def show_ranking(report: Mapping[str, Any] | str) -> Section:
    """Show how well the scores order the rows of each query.

    Args:
        report: Of `RankingReport.to_json`; or why nothing was measured.
    """
    if isinstance(report, str):
        return Section("ranking", report)
    text = (
        f"The rows of each of {report['queries']:,} queries in the order of their scores, with 95% intervals over "
        f"queries. Queries without a relevant row count as 0: {report['without_relevant']:,}."
    )
    rows = [
        {"measure": name, "value": format_cell(each["value"]), "95%": format_cell([each["low"], each["high"]])}
        for name, each in report["measures"].items()
    ]
    return Section("ranking", text, {"": pd.DataFrame(rows)})
