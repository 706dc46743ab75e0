"""Draw the tables of `explore` and `drift`; words of the data stay in tables, because a browser has their letters."""

import os
import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from product_relevance.utils.plotting import (
    BLUE,
    DPI,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    save_figure,
    style_axes,
)
from product_relevance.utils.tasks import LABELS

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY)
MOST = 20  # languages in a picture
Z = 1.96  # a 95% interval of a normal distribution
Tables = Mapping[str, pd.DataFrame]  # name of a file to its table


def draw_languages(tables: Tables, path: str | os.PathLike) -> None:
    """Draw rows by language, as given and as corrected, with the change written on top; one panel a file."""
    figure, panels = _panels(len(tables), width=max(map(len, tables.values())))
    for axes, (name, table) in zip(panels, tables.items(), strict=True):
        table = table.head(MOST)
        place = np.arange(len(table))
        axes.bar(place - 0.2, table["given"], 0.4, color=ORANGE, label="as given")
        axes.bar(place + 0.2, table["corrected"], 0.4, color=BLUE, label="corrected")
        for x, given, corrected in zip(place, table["given"], table["corrected"], strict=True):
            if given != corrected:
                top = (x, max(given, corrected))
                axes.annotate(f"{corrected - given:+,}", top, (0, 3), textcoords="offset points", ha="center")
        changed = int((table["corrected"] - table["given"]).clip(lower=0).sum())
        axes.set_title(f"{_name(name)}: {changed:,} rows have another language than the given one", loc="left")
        axes.set_xticks(place, map(_name, table["language"]))
        axes.set_ylabel("rows")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.legend(frameon=False)
    save_figure(figure, path)


def draw_relevant_shares(tables: Tables, path: str | os.PathLike) -> None:
    """Draw the share of relevant rows by language with its 95% interval (Wilson), one colour a file."""
    codes = _codes(tables)
    figure, (axes,) = _panels(1, width=len(codes))
    step = 0.7 / len(tables)
    for index, (name, table) in enumerate(tables.items()):
        table = table[table["relevant"].notna()].set_index("language")
        table = table.loc[[code for code in codes if code in table.index]]
        x = np.array([codes.index(code) for code in table.index]) + (index - (len(tables) - 1) / 2) * step
        low, high = _wilson(table["relevant"].to_numpy(), table["corrected"].to_numpy())
        middle = table["relevant"].to_numpy()
        colour, around = COLOURS[index % len(COLOURS)], np.array([middle - low, high - middle])
        axes.errorbar(x, middle, yerr=around, fmt="o", ms=7, lw=2, color=colour, label=_name(name))
    axes.set_xticks(range(len(codes)), map(_name, codes))
    axes.set(ylim=(-0.02, 1.02), ylabel="share of relevant rows")
    axes.set_title("Relevant rows by language; the lines are 95% intervals", loc="left")
    axes.legend(frameon=False, loc="lower left")
    save_figure(figure, path)


def draw_lengths(tables: Tables, path: str | os.PathLike) -> None:
    """Draw the share of queries and of targets by length, one colour a file."""
    figure, panels = _panels(2, width=14)
    for axes, text in zip(panels, ("query", "target"), strict=True):
        _side_by_side(axes, {name: table.set_index("characters")[text] for name, table in tables.items()})
        axes.set_title(f"Characters of a {text} (cleaned)", loc="left")
        axes.set_ylabel("share of rows")
    save_figure(figure, path)


