"""A local page where a person goes through a review table: keep, flip or drop each row with one key."""

import functools
import re
import tempfile
from pathlib import Path

import pandas as pd

from product_relevance.data.sources.tables import Source
from product_relevance.preparation.labels import corrections, label_errors
from product_relevance.utils.extras import how_to_install
from product_relevance.utils.tasks import LABELS

NEEDED = ("id", "language", "query", "target", "label", "probability", "suggested_label", "reason")
ALL = "all"
KEYS = {"accept": ("Keep", "A"), "flip": ("Flip", "F"), "drop": ("Drop", "D")}
MADE = {"accept": "kept", "flip": "flipped", "drop": "dropped", "down_weight": "down-weighted"}
LABEL_NAMES = {label: f"{label} · {name}" for label, name in LABELS.items()}
SCRIPT = "import sys\n\nfrom product_relevance.preparation.labels.review_page import page\n\npage(*sys.argv[1:])\n"
# Arabic begins at the right; a text without blanks is broken anyway.
STYLE = """<style>
[data-testid="stText"] { font-size: 1.35rem; line-height: 1.5; unicode-bidi: plaintext; white-space: pre-wrap;
  overflow-wrap: anywhere; font-family: inherit; }
</style>"""


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
        raise ValueError(f"{path}: found no row to review; a lower --cut of dataset_scripts/filter.py lists more")
    return table.assign(id=table["id"].astype(str))


def shown_rows(table: pd.DataFrame, made: dict, language: str, reason: str, undecided: bool) -> list[int]:
    """Return the positions of the rows that the filters leave, in the table's order."""
    rows = pd.Series(True, index=table.index)
    rows &= (table["language"] == language) | (language == ALL)
    rows &= (table["reason"] == reason) | (reason == ALL)
    rows &= ~table["id"].isin(made) | (not undecided)
    return [int(position) for position in rows.to_numpy().nonzero()[0]]


def open_rows(table: pd.DataFrame, made: dict, shown: list[int]) -> list[int]:
    """Return those of the shown positions that have no decision yet."""
    return [position for position in shown if table["id"].iat[position] not in made]


def start_page(table: str | Path, made: str | Path, by: str, port: int | None = None) -> None:
    """Serve the page to this machine only, until it is stopped.

    Args:
        table: Review table (Parquet).
        made: Decisions file, made at the first decision.
        by: Who reviews; written with each decision.
        port: Default: the first free one from 8501 on.

    Raises:
        ValueError: A table or a decisions file that cannot be used, or Streamlit is not installed.
    """
    rows, standing = load_table(table), corrections.read_decisions(made)
    print(f"{table}: {len(rows)} rows, {int(rows['id'].isin(standing).sum())} of them decided in {made}")
    try:
        from streamlit.web import cli
    except ImportError:
        raise ValueError(f"review needs Streamlit: {how_to_install('prepare')}") from None
    # The names under which the page may be called are fixed: else a web site could reach it by rebinding its own.
    options = ["--server.address=127.0.0.1", "--server.allowedHosts=127.0.0.1", "--server.allowedHosts=localhost"]
    options += ["--browser.gatherUsageStats=false", "--server.showEmailPrompt=false", "--client.toolbarMode=minimal"]
    options += ["--server.fileWatcherType=none"] + ([f"--server.port={port}"] if port else [])
    with tempfile.TemporaryDirectory(prefix="relevance-review-") as folder:
        # Streamlit puts the script's folder first on the import path: one without other modules in it.
        script = Path(folder) / "label_review.py"
        script.write_text(SCRIPT, encoding="utf-8")
        cli.main(["run", str(script), *options, "--", str(table), str(made), by], standalone_mode=False)


def review(
    table_or_run: str,
    made: str,
    by: str,
    records: str | Source | None = None,
    port: int | None = None,
    on_bad_rows: str = "error",
) -> None:
    """Open the page for a review table, or for the rows that self-validation lists for a run.

    Args:
        table_or_run: Review table (Parquet) or run folder.
        made: Decisions file.
        by: Who reviews.
        records: The records that the run was trained on; only for a run.
        port: Default: the first free one from 8501 on.
        on_bad_rows: What happens to records that cannot be used, see `read_records`.

    Raises:
        ValueError: A run without records, or as from `label_errors` and `start_page`.
    """
    if not Path(table_or_run).is_dir():
        return start_page(table_or_run, made, by, port)
    if not records:
        raise ValueError(f"{table_or_run}: a run holds no texts; give the records it was trained on with --records")
    from product_relevance.data.records import read_records

    frame = read_records(records, role="train", on_bad_rows=on_bad_rows)
    table = label_errors.self_validation(label_errors.join_scores(frame, label_errors.read_scores(table_or_run)))
    with tempfile.TemporaryDirectory(prefix="relevance-review-") as folder:
        table.to_parquet(Path(folder) / "review.parquet", index=False)
        start_page(Path(folder) / "review.parquet", made, by, port)


