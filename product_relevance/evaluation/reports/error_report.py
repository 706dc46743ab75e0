"""Show where a model goes wrong on a labelled file: one HTML page and its pictures; local only, as it holds texts."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from product_relevance.evaluation.metrics import RowFacts, best_threshold, scores_report
from product_relevance.evaluation.reports import figures
from product_relevance.evaluation.reports.error_sections import show_confusion, show_grades, show_ranking
from product_relevance.evaluation.reports.markdown_tables import format_cell, note_of
from product_relevance.utils.html_page import Section, write_page
from product_relevance.utils.tasks import LABELS

LARGEST = 100  # rows with the largest loss that are listed
GROUPS = 20  # groups of a picture: those with most rows
LENGTHS = ((1, 10), (11, 20), (21, 40), (41, 80), (81, None))  # characters of a query
FIGURES = {
    "rows": "rows", "positive": "relevant", "f1": "F1", "f1_interval": "F1 95%", "floor_f1": "F1 floor",
    "macro_f1": "macro-F1", "auc": "AUC", "auc_interval": "AUC 95%", "note": "note",
}  # fmt: skip
HANDLED = {
    "rejected": "rows that were left out, since they could not be read",
    "duplicates": "rows that were left out as duplicates",
    "contradictory_rows": "rows of pairs with contradictory labels",
    "languages_corrected": "rows whose language was corrected",
}


@dataclass(frozen=True)
class JudgedRows:
    """What a model says of n labelled rows.

    Attributes:
        records: id, task, language, origin_query, target, label.
        scores: Probabilities, shape (n,).
        thresholds: From which each row counts as relevant, shape (n,).
        queries: Key of each row's query, any values, shape (n,).
        known: Whether the training file had the query, shape (n,).
        first_levels: Of the category path, shape (n,); None for item titles.
        grades: Of `grades.measure_grades`; None of a run of two labels.
        ranking: Of `RankingReport.to_json`, or why nothing was measured; None where each query has one row.
    """

    records: pd.DataFrame
    scores: np.ndarray
    thresholds: np.ndarray
    queries: np.ndarray
    known: np.ndarray
    first_levels: list[str] | None = None
    grades: Mapping[str, Any] | None = None
    ranking: Mapping[str, Any] | str | None = None

    @property
    def labels(self) -> np.ndarray:
        """The labels, shape (n,)."""
        return self.records["label"].to_numpy(int)


def write_error_report(
    folder: str | os.PathLike[str], rows: JudgedRows, threshold: float, data: Mapping[str, Any]
) -> Path:
    """Write `report.html` and `figures/*.png`; the page lists rows with their texts.

    Args:
        folder: Made if need be.
        rows: The file, scored and decided.
        threshold: That the run has for all languages.
        data: What the run's record says of its training file.

    Returns:
        The page's path.
    """
    return write_page(Path(folder), "What went wrong, and where", _sections(rows, threshold, data))


def _sections(rows: JudgedRows, threshold: float, data: Mapping[str, Any]) -> Iterator[tuple[str, Section]]:
    yield "threshold", _show_thresholds(rows, threshold)
    yield "confusion", show_confusion(rows.labels, (rows.scores >= rows.thresholds).astype(int))
    if rows.grades is not None:
        yield "grades", show_grades(rows.grades)
    if rows.ranking is not None:
        yield "ranking", show_ranking(rows.ranking)
    for name, groups in _list_groups(rows).items():
        if groups.nunique() > 1:
            yield name.replace(" ", "_"), _show_groups(rows, threshold, name, groups)
    yield "losses", _list_losses(rows)
    yield "training", _show_handling(data)


def _show_thresholds(rows: JudgedRows, threshold: float) -> Section:
    whole = _measure(rows, np.ones(len(rows.labels), dtype=bool), threshold)
    best, f1 = best_threshold(rows.labels, rows.scores)
    text = f"F1 is {whole['f1']:.4f} at the run's threshold {threshold:.4f}, and {f1:.4f} at {best:.4f}, the best one "
    text += "on these rows. The second is chosen with the labels of this file: it shows what a better threshold could "
    text += "gain, and is no result."
    draw = partial(figures.draw_f1_over_threshold, rows.labels, rows.scores, threshold, best=best)
    return Section("thresholds", text, {"all rows": _table([{"group": "all"} | whole], "group")}, draw)


def _list_groups(rows: JudgedRows) -> dict[str, pd.Series]:
    """Return the group of each row by what the groups are."""
    records = rows.records
    found: dict[str, pd.Series] = {"language": records["language"].astype(str)}
    if rows.first_levels is not None:
        found["first level"] = pd.Series(rows.first_levels, index=records.index)
    found["query length"] = pd.Series(
        [_name_length(len(text)) for text in records["origin_query"]], index=records.index
    )
    found["query"] = pd.Series(np.where(rows.known, "of the training file", "new"), index=records.index)
    return found


def _name_length(characters: int) -> str:
    low, high = next((low, high) for low, high in LENGTHS if high is None or characters <= high)
    return f"{low} or more" if high is None else f"{low} to {high}"


def _show_groups(rows: JudgedRows, threshold: float, name: str, groups: pd.Series) -> Section:
    counts = groups.value_counts()
    order = sorted(counts.index, key=_first_number) if name == "query length" else [*counts.index]
    measured = {str(group): _measure(rows, (groups == group).to_numpy(), threshold) for group in order}
    below = [group for group, found in measured.items() if found["f1"] < found["floor_f1"]]
    text = f"Figures by {name}, with 95% intervals over queries. "
    floor = f'Always answering "relevant" has a higher F1 for: {", ".join(below)}.'
    text += floor if below else "No F1 is below its floor."
    shown = dict(list(measured.items())[:GROUPS])
    draw = partial(figures.draw_group_bars, shown, name, threshold)
    table = _table([{name: group, "note": note_of(found)} | found for group, found in measured.items()], name)
    caption = f"the picture shows the {GROUPS} with most rows" if len(measured) > GROUPS else ""
    return Section(f"by {name}", text, {caption: table}, lambda path: draw(path=path))


def _first_number(name: str) -> int:
    return int(name.split()[0])


def compute_losses(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return -log of the probability that each score gives to its label, shape (n,)."""
    right = np.where(labels == 1, scores, 1 - scores)
    losses: np.ndarray = -np.log(np.clip(right, 1e-12, 1))
    return losses


