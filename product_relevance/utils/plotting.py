"""The look of all pictures: colours that differ for every eye, plain axes, files that are whole or not there."""

import os
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from product_relevance.utils.files import atomic_write

# Okabe and Ito 2008, "Color Universal Design": distinct with every common colour blindness.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
INK, FAINT = "#222222", "#DDDDDD"
DPI = 130


def draw_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of so many inches with plain axes."""
    # Figure without pyplot: no global state, no display, safe in threads.
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    style_axes(axes)
    return figure, axes


def style_axes(axes: Axes) -> None:
    """Give axes the plain look of all pictures: a faint grid, no frame."""
    axes.grid(color=FAINT, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a picture as PNG under a temporary name, then rename it."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png")
