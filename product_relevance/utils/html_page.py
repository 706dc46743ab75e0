"""One HTML page that needs nothing else: sections of a sentence, a picture and tables, whatever text they hold."""

import base64
import html
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path

import pandas as pd

from product_relevance.utils.files import atomic_write

LONGEST = 300  # characters of a text that a table shows
ONE_LINE = 30  # characters of a text that stays on one line, also on a phone
# No script and nothing from elsewhere, whatever stands in the data.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-size: .9rem; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .7rem; text-align: left; vertical-align: top; max-width: 45rem;
  overflow-wrap: break-word; }
td.number { text-align: right; } td.number, td.short { white-space: nowrap; }
img { max-width: 100%; height: auto; } h2 { border-top: 2px solid #222; padding-top: 1rem; margin-top: 3rem; }
caption { text-align: left; font-weight: 600; white-space: nowrap; } nav a { margin-right: 1rem; white-space: nowrap; }
"""


@dataclass
class Section:
    """A part of the page: what it shows, in a sentence, a picture and tables by their captions."""

    title: str
    sentence: str
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    draw: Callable[[Path], None] | None = None


def write_page(folder: Path, title: str, sections: Iterable[tuple[str, Section]]) -> Path:
    """Write `report.html` and `figures/*.png`.

    Args:
        folder: Made if need be.
        title: Of the page.
        sections: Each with the name of its picture, without the ending.

    Returns:
        The page's path.
    """
    parts, links = [], []
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for number, (name, section) in enumerate(sections):
        picture = folder / "figures" / f"{name}.png" if section.draw else None
        if picture and section.draw:
            section.draw(picture)
        parts.append(_section(f"s{number}", section, picture))
        links.append(f'<a href="#s{number}">{html.escape(section.title)}</a>')
    with atomic_write(folder / "report.html") as file:
        file.write(_page(title, links, parts))
    return folder / "report.html"


def _page(title: str, links: list[str], parts: list[str]) -> str:
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    head += f'<meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    head += f"<style>{STYLE}</style>"
    body = f"<h1>{html.escape(title)}</h1><nav>{' '.join(links)}</nav>{''.join(parts)}"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _section(anchor: str, section: Section, picture: Path | None) -> str:
    title = section.title
    parts = [f'<h2 id="{anchor}">{html.escape(title)}</h2><p>{html.escape(section.sentence)}</p>']
    if picture:
        data = base64.b64encode(picture.read_bytes()).decode("ascii")
        parts.append(f'<img alt="{html.escape(title)}" src="data:image/png;base64,{data}">')
    return "\n".join([*parts, *(_table(name, table) for name, table in section.tables.items()), ""])


def _table(caption: str, table: pd.DataFrame) -> str:
    shares = {name: _is_share(table[name]) for name in table}
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in table)
    rows = table.itertuples(index=False, name=None)
    body = "".join(
        f"<tr>{''.join(_cell(v, share) for v, share in zip(row, shares.values(), strict=True))}</tr>" for row in rows
    )
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _is_share(values: pd.Series) -> bool:
    return values.dtype.kind == "f" and bool(values.dropna().between(0, 1).all())


def _cell(value: object, share: bool) -> str:
    if isinstance(value, Integral):
        return f'<td class="number">{value:,}</td>'
    if isinstance(value, Real):
        text = "–" if value != value else f"{value:.1%}" if share else f"{value:,.2f}".rstrip("0").rstrip(".")
        return f'<td class="number">{text}</td>'
    text = str(value)
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text):,} characters)"
    short = ' class="short"' if len(text) <= ONE_LINE else ""
    return f'<td{short} dir="auto">{html.escape(text)}</td>'
