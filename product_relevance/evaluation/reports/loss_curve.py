"""Draw the losses of a training, one colour a fold."""

import os
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from product_relevance.utils.plotting import BLUE, DPI, GREEN, INK, ORANGE, PURPLE, RED, SKY, save_figure, style_axes

History = list[dict[str, Any]]  # the Trainer's log_history
# the Trainer's log_history


def draw_loss_curve(histories: Mapping[str, History], path: str | os.PathLike[str]) -> None:
    """Draw training loss, evaluation loss and evaluation AUC over steps, one colour a fold.

    Args:
        histories: Fold name to the Trainer's log_history.
        path: The PNG to write.
    """
    figure = Figure(figsize=(8, 7), dpi=DPI, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    colours = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, "#000000")
    for index, history in enumerate(histories.values()):
        colour = colours[index % len(colours)]
        upper.plot(*_logged(history, "loss"), "-", color=colour, lw=1.2, alpha=0.55)
        upper.plot(*_logged(history, "eval_loss"), "o--", color=colour, lw=1.8, ms=6, mec="white")
        lower.plot(*_logged(history, "eval_auc"), "o--", color=colour, lw=1.8, ms=6, mec="white")
    upper.set_ylabel("cross-entropy loss")
    lower.set(xlabel="optimizer step", ylabel="AUC")
    upper.set_title(_loss_title(histories), loc="left")
    lower.set_title("AUC on the fold's evaluation rows", loc="left")
    kinds = [("-", None, "training"), ("--", "o", "evaluation")]
    upper.legend(handles=[Line2D([], [], color=INK, ls=s, marker=m, label=n) for s, m, n in kinds], frameon=False)
    folds = [Line2D([], [], color=colours[i % len(colours)], lw=3, label=fold) for i, fold in enumerate(histories)]
    if folds:
        figure.legend(handles=folds, loc="outside right center", frameon=False)
    for axes, keys in ((upper, ("loss", "eval_loss")), (lower, ("eval_auc",))):
        style_axes(axes)
        if not any(_logged(history, key)[0] for history in histories.values() for key in keys):
            axes.text(0.5, 0.5, "nothing was logged", ha="center", color=INK, transform=axes.transAxes)
            axes.set_yticks([])
    save_figure(figure, path)


def _loss_title(histories: Mapping[str, History]) -> str:
    lasts = [steps[1][-1] for steps in (_logged(h, "eval_loss") for h in histories.values()) if steps[1]]
    if not lasts:
        return "Loss by fold"
    ends = sorted({f"{min(lasts):.3f}", f"{max(lasts):.3f}"})
    return f"Evaluation loss ends at {' to '.join(ends)}"


def _logged(history: History, key: str) -> tuple[list[int], list[float]]:
    # A resumed run logs a step again; the later entry counts.
    values = {entry["step"]: entry[key] for entry in history if entry.get(key) is not None and "step" in entry}
    steps = sorted(values)
    return steps, [values[step] for step in steps]
