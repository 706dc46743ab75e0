"""Escape text for Markdown, because the strings of a run may come from files that others wrote."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup

from product_relevance.evaluation.reports.markdown_tables import metrics_table

ESCAPES = {ord(c): f"&#{ord(c)};" for c in "&<>|`[]*\\$"}  # what means something in Markdown, HTML or a table


def to_markdown(value: Any) -> Markup:
    """Turn a value into Markdown that shows it.

    Args:
        value: Markup (finished Markdown) stays as it is; numbers, lists and None are written out; all else is text,
            put on one line and escaped.

    Returns:
        Finished Markdown without a newline, unless `value` was Markup.
    """
    if isinstance(value, Markup):
        return value
    if value is None:
        return Markup("not recorded")
    if isinstance(value, list | tuple):
        return Markup(", ").join(to_markdown(item) for item in value)
    if isinstance(value, bool):
        return Markup("yes" if value else "no")
    if isinstance(value, int | float):
        return Markup(f"{value:,}" if isinstance(value, int) else f"{value:.4f}")
    return Markup(one_line(value).translate(ESCAPES))


def one_line(value: Any) -> str:
    """Put a value's text on one line, without control characters, at most 200 characters; absolute paths lose their
    folders."""
    text = " ".join(base_name(str(value)).split())
    return "".join(c for c in text if unicodedata.category(c)[0] != "C")[:200]


def base_name(text: str) -> str:
    """Keep the last part of an absolute path: where files lay on one machine is nobody's business."""
    absolute = re.match(r"[/\\~]|[A-Za-z]:[/\\]|\.\.?[/\\]", text)
    return re.split(r"[/\\]", text.rstrip("/\\"))[-1] if absolute else text


def to_word(value: Any) -> Markup:
    """Keep letters, digits and `_.+-`, for places where no escape is read, as a version in BibTeX."""
    return Markup(re.sub(r"[^\w.+-]", "", str(value or ""), flags=re.ASCII)[:40] or "unknown")


def markdown_table(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> Markup:
    """Lay rows out as `report.metrics_table` does, with text escaped.

    Args:
        rows: one mapping a row.
        columns: keys to headings.
    """
    plain = [{key: to_markdown(v) if isinstance(v, str) else v for key, v in row.items()} for row in rows]
    return Markup(metrics_table(plain, columns))
