"""Draw what a run measured: F1 over thresholds, bars per language, reliability."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from product_relevance.evaluation.intervals import FEW_ROWS
from product_relevance.evaluation.metrics import measure_floor, scores_report, threshold_curve
from product_relevance.evaluation.reliability import measure_reliability
from product_relevance.evaluation.reports.loss_curve import History, draw_loss_curve
from product_relevance.utils.plotting import (
    BLUE,
    DPI,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    draw_axes,
    save_figure,
    style_axes,
)

LONG_NAME = 9  # characters of a group's name that fit below its bar
FEW = 20  # pairs; the share of relevant ones among fewer jumps about


def draw_f1_over_threshold(
    labels: ArrayLike, scores: ArrayLike, threshold: float, path: str | os.PathLike[str], best: float | None = None
) -> None:
    """Draw positive F1, precision, recall and macro-F1 over all thresholds, with the chosen threshold and the floor.

    Args:
        labels: 0 or 1, shape (n,).
        scores: Probabilities, shape (n,).
        threshold: The chosen threshold.
        path: The PNG to write.
        best: The threshold with the highest F1 on these rows, where it is another; drawn as a second line.

    Raises:
        ValueError: Bad labels or scores.
    """
    curve, lowest = threshold_curve(labels, scores, 501), measure_floor(labels)["f1"]
    at = scores_report(labels, scores, threshold)["f1"]
    figure, axes = draw_axes(8, 5)
    some = curve["predicted"] > 0  # precision has no meaning where no row is called relevant
    lines = {"f1": (BLUE, "-", 2.4), "macro_f1": (RED, "-", 2.0), "precision": (GREEN, "--", 1.5)}
    names = {"f1": "positive F1", "macro_f1": "macro-F1", "precision": "precision", "recall": "recall"}
    for key, (colour, style, width) in (lines | {"recall": (PURPLE, ":", 2.0)}).items():
        shown = some if key == "precision" else slice(None)
        axes.plot(curve["threshold"][shown], curve[key][shown], style, color=colour, lw=width, label=names[key])
    axes.axhline(lowest, color=INK, lw=1, ls=(0, (6, 3)), label=f"floor: all relevant, F1 {lowest:.3f}")
    axes.axvline(threshold, color=INK, lw=1, ls="-.", label=f"chosen threshold {threshold:.3f}")
    if best is not None:
        axes.axvline(best, color=ORANGE, lw=1.5, ls=":", label=f"best on these rows {best:.3f}")
    axes.plot([threshold], [at], "o", color=BLUE, mec="white", ms=8, zorder=5)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="threshold: relevant from this probability on", ylabel="value")
    axes.set_title(
        f"Positive F1 is {at:.3f} at the chosen threshold, {at - lowest:+.3f} against the floor", loc="left"
    )
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    save_figure(figure, path)


def draw_language_bars(report: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw positive F1 of each language beside its floor, and AUC beside chance.

    Bars start at zero and a line across each shows its floor: the share of relevant pairs differs by language, and F1
    alone mostly shows that. Whiskers are 95% intervals over queries, where the report has them.

    Args:
        report: From `scores_report` with languages.
        path: The PNG to write.

    Raises:
        ValueError: The report has no languages.
    """
    languages = report.get("by_language")
    if not languages:
        raise ValueError("report: found no by_language, expected scores_report(..., languages=...)")
    order = sorted(languages, key=lambda c: (not languages[c].get("seen", True), -languages[c]["rows"], c))
    draw_group_bars({code: languages[code] for code in order}, "language", report["threshold"], path)


def draw_group_bars(
    groups: Mapping[str, Mapping[str, Any]], name: str, threshold: float, path: str | os.PathLike[str]
) -> None:
    """Draw positive F1 of each group of rows beside its floor, and AUC beside chance, as `draw_language_bars` does.

    Args:
        groups: Name of each group to its figures, as `scores_report` gives them, in the order of the bars.
        name: What the groups are.
        threshold: That F1 is measured at.
        path: The PNG to write.
    """
    measured = [*groups.values()]
    figure = Figure(figsize=(max(9.0, 2.2 + 0.72 * len(groups)), 7), dpi=DPI, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    _bars(upper, measured, "f1", [group["floor_f1"] for group in measured])
    _bars(lower, measured, "auc", [0.5] * len(groups))
    upper.set_title(f"Positive F1 at the threshold {threshold:.3f}", loc="left")
    lower.set_title("AUC", loc="left")
    upper.set_ylabel("positive F1")
    lower.set_ylabel("AUC")
    labels = [_group_label(group, figures["rows"]) for group, figures in groups.items()]
    lower.set_xticks(range(len(groups)), labels)
    if max(len(group) for group in groups) > LONG_NAME:
        lower.tick_params(axis="x", labelrotation=60)
    lower.set_xlabel(f"{name} and its rows")
    figure.legend(handles=_bar_keys(measured), loc="outside upper right", ncols=3, frameon=False)
    save_figure(figure, path)


def draw_reliability(
    labels: ArrayLike,
    scores: ArrayLike,
    path: str | os.PathLike[str],
    calibrated: ArrayLike | None = None,
    queries: ArrayLike | None = None,
) -> None:
    """Draw the share of relevant pairs over their score, with a histogram of the scores.

    Args:
        labels: 0 or 1, shape (n,).
        scores: Probabilities, shape (n,).
        path: The PNG to write.
        calibrated: The same rows after calibration, shape (n,), drawn as a second line.
        queries: Query of each row, shape (n,), for the error bars, which count each query once.

    Raises:
        ValueError: Bad labels or scores.
    """
    found = measure_reliability(labels, scores, queries=queries)
    figure = Figure(figsize=(6, 6.8), dpi=DPI, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], "--", color=INK, lw=1, label="perfect calibration")
    lower.stairs(found["count"], found["edges"], fill=True, color=SKY, ec=BLUE)
    if calibrated is None:
        title = f"Scores miss the true share by {found['ece']:.3f} on average (ECE)"
        filled = found["count"] > 0
        score, positive = found["score"][filled], found["positive"][filled]
        upper.vlines(score, score, positive, color=ORANGE, lw=3, label="gap")
        _reliability_line(upper, found, BLUE, "this model")
    else:
        after = measure_reliability(labels, calibrated, queries=queries)
        title = f"Calibration brings the error (ECE) from {found['ece']:.3f} to {after['ece']:.3f}"
        _reliability_line(upper, found, BLUE, f"scores (bins of {FEW} pairs or more)", least=FEW)
        _reliability_line(upper, after, GREEN, "calibrated on the other folds", least=FEW)
        lower.stairs(after["count"], after["edges"], color=GREEN, lw=1.8)
    upper.legend(loc="upper left", frameon=False)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of relevant pairs")
    upper.set_title(title, loc="left")
    lower.set(xlabel="score (probability of relevance), mean of each bin above", ylabel="pairs")
    lower.yaxis.set_major_formatter("{x:,.0f}")
    style_axes(upper)
    style_axes(lower)
    save_figure(figure, path)