def draw_lengths_by_language(table: pd.DataFrame, path: str | os.PathLike) -> None:
    """Draw median, middle half and 5 to 95% of the lengths by language."""
    codes = list(table["language"].drop_duplicates().head(MOST))
    figure = Figure(figsize=(11, 1.6 + 0.34 * len(codes)), dpi=DPI, layout="constrained")
    for axes, text in zip(figure.subplots(1, 2, sharey=True), ("query", "target"), strict=True):
        part = table[table["text"] == text].set_index("language").loc[codes[::-1]]
        place = np.arange(len(codes))
        axes.hlines(place, part["5%"], part["95%"], color=SKY, lw=3, label="5 to 95%")
        axes.hlines(place, part["25%"], part["75%"], color=BLUE, lw=8, label="middle half")
        axes.plot(part["median"], place, "o", color="white", mec=INK, ms=7, label="median")
        axes.set_yticks(place, map(_name, codes[::-1]))
        axes.set(xlabel=f"characters of a {text}", xlim=(0, None))
        style_axes(axes)
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, loc="outside upper right", ncols=3)
    save_figure(figure, path)


def draw_overlaps(shares: pd.DataFrame, by_language: pd.DataFrame, path: str | os.PathLike) -> None:
    """Draw by label which overlap the pairs have that share a word, and by language how many share one."""
    figure, panels = _panels(2, width=12)
    names = list(LABELS.values())[::-1]
    _side_by_side(panels[0], {name: shares.set_index("overlap")[name][1:] for name in names})
    panels[0].set_title("Jaccard overlap of words, of the pairs that share any", loc="left")
    panels[0].set_ylabel("share of the label's rows")
    some = (1 - by_language.pivot(index="language", columns="label", values="no word shared")).reindex(columns=names)
    some = some.loc[_by_rows(by_language)]
    _side_by_side(panels[1], {name: some[name] for name in names})
    panels[1].set_title("Pairs that share at least one word, by language", loc="left")
    panels[1].set_ylabel("share of rows")
    save_figure(figure, path)


def draw_rows_per_query(tables: Tables, path: str | os.PathLike) -> None:
    """Draw the share of queries that have 1, 2, 3, ... rows, one colour a file."""
    figure, (axes,) = _panels(1, width=8)
    shares = {name: table.set_index("rows per query")["queries"] for name, table in tables.items()}
    _side_by_side(axes, {name: counts / max(counts.sum(), 1) for name, counts in shares.items()})
    axes.set(xlabel="rows of a query", ylabel="share of queries")
    axes.set_title("How many rows a query has", loc="left")
    save_figure(figure, path)


def draw_taxonomy(table: pd.DataFrame, path: str | os.PathLike) -> None:
    """Draw the tree of paths level by level: how wide it is, and where the rows' paths end."""
    figure = Figure(figsize=(11, 4), dpi=DPI, layout="constrained")
    for axes, columns in zip(figure.subplots(1, 2), (["nodes", "paths that end here"], ["rows"]), strict=True):
        _side_by_side(axes, {name: table.set_index("level")[name] for name in columns})
        axes.set(xlabel="level", ylabel="rows whose path ends here" if columns == ["rows"] else "in the tree")
        axes.yaxis.set_major_formatter("{x:,.0f}")
    figure.suptitle(f"The tree of paths: {table['paths that end here'].sum():,} paths, {len(table)} levels")
    save_figure(figure, path)


