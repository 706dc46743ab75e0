"""The page on what went wrong in a judged file, and beside it a table of all its rows with their texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from product_relevance.ensemble import outputs
from product_relevance.ensemble.files.judge_file import JudgedFile
from product_relevance.ensemble.files.rank_judged import measure_order
from product_relevance.evaluation.grades import measure_grades
from product_relevance.evaluation.ranking import USUAL
from product_relevance.evaluation.reports.error_report import JudgedRows, compute_losses, write_error_report
from product_relevance.text.taxonomy import split_path
from product_relevance.utils.extras import has_package, how_to_install
from product_relevance.utils.tasks import LABELS


def report_errors(judged: JudgedFile, threshold: str, folder: str, measures: Sequence[str] = USUAL) -> Path:
    """Write the page of `error_report` on a judged file, and beside it `rows.csv`; returns the page's path.

    The table holds each row with its texts, those with the largest loss first.

    Args:
        judged: The scored file.
        threshold: Kind of a threshold of the run, or a number as text.
        folder: Made if need be.
        measures: Of the order of each query's rows, as ir-measures writes them.
    """
    rows = JudgedRows(
        judged.frame,
        judged.scores,
        judged.thresholds,
        judged.queries,
        judged.known,
        _find_first_levels(judged),
        _measure_grades(judged),
        _measure_ranking(judged, measures),
    )
    page = write_error_report(folder, rows, judged.ensemble.rule.threshold(threshold), judged.ensemble.run.data)
    outputs.write_rows(_lay_out_judged(judged), page.with_name("rows.csv"))
    return page


def _find_first_levels(judged: JudgedFile) -> list[str] | None:
    frame, tree = judged.frame, getattr(judged.ensemble, "taxonomy", None)
    if not (frame["task"] == "QC").all():
        return None
    first = {path: (split_path(path, tree) or [path])[0] for path in frame["target"].unique()}
    return [first[path] for path in frame["target"]]


def _measure_grades(judged: JudgedFile) -> dict[str, Any] | None:
    if "grade" not in judged.frame or (decided := judged.ensemble.decide_grades(judged.scores)) is None:
        return None
    return measure_grades(judged.frame["grade"], decided, len(judged.ensemble.run.labels), judged.queries)


def _measure_ranking(judged: JudgedFile, measures: Sequence[str]) -> dict[str, Any] | str | None:
    if len(set(judged.queries)) == len(judged.queries):
        return None
    if not has_package("ir_measures"):
        return f"The order of each query's rows was not measured: ir-measures is missing. {how_to_install('rank')}"
    return measure_order(judged, measures).to_json()


def _lay_out_judged(judged: JudgedFile) -> pd.DataFrame:
    """Return id, language, query, target, score, decision, label and loss of each row; of graded rows both grades."""
    frame, scores = judged.frame, pd.DataFrame({"score": judged.scores, "prediction": judged.relevant})
    if "grade" in frame and (decided := judged.ensemble.decide_grades(judged.scores)) is not None:
        scores["grade"] = decided
    table = outputs.lay_out_rows(frame, scores).rename(columns={"grade": "decided_grade"})
    if "decided_grade" in table:
        table["true_grade"] = frame["grade"].to_numpy()
    table["label"] = [LABELS[label] for label in judged.labels]
    table["loss"] = compute_losses(judged.labels, judged.scores)
    return table.sort_values("loss", ascending=False, kind="stable")
