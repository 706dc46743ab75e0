"""Tables in Markdown that a terminal shows well too, and what a reader must know of the figures in them."""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

from product_relevance.evaluation.intervals import FEW_ROWS


def metrics_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | Mapping[str, str]) -> str:
    """Lay rows out as a Markdown table, aligned so that a terminal shows it well too.

    Args:
        rows: One mapping a row; a missing or None value is shown as "-".
        columns: Keys in order, or keys to headings.

    Returns:
        The table's lines, without a final newline. Columns in which no row has a value are left out.
    """
    rows = list(rows)
    headings = dict(columns) if isinstance(columns, Mapping) else {key: key for key in columns}
    headings = {k: name for k, name in headings.items() if any(row.get(k) is not None for row in rows) or not rows}
    cells = [
        [format_cell(name) for name in headings.values()],
        *([format_cell(row.get(k)) for k in headings] for row in rows),
    ]
    left = [any(isinstance(row.get(k), str) for row in rows) for k in headings]
    widths = [max(3, *(len(line[i]) for line in cells)) for i in range(len(headings))]
    rule = ["-" * width if text else "-" * (width - 1) + ":" for width, text in zip(widths, left, strict=True)]
    lines = [cells[0], rule, *cells[1:]]
    return "\n".join(
        "| " + " | ".join(c.ljust(w) if t else c.rjust(w) for c, w, t in zip(line, widths, left, strict=True)) + " |"
        for line in lines
    )


def format_cell(value: Any) -> str:
    """Write a value as a table shows it: four digits, an interval as 0.81-0.85 or -0.03 to 0.05, "-" for None."""
    if value is None or value != value:  # NaN is the one value that differs from itself
        return "-"
    if isinstance(value, str | bool):
        return " ".join(str(value).split()).replace("|", "\\|")
    if isinstance(value, list | tuple):  # an interval
        return (" to " if min(value, default=0) < 0 else "-").join(f"{end:.3f}" for end in value)
    if isinstance(value, Integral):
        return f"{value:,}"
    if isinstance(value, float):
        size = abs(value)
        return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 10 else f"{value:.4f}"
    return format_cell(str(value))


def note_of(group: Mapping[str, Any]) -> str | None:
    """Say what a reader must know of the figures of a group of rows: that they are few, or F1 is below its floor."""
    few = "few rows" if group["rows"] < FEW_ROWS else None
    below = "below the floor" if group["f1"] < group["floor_f1"] else None
    return "; ".join(filter(None, (few, below))) or None


def language_notes(measured: Mapping[str, Any]) -> list[str]:
    """List the languages whose F1 is below the floor, and those with few rows, a line for each kind."""
    groups = measured.get("by_language") or {}
    below = [code for code, group in groups.items() if group["f1"] < group["floor_f1"]]
    few = [code for code, group in groups.items() if group["rows"] < FEW_ROWS]
    lines = [f'F1 below the floor (always "relevant" does better): {", ".join(below)}'] if below else []
    return lines + ([f"fewer than {FEW_ROWS} rows, which say little: {', '.join(few)}"] if few else [])