def page(table_path: str, made_path: str, by: str) -> None:
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
    st.session_state.at = table["id"].iat[shown[at]]
    _row(st, table.iloc[shown[at]], made, f"row {at + 1} of {len(shown)}")
    _buttons(st, table, made, shown, at, functools.partial(_decide, made_path, by))


def _filters(st, table: pd.DataFrame) -> tuple[str, str, bool]:
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


def _progress(st, table: pd.DataFrame, made: dict, shown: list[int]) -> None:
    own = [made[row_id]["decision"] for row_id in table["id"] if row_id in made]
    counts = ", ".join(f"{own.count(name)} {word}" for name, word in MADE.items() if name in own)
    st.sidebar.progress(len(own) / len(table), text=f"{len(own)} of {len(table)} rows decided")
    st.sidebar.caption(counts or "nothing decided yet")
    if shown and not open_rows(table, made, shown):
        st.success("Every row under these filters has a decision.")


def _place(at: str | None, table: pd.DataFrame, made: dict, shown: list[int]) -> int:
    """Return the place in `shown` of the row to show: the one last gone to, else the first without a decision."""
    ids = [table["id"].iat[position] for position in shown]
    if at in ids:
        return ids.index(at)
    return next((place for place, row_id in enumerate(ids) if row_id not in made), 0)


def _row(st, row: pd.Series, made: dict, place: str) -> None:
    # st.text alone shows what stands in the data: HTML, Markdown and links in it stay letters.
    st.caption(f"{place} · {_plain(row['language'])} · id {_plain(row['id'])} · {_plain(row['reason'])}")
    given, model, suggested = st.columns(3)
    given.metric("Label", LABEL_NAMES[row["label"]])
    model.metric("Model: probability of relevance", f"{row['probability']:.3f}")
    suggested.metric("Suggested", LABEL_NAMES[row["suggested_label"]])
    decision = made.get(row["id"])
    decided = f"{MADE[decision['decision']]} by {_plain(decision.get('by'))}" if decision else "no decision yet"
    st.caption(f"Decision: **{decided}**")
    for title, column in (("Query", "query"), ("Target", "target")):
        with st.container(border=True):
            st.caption(title)
            st.text(row[column])


def _buttons(st, table: pd.DataFrame, made: dict, shown: list[int], at: int, decide) -> None:
    row, before, after = table.iloc[shown[at]], shown[max(at - 1, 0)], shown[min(at + 1, len(shown) - 1)]
    columns = st.columns(6)
    # The row's id goes with each button: see _is_current.
    for column, (name, (title, key)) in zip(columns, KEYS.items(), strict=False):
        arguments = (row["id"], name, row["id"], int(row["label"]), table["id"].iat[after])
        _button(column, title, key, f"{name}-{row['id']}", decide, arguments)
    last = next((row_id for row_id in reversed(made) if (table["id"] == row_id).any()), None)
    undo = (row["id"], corrections.UNDO, last, made[last]["label"] if last else 0, last)
    _button(columns[3], "Undo", "U", f"undo-{row['id']}", decide, undo, disabled=last is None)
    _button(columns[4], "Previous", "Left", f"previous-{row['id']}", _go, (row["id"], table["id"].iat[before]))
    _button(columns[5], "Next", "Right", f"next-{row['id']}", _go, (row["id"], table["id"].iat[after]))


def _button(column, title: str, shortcut: str, key: str, on_click, arguments: tuple, disabled: bool = False) -> None:
    column.button(
        title, key=key, shortcut=shortcut, on_click=on_click, args=arguments, disabled=disabled, width="stretch"
    )


def _decide(made_path: str, by: str, seen: str, name: str, row_id: str, label: int, then: str) -> None:
    if _is_current(seen):
        corrections.append(made_path, [corrections.make_decision(row_id, name, label, by)])
        _go(seen, then)


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