def _reliability_line(axes: Axes, found: Mapping[str, Any], colour: str, name: str, least: int = 1) -> None:
    filled = found["count"] >= least
    score, positive = found["score"][filled], found["positive"][filled]
    below, above = positive - found["low"][filled], found["high"][filled] - positive
    axes.errorbar(
        *(score, positive, (below, above)), fmt="o-", color=colour, lw=1.5, ms=6, label=name, elinewidth=1, capsize=3
    )


def draw_run(
    folder: Path,
    oof: pd.DataFrame | None,
    whole: Mapping[str, Any] | None,
    histories: Mapping[str, History],
) -> dict[str, str]:
    """Draw every picture of a run's report.

    Args:
        folder: Where to.
        oof: Rows with label, score, and after `relevance decide` calibrated; None where no fold validated.
        whole: From `scores_report` on these rows.
        histories: Fold name to the Trainer's log_history.

    Returns:
        Title to file name.
    """
    drawn: dict[str, str] = {}
    if oof is not None and whole:
        draw_f1_over_threshold(oof["label"], oof["score"], whole["threshold"], folder / "f1_over_threshold.png")
        draw_reliability(
            oof["label"], oof["score"], folder / "reliability.png", oof.get("calibrated"), oof.get("query_digest")
        )
        drawn |= {"F1 over thresholds": "f1_over_threshold.png", "Reliability": "reliability.png"}
    if whole and whole.get("by_language"):
        draw_language_bars(whole, folder / "languages.png")
        drawn["F1 and AUC per language"] = "languages.png"
    if any(histories.values()):
        draw_loss_curve({name: entries or [] for name, entries in histories.items()}, folder / "loss.png")
        drawn["Loss and AUC while training"] = "loss.png"
    return drawn


def _group_label(code: str, rows: int) -> str:
    return f"{code}\n{rows:,}" + ("\nfew rows" if rows < FEW_ROWS else "")


def _bars(axes: Axes, groups: Sequence[Mapping[str, Any]], key: str, floors: list[float]) -> None:
    for place, (group, lowest) in enumerate(zip(groups, floors, strict=True)):
        value, span = group[key], group.get(f"{key}_interval")
        axes.hlines(lowest, place - 0.42, place + 0.42, color=INK, lw=2, zorder=4)
        if value is None:
            axes.annotate("one\nclass", (place, 0), (0, 4), textcoords="offset points", ha="center", fontsize=8)
            continue
        axes.bar(place, value, 0.68, zorder=3, **_look(group))
        if span:
            axes.vlines(place, *span, color="white", lw=5, zorder=5)  # an outline, seen on any bar
            axes.vlines(place, *span, color=INK, lw=1.6, zorder=5)
        # at the foot of the bar, where neither the floor nor a whisker crosses it
        axes.annotate(
            f"{value:.3f}", (place, 0), (0, 5), textcoords="offset points", ha="center", va="bottom", fontsize=8,
            color="white", zorder=6, bbox={"boxstyle": "round,pad=0.15", "fc": INK, "ec": "none"},
        )  # fmt: skip
    axes.set(ylim=(0, 1.04), xlim=(-0.7, len(groups) - 0.3))
    style_axes(axes)
    axes.grid(visible=False, axis="x")


def _look(group: Mapping[str, Any]) -> dict[str, Any]:
    pale = {"alpha": 0.3} if group.get("rows", FEW_ROWS) < FEW_ROWS else {}
    if group.get("seen", True):
        return {"facecolor": BLUE, "edgecolor": BLUE} | pale
    return {"facecolor": ORANGE, "edgecolor": INK, "hatch": "///"} | pale


def _bar_keys(groups: Sequence[Mapping[str, Any]]) -> list[Artist]:
    keys: list[Artist] = [Line2D([], [], color=INK, lw=2, label="floor: all relevant / chance")]
    if any(group.get("f1_interval") for group in groups):
        keys.append(Line2D([], [], color=INK, ls="none", marker="|", ms=12, label="95% interval over queries"))
    if any("seen" in group for group in groups):
        keys.append(Patch(**_look({"seen": True}), label="trained on"))
        keys.append(Patch(**_look({"seen": False}), label="never trained on"))
    if any(group["rows"] < FEW_ROWS for group in groups):
        keys.append(Patch(facecolor=BLUE, alpha=0.3, label=f"pale: fewer than {FEW_ROWS} rows"))
    return keys
