"""Draw docs/figures/pipeline.svg: the way of the data from records to a submission, the Hub and a server.

python docs/hooks/draw_pipeline.py
"""

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from product_relevance.utils.plotting import BLUE, GREEN, INK, ORANGE, PURPLE

FILE = Path(__file__).parents[1] / "figures/pipeline.svg"
WIDTH, HEIGHT, LEFT = 2.35, 1.5, 0.2
STEPS = (
    ("Records", "query, target, label\nin any language", INK),
    ("Prepare", "clean, identify,\ntranslate", BLUE),
    ("Folds", "no query in two folds,\nchecked before training", BLUE),
    ("Train", "LoRA per fold on Gemma,\nQwen, XLM-R or e5", ORANGE),
    ("Ensemble", "mean of the folds,\nout-of-fold threshold", GREEN),
)
ENDS = (("Submission", "checked and packed"), ("Hub", "adapters, cards"), ("Server", "HTTP, endpoint"))


def draw() -> Figure:
    """Return the picture."""
    figure = Figure(figsize=(11.8, 2.6))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 16.6), ylim=(0, 3.7))
    axes.axis("off")
    middle = 1.85
    places = [LEFT + i * (WIDTH + 0.45) for i in range(len(STEPS))]
    for x, (title, text, color) in zip(places, STEPS, strict=True):
        box(axes, (x, middle - HEIGHT / 2), HEIGHT, title, text, color)
    for x in places[:-1]:
        arrow(axes, (x + WIDTH, middle), (x + WIDTH + 0.45, middle))
    for i, (title, text) in enumerate(ENDS):
        y = 2.6 - 1.2 * i
        box(axes, (14.2, y), 0.95, title, text, PURPLE)
        arrow(axes, (places[-1] + WIDTH, middle), (14.2, y + 0.475))
    return figure


def box(axes: Axes, corner: tuple[float, float], height: float, title: str, text: str, color: str) -> None:
    """Draw a box with a title and a text, its lower left corner at `corner`."""
    x, y = corner
    style = {"boxstyle": "round,pad=0,rounding_size=0.12", "facecolor": "white", "edgecolor": color, "linewidth": 1.6}
    axes.add_patch(FancyBboxPatch(corner, WIDTH, height, **style))
    top = y + height - 0.28
    axes.text(x + WIDTH / 2, top, title, ha="center", va="center", fontsize=10.5, fontweight="bold", color=color)
    axes.text(x + WIDTH / 2, (y + top - 0.1) / 2, text, ha="center", va="center", fontsize=8, color=INK)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow between two points."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "shrinkA": 1, "shrinkB": 1})


def main() -> None:
    """Write the picture; the same code gives the same bytes."""
    with matplotlib.rc_context({"svg.hashsalt": "pipeline", "font.family": "DejaVu Sans"}):
        draw().savefig(FILE, facecolor="white", metadata={"Date": None})


if __name__ == "__main__":
    main()