def _list_losses(rows: JudgedRows) -> Section:
    losses = compute_losses(rows.labels, rows.scores)
    order = np.argsort(-losses, kind="stable")[:LARGEST]
    columns = ["id", "language", "origin_query", "target", "label"]
    table = rows.records[columns].iloc[order].reset_index(drop=True).rename(columns={"origin_query": "query"})
    table["label"] = [LABELS[label] for label in rows.labels[order]]
    table["score"] = [f"{score:.4f}" for score in rows.scores[order]]
    table["loss"] = [f"{loss:.2f}" for loss in losses[order]]
    table["id"] = table["id"].astype(str)
    text = (
        f"The {len(order)} rows with the largest loss, -log of the probability that the model gives the label. Among "
    )
    text += "them are the model's worst errors, and wrong labels: relevance review helps to correct those."
    return Section("rows with the largest loss", text, {"": table})


def _show_handling(data: Mapping[str, Any]) -> Section:
    counts = data.get("handled") or {}
    lines = [("rows that were trained and validated on", data.get("rows"))]
    lines += [(text, counts[name]) for name, text in HANDLED.items() if name in counts]
    table = pd.DataFrame(lines, columns=["what", "rows"])
    missing = "" if counts else " The run was made before such rows were counted."
    return Section("rows of the training file", f"How {data.get('source')} was read.{missing}", {"": table})


def _measure(rows: JudgedRows, part: np.ndarray, threshold: float) -> dict[str, Any]:
    facts = RowFacts(row_thresholds=rows.thresholds[part], queries=rows.queries[part])
    return scores_report(rows.labels[part], rows.scores[part], threshold, facts)


def _table(lines: list[dict[str, Any]], name: str) -> pd.DataFrame:
    columns = {name: name} | FIGURES
    shown = [
        {key: format_cell(line.get(key)) if key != "note" else line.get(key) or "" for key in columns}
        for line in lines
    ]
    return pd.DataFrame(shown, columns=[*columns]).rename(columns=columns)
