"""Report a study: mean and deviation over seeds, paired intervals against the baseline, table and picture."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from product_relevance.evaluation import intervals
from product_relevance.utils import plotting

FIGURES = ("auc", "macro_f1", "f1")
TITLES = {"auc": "AUC", "macro_f1": "macro-F1", "f1": "F1"}
UNSURE = "0.6"  # a grey, where the interval holds zero


def measure(study, output: Path, folder_of, finished) -> dict:
    """Measure all finished rows on the study's labelled file.

    Thresholds come from each run's own out-of-fold scores: `macro_f1` is taken at the threshold for macro-F1, `f1` at
    the one for F1. Where the `evaluate` of a row names a number as threshold, both are taken there. Rows whose seeds
    are not all finished are left out.

    Args:
        study: what was trained.
        output: folder of the study.
        folder_of: (output, row name, seed) -> folder of that job.
        finished: (row, seed) -> whether that job is done as the study now wants it.

    Returns:
        {"rows": {name: {figure: {"mean", "deviation", "difference", "low", "high"}}}, "floor_f1", "evaluated"}
    """
    from product_relevance.evaluation.metrics import measure_floor
    from product_relevance.text.cleaning import normalise_text

    frame = labelled(study.evaluate)
    labels = frame["label"].to_numpy(int)
    groups = np.array([normalise_text(text) for text in frame["origin_query"]])
    times = intervals.draw_queries(groups)
    drawn = {}
    for row in study.rows:
        folders = [folder_of(output, row.name, seed) for seed in study.seeds]
        if all(finished(row, seed) for seed in study.seeds):
            drawn[row.name] = _figures(row, folders, frame["id"], labels, times)
    if study.baseline not in drawn:
        return {"rows": {}, "floor_f1": measure_floor(labels)["f1"], "evaluated": len(frame)}
    rows = {name: _against(found, drawn[study.baseline]) for name, found in drawn.items()}
    return {"rows": rows, "floor_f1": measure_floor(labels)["f1"], "evaluated": len(frame)}


def labelled(file: Path) -> pd.DataFrame:
    """Read the labelled rows that a study is judged on."""
    from product_relevance.data.records import read_records

    return read_records(file, role="train", on_bad_rows="skip")


def scores_of(folder: Path, ids: pd.Series) -> np.ndarray:
    """Return the probabilities that one job gave the rows of these ids, in their order."""
    table = pd.read_parquet(folder / "dev.txt.scores.parquet")
    return table.set_index(table["id"].astype(str))["score"][ids.astype(str)].to_numpy()


def _figures(row, folders: list[Path], ids, labels, times) -> dict[str, np.ndarray]:
    """Return each figure of each seed: on all rows, then on each draw, shape (seeds, 1 + draws)."""
    found = {name: [] for name in FIGURES}
    for folder in folders:
        thresholds = _thresholds(row, json.loads((folder / "done.json").read_text(encoding="utf-8"))["thresholds"])
        scores = scores_of(folder, ids)
        all_times = np.vstack([np.ones(len(labels), dtype=int), times])
        found["auc"].append(intervals.weighted_auc(labels, scores, all_times))
        found["macro_f1"].append(intervals.weighted_macro_f1(labels, scores >= thresholds["macro_f1"], all_times))
        found["f1"].append(intervals.weighted_f1(labels, scores >= thresholds["f1"], all_times))
    return {name: np.array(values) for name, values in found.items()}


def _thresholds(row, chosen: dict[str, float]) -> dict[str, float]:
    """Return the thresholds for F1 and macro-F1; shares of votes have the threshold one half."""
    if row.evaluate.get("vote", "mean") != "mean":
        return {"f1": 0.5, "macro_f1": 0.5}
    fixed = row.evaluate.get("threshold")
    return chosen if fixed is None else {"f1": fixed, "macro_f1": fixed}


def _against(found: dict, baseline: dict) -> dict:
    result = {}
    for name in FIGURES:
        values, differences = found[name][:, 0], found[name].mean(axis=0) - baseline[name].mean(axis=0)
        low, high = intervals.percentile_interval(differences[1:])
        deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        result[name] = {"mean": float(values.mean()), "deviation": deviation, "seeds": values.tolist()}
        result[name] |= {"difference": float(differences[0]), "low": low, "high": high}
    return result


def to_markdown(study, found: dict) -> str:
    """Write the table: mean ± deviation over seeds, and the difference to the baseline with its interval."""
    lines = [f"{study.title}: {found['evaluated']:,} rows, floor F1 {found['floor_f1']:.4f}, seeds {study.seeds}", ""]
    lines += ["| row | " + " | ".join(f"{TITLES[name]} | against {study.baseline}" for name in FIGURES) + " |"]
    lines += ["|---" * (1 + 2 * len(FIGURES)) + "|"]
    for row, figures in found["rows"].items():
        cells = []
        for name in FIGURES:
            value = figures[name]
            cells += [f"{value['mean']:.4f} ± {value['deviation']:.4f}"]
            sure = "**" if value["low"] > 0 or value["high"] < 0 else ""
            text = f"{sure}{value['difference']:+.4f}{sure} [{value['low']:+.4f}, {value['high']:+.4f}]"
            cells += ["" if row == study.baseline else text]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(study, found: dict, path: Path) -> None:
    """Draw the differences to the baseline with their intervals, one panel per figure."""
    rows = [name for name in found["rows"] if name != study.baseline]
    if not rows:
        return
    figure = Figure(figsize=(11, 1.4 + 0.36 * len(rows)), dpi=plotting.DPI, layout="constrained")
    panels = figure.subplots(1, len(FIGURES), sharey=True)
    for panel, name in zip(panels, FIGURES, strict=True):
        plotting.style_axes(panel)
        for height, row in enumerate(reversed(rows)):
            value = found["rows"][row][name]
            color = plotting.BLUE if value["low"] > 0 or value["high"] < 0 else UNSURE
            panel.plot([value["low"], value["high"]], [height] * 2, color=color, linewidth=2)
            panel.plot(value["difference"], height, "o", color=color)
        panel.axvline(0, color=plotting.INK, linewidth=0.8)
        panel.set_title(f"{TITLES[name]} against {study.baseline}", fontsize=10)
        panel.set_yticks(range(len(rows)), list(reversed(rows)))
        panel.set_ylim(-0.6, len(rows) - 0.4)
        panel.locator_params(axis="x", nbins=4)
    figure.suptitle(f"{study.title}: difference and 95% interval over queries", fontsize=11)
    plotting.save_figure(figure, path)
