"""Show how decided grades agree with the true ones: a table for terminals and reports, and a picture."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from product_relevance.evaluation.reports.markdown_tables import metrics_table
from product_relevance.utils.plotting import INK, draw_axes, save_figure

GRADE_COLUMNS = {
    "kappa": "quadratic kappa", "kappa_interval": "kappa 95%", "macro_f1": "macro-F1 of the grades",
    "accuracy": "accuracy",
}  # fmt: skip


def lay_out_grades(measured: Mapping[str, Any]) -> str:
    """Lay out kappa and macro-F1 of the grades, and below the rows by true and decided grade.

    Args:
        measured: Of `grades.measure_grades`.
    """
    confusion = measured["confusion"]
    decided = {f"d{grade}": f"decided {grade}" for grade in range(len(confusion))}
    rows = [{"grade": str(k)} | dict(zip(decided, counts, strict=True)) for k, counts in enumerate(confusion)]
    return f"{metrics_table([measured], GRADE_COLUMNS)}\n\n{metrics_table(rows, {'grade': 'true grade'} | decided)}"


def report_grades(run: Mapping[str, Any], whole: Mapping[str, Any] | None) -> list[str]:
    """Return the report's part on grades; nothing of a run of two labels.

    Args:
        run: Content of run.json.
        whole: Its out-of-fold figures.
    """
    if not run.get("grade_thresholds") or whole is None or "grades" not in whole:
        return []
    limits = ", ".join(f"{limit:.4f}" for limit in run["grade_thresholds"])
    line = (
        f"A row has the grade of how many of the thresholds {limits} its score reaches. The score is the expected "
        "grade divided by the highest one. The figures are of thresholds that were fitted on the other folds. Rows "
        f"from grade {run['relevant_from']} up count as relevant in all other figures of this report."
    )
    return ["## Grades", line, lay_out_grades(whole["grades"]), *lay_out_calibration(run.get("grade_calibration"))]


def lay_out_calibration(found: Mapping[str, Any] | None) -> list[str]:
    """Lay out what `grade_calibration.calibrate_grades` gave; nothing of None.

    Args:
        found: temperature and figures.
    """
    if found is None:
        return []
    line = f"Probabilities of the grades: their logits are divided by the temperature {found['temperature']:.4f}."
    names = {"probabilities": "probabilities", "log_loss": "log loss", "ece": "mean ECE of the grades"}
    return [line, metrics_table(found["figures"], names)]


def draw_confusion(measured: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw the share of each true grade's rows that got each grade, with the counts.

    Args:
        measured: Of `grades.measure_grades`.
        path: The PNG to write.
    """
    counts = np.array(measured["confusion"])
    draw_counts(counts, [*map(str, range(len(counts)))], f"Quadratic kappa {measured['kappa']:.3f}", path)


def draw_counts(counts: np.ndarray, names: Sequence[str], title: str, path: str | os.PathLike[str]) -> None:
    """Draw the share of each true label's rows that got each label, with the counts.

    Args:
        counts: Rows by true (first axis) and decided label, shape (K, K).
        names: Of the K labels.
        title: Of the picture.
        path: The PNG to write.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    room = 0.9 + 0.09 * max(map(len, names))
    figure, axes = draw_axes(1.6 + room * len(counts), 1.4 + 0.8 * len(counts))
    axes.grid(False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.5 else INK
        axes.text(column, row, f"{share:.0%}\n{counts[row, column]:,}", ha="center", va="center", color=colour)
    what = "grade" if names[0].isdigit() else "label"
    axes.set(xlabel=f"decided {what}", ylabel=f"true {what}")
    axes.set_xticks(range(len(counts)), names)
    axes.set_yticks(range(len(counts)), names)
    axes.set_title(title, loc="left")
    save_figure(figure, path)
