"""A local page where a person goes through a review table: keep, flip or drop each row with one key."""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pandas as pd

from product_relevance.preparation.labels import corrections
from product_relevance.preparation.labels.corrections import Decision
from product_relevance.utils.tasks import LABELS

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

NEEDED = ("id", "language", "query", "target", "label", "probability", "suggested_label", "reason")
ALL = "all"
KEYS = {"accept": ("Keep", "A"), "flip": ("Flip", "F"), "drop": ("Drop", "D")}
MADE = {"accept": "kept", "flip": "flipped", "drop": "dropped", "down_weight": "down-weighted"}
LABEL_NAMES = {label: f"{label} · {name}" for label, name in LABELS.items()}
# Arabic begins at the right; a text without blanks is broken anyway.
STYLE = """<style>
[data-testid="stText"] { font-size: 1.35rem; line-height: 1.5; unicode-bidi: plaintext; white-space: pre-wrap;
  overflow-wrap: anywhere; font-family: inherit; }
</style>"""


@dataclass(frozen=True)
class _View:
    """What a page shows: the table, its decisions, the positions under the filters, and the place among these."""

    table: pd.DataFrame
    made: dict[str, Decision]
    shown: list[int]
    at: int

    def row_at(self, place: int) -> pd.Series:
        """Return the row of a place, or the nearest row that is shown."""
        return self.table.iloc[self.shown[min(max(place, 0), len(self.shown) - 1)]]


@dataclass(frozen=True)
class _Button:
    """A button: its words and key, and what a press of it does."""

    title: str
    shortcut: str
    name: str
    press: Callable[..., None]
    arguments: tuple[object, ...]
    disabled: bool = False


@dataclass(frozen=True)
class _Press:
    """A decision by key: the row on the screen, what is decided about which row, and the row to show then."""

    seen: str
    decision: str
    row_id: str
    label: int
    then: str


def load_table(path: str | Path) -> pd.DataFrame:
    """Read a review table.

    Args:
        path: Parquet, as dataset_scripts/filter.py writes it.

    Returns:
        The table in its order, with `id` as text.

    Raises:
        ValueError: No such file, another format, no row, or a column missing.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: not found; expected a review table or a run folder")
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: no Parquet file ({error}); write it with dataset_scripts/filter.py") from None
    absent = [name for name in NEEDED if name not in table]
    if absent:
        raise ValueError(f"{path}: found no column {', '.join(absent)}; write it with dataset_scripts/filter.py")
    if table.empty:
        raise ValueError(
            f"{path}: found no row to review; a lower --threshold of dataset_scripts/filter.py lists more"
        )
    return table.assign(id=table["id"].astype(str))


def shown_rows(
    table: pd.DataFrame, made: Mapping[str, Decision], language: str, reason: str, undecided: bool
) -> list[int]:
    """Return the positions of the rows that the filters leave, in the table's order."""
    rows = pd.Series(True, index=table.index)
    rows &= (table["language"] == language) | (language == ALL)
    rows &= (table["reason"] == reason) | (reason == ALL)
    rows &= ~table["id"].isin(made) | (not undecided)
    return [int(position) for position in rows.to_numpy().nonzero()[0]]


def open_rows(table: pd.DataFrame, made: Mapping[str, Decision], shown: list[int]) -> list[int]:
    """Return those of the shown positions that have no decision yet."""
    return [position for position in shown if table["id"].iat[position] not in made]


def draw_page(table_path: str, made_path: str, by: str) -> None:
    """Draw the page; Streamlit calls this again after each key."""
    import streamlit as st

    st.set_page_config(page_title="Label review", layout="wide")
    st.html(STYLE)
    if "table" not in st.session_state:
        st.session_state.table = load_table(table_path)
    table, made = st.session_state.table, corrections.read_decisions(made_path)
    shown = shown_rows(table, made, *_filters(st, table))
    _progress(st, table, made, shown)
    if not shown:
        st.info("No row is left under these filters.")
        return
    at = _place(st.session_state.get("at"), table, made, shown)
    view = _View(table, made, shown, at)
    seen = st.session_state.at = view.row_at(at)["id"]
    _row(st, view.row_at(at), made, f"row {at + 1} of {len(shown)}")
    buttons = _buttons(view, functools.partial(_decide, made_path, by))
    for column, button in zip(st.columns(len(buttons)), buttons, strict=True):
        _draw_button(column, button, seen)