def draw_unseen_paths(tables: Tables, path: str | os.PathLike) -> None:
    """Draw for each file the shares of rows whose path the first file has whole, in part, or not at all."""
    figure = Figure(figsize=(9, 1.6 + 0.6 * len(tables)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for place, table in enumerate(tables.values()):
        left = 0.0
        shares = table[["known", "share of rows"]].to_numpy()
        for (known, share), colour in zip(shares, (BLUE, SKY, ORANGE), strict=True):
            axes.barh(place, share, 0.6, left=left, color=colour, label=None if place else known)
            if share >= 0.05:
                axes.text(left + share / 2, place, f"{share:.1%}", ha="center", va="center", color=INK)
            left += share
    axes.set_yticks(range(len(tables)), map(_name, tables))
    axes.set(xlim=(0, 1), xlabel="share of rows")
    axes.set_title("Is the path known from the first file?", loc="left")
    style_axes(axes)
    figure.legend(frameon=False, loc="outside right center")
    save_figure(figure, path)


def draw_drift(table: pd.DataFrame, names: tuple[str, str], path: str | os.PathLike) -> None:
    """Draw how two files differ in their languages: share of rows, and share of relevant ones."""
    table = table.head(MOST)[::-1]
    figure = Figure(figsize=(11, 1.6 + 0.34 * len(table)), dpi=DPI, layout="constrained")
    place = np.arange(len(table))
    for axes, what in zip(figure.subplots(1, 2, sharey=True), ("rows", "relevant"), strict=True):
        first, second = table[f"{what}, first"], table[f"{what}, second"]
        axes.hlines(place, first, second, color="#999999", lw=2)
        axes.plot(first, place, "o", color=BLUE, ms=8, label=_name(names[0]))
        axes.plot(second, place, "s", color=ORANGE, ms=7, label=_name(names[1]))
        axes.set_yticks(place, map(_name, table["language"]))
        axes.set(xlabel=f"share of {what}" + (" rows" if what == "relevant" else ""), xlim=(-0.02, None))
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        style_axes(axes)
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, loc="outside upper right", ncols=2)
    save_figure(figure, path)


def draw_noise(table: pd.DataFrame, path: str | os.PathLike) -> None:
    """Draw the share of rows with each kind of noise as a heat map of languages and kinds."""
    kinds, table = list(table.columns[2:]), table.head(MOST + 1)
    shares = table[kinds].to_numpy(dtype=float)
    figure = Figure(figsize=(10, 1.8 + 0.36 * len(table)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        label = "0" if share == 0 else f"{share:.1%}"
        axes.text(column, row, label, ha="center", va="center", color="white" if share > 0.55 else INK)
    axes.set_xticks(range(len(kinds)), [textwrap.fill(kind, 12) for kind in kinds])
    names = [f"{_name(code)}  {rows:,}" for code, rows in zip(table["language"], table["rows"], strict=True)]
    axes.set_yticks(range(len(table)), names)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    save_figure(figure, path)


def _panels(count: int, width: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(min(14.0, max(7.0, 2.0 + 0.6 * width)), 3.6 * count + 0.4), dpi=DPI, layout="constrained")
    panels = list(np.atleast_1d(figure.subplots(count, 1)))
    for axes in panels:
        style_axes(axes)
    return figure, panels


def _side_by_side(axes: Axes, series: Mapping[str, pd.Series]) -> None:
    step = 0.8 / len(series)
    for index, (name, values) in enumerate(series.items()):
        place = np.arange(len(values)) + (index - (len(series) - 1) / 2) * step
        axes.bar(place, values, step, color=COLOURS[index % len(COLOURS)], label=_name(name))
    axes.set_xticks(range(len(values)), map(_name, values.index))
    axes.legend(frameon=False)
    style_axes(axes)
    axes.grid(visible=False, axis="x")


def _codes(tables: Tables) -> list[str]:
    counts = pd.concat([table.set_index("language")["corrected"] for table in tables.values()])
    return list(counts.groupby(level=0).sum().sort_values(ascending=False, kind="stable").index[:MOST])


def _by_rows(table: pd.DataFrame) -> list[str]:
    return list(table.groupby("language")["rows"].sum().sort_values(ascending=False, kind="stable").index[:MOST])


def _wilson(share: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95% interval of a share (Wilson 1927)."""
    middle = (share + Z**2 / (2 * rows)) / (1 + Z**2 / rows)
    half = Z / (1 + Z**2 / rows) * np.sqrt(share * (1 - share) / rows + Z**2 / (4 * rows**2))
    return np.minimum(middle - half, share), np.maximum(middle + half, share)


def _name(text: object) -> str:
    # A dollar would start a formula, and a broken one stops the drawing.
    text = str(text)
    return (text if len(text) <= 24 else f"{text[:23]}…").replace("$", r"\$")