def _filters(st: ModuleType, table: pd.DataFrame) -> tuple[str, str, bool]:
    # Pills, not lists to choose from: a list keeps the keyboard, and its text field would take the letters.
    with st.sidebar:
        st.header("Label review")
        chosen = []
        for title, column in (("Language", "language"), ("Reason", "reason")):
            counts = table[column].value_counts()
            names = {ALL: f"{ALL} {len(table)}"} | {name: f"{_plain(name)} {n}" for name, n in counts.items()}
            picked = st.pills(title, list(names), default=ALL, format_func=names.get, key=f"filter-{column}")
            chosen.append(picked or ALL)
        undecided = st.checkbox("Only rows without a decision", key="undecided")
        st.caption("After choosing a filter, click beside it: then the arrows move between rows again.")
    return *chosen, undecided


def _progress(st: ModuleType, table: pd.DataFrame, made: Mapping[str, Decision], shown: list[int]) -> None:
    own = [made[row_id].decision for row_id in table["id"] if row_id in made]
    counts = ", ".join(f"{own.count(name)} {word}" for name, word in MADE.items() if name in own)
    st.sidebar.progress(len(own) / len(table), text=f"{len(own)} of {len(table)} rows decided")
    st.sidebar.caption(counts or "nothing decided yet")
    if shown and not open_rows(table, made, shown):
        st.success("Every row under these filters has a decision.")


def _place(at: str | None, table: pd.DataFrame, made: Mapping[str, Decision], shown: list[int]) -> int:
    """Return the place in `shown` of the row to show: the one last gone to, else the first without a decision."""
    ids = [table["id"].iat[position] for position in shown]
    if at in ids:
        return ids.index(at)
    return next((place for place, row_id in enumerate(ids) if row_id not in made), 0)


def _row(st: ModuleType, row: pd.Series, made: Mapping[str, Decision], place: str) -> None:
    # st.text alone shows what stands in the data: HTML, Markdown and links in it stay letters.
    st.caption(f"{place} · {_plain(row['language'])} · id {_plain(row['id'])} · {_plain(row['reason'])}")
    given, model, suggested = st.columns(3)
    given.metric("Label", LABEL_NAMES[row["label"]])
    model.metric("Model: probability of relevance", f"{row['probability']:.3f}")
    suggested.metric("Suggested", LABEL_NAMES[row["suggested_label"]])
    decision = made.get(row["id"])
    decided = f"{MADE[decision.decision]} by {_plain(decision.by)}" if decision else "no decision yet"
    st.caption(f"Decision: **{decided}**")
    for title, column in (("Query", "query"), ("Target", "target")):
        with st.container(border=True):
            st.caption(title)
            st.text(row[column])


def _buttons(view: _View, decide: Callable[[_Press], None]) -> list[_Button]:
    row, table = view.row_at(view.at), view.table
    before, after = view.row_at(view.at - 1)["id"], view.row_at(view.at + 1)["id"]
    seen, label = row["id"], int(row["label"])  # the row's id goes with each button: see _is_current
    buttons = [
        _Button(title, key, name, decide, (_Press(seen, name, seen, label, after),))
        for name, (title, key) in KEYS.items()
    ]
    last = next((row_id for row_id in reversed(view.made) if (table["id"] == row_id).any()), None)
    undone = _Press(seen, corrections.UNDO, last, view.made[last].label, last) if last else None
    buttons.append(_Button("Undo", "U", "undo", decide, (undone,), disabled=last is None))
    buttons.append(_Button("Previous", "Left", "previous", _go, (seen, before)))
    return [*buttons, _Button("Next", "Right", "next", _go, (seen, after))]


def _draw_button(column: "DeltaGenerator", button: _Button, seen: str) -> None:
    column.button(
        button.title,
        key=f"{button.name}-{seen}",
        shortcut=button.shortcut,
        on_click=button.press,
        args=button.arguments,
        disabled=button.disabled,
        width="stretch",
    )


def _decide(made_path: str, by: str, press: _Press) -> None:
    if _is_current(press.seen):
        made = corrections.make_decision(press.row_id, press.decision, press.label, by)
        corrections.append_decisions(made_path, [made])
        _go(press.seen, press.then)


def _go(seen: str, then: str) -> None:
    import streamlit as st

    if _is_current(seen):
        st.session_state.at = then


def _is_current(row_id: str) -> bool:
    """Return whether a press is for the row on the screen.

    For a moment after a press the texts may be those of the next row while the buttons are still those of the last
    one. A press in that moment is left out: it must be repeated, but it never decides another row.
    """
    import streamlit as st

    return st.session_state.get("at") == row_id


def _plain(text: object) -> str:
    """Escape what Markdown would read as more than text."""
    return re.sub(r"([^\w\s])", r"\\\1", " ".join(str(text).split()))
