"""From a file to rendered pairs: records, then the columns that training and prediction share."""

import os

import numpy as np
import pandas as pd

from product_relevance import cleaning, columns, languages, translation
from product_relevance.arguments import DataArguments
from product_relevance.embedded import cache_folder
from product_relevance.prompt import Prompt
from product_relevance.records import read_records
from product_relevance.taxonomy import Taxonomy
from product_relevance.templates import Template


def load_columns(arguments: DataArguments, rejects: str | os.PathLike | None = None) -> pd.DataFrame:
    """Read the training records and add the columns.

    Args:
        arguments: of the run.
        rejects: where `--on_bad_rows skip` writes what it left out.

    Returns:
        Frame of `read_records` with `query`, `clean_target`, `translated_query`, `language` (corrected) and
        `given_language`.

    Raises:
        ValueError: bad records or translations.
    """
    if arguments.on_bad_rows == "skip" and rejects:
        os.makedirs(os.path.dirname(rejects) or ".", exist_ok=True)
    frame = read_records(
        arguments.train_file,
        task=arguments.task,
        role="train",
        on_bad_rows=arguments.on_bad_rows,
        rejects_path=rejects,
    )
    _check_weights(frame)
    return add_all(frame, arguments.lowercase, arguments.language_fix, arguments.translation)


def _check_weights(frame: pd.DataFrame) -> None:
    if "weight" not in frame:
        return
    weights = pd.to_numeric(frame["weight"], errors="coerce")
    bad = frame[~(weights >= 0) | ~np.isfinite(weights)]
    if len(bad):
        raise ValueError(
            f"{frame.attrs['source']}:{bad['line'].iloc[0]}: field 'weight': found {bad['weight'].iloc[0]!r} "
            f"({len(bad)} such rows), expected a number from 0 up: it scales the row's loss"
        )


def add_all(
    frame: pd.DataFrame, lowercase: bool, language_fix: str, translations: "str | translation.Translator"
) -> pd.DataFrame:
    """Add every column, cached on disk by content: clean, then translated, then the language."""
    source = dict(frame.attrs)
    cache = cache_folder() / "columns"
    frame = columns.add_columns(frame, [("clean", cleaning.clean, {"lowercase": lowercase})], cache)
    frame = translation.add_translation(frame, translations)
    frame = columns.add_columns(frame, [("language", languages.fix_language, {"method": language_fix})], cache)
    frame.attrs = source
    return frame


def add_run_columns(frame: pd.DataFrame, run: dict, translations: str | None = None) -> pd.DataFrame:
    """Add the columns as a run was trained with.

    Args:
        frame: records to score.
        run: content of run.json.
        translations: `none`, `column`, or a table; None takes the run's own way, which for a run trained with a table
            is the column, since the table of the training queries does not know these.

    Raises:
        ValueError: the run was trained with translations, and there are none here.
    """
    options = run["columns"]
    trained = options["translation"]
    chosen = translations or (trained if trained in ("none", "column") else "column")
    if chosen == "column" and "translated_query" not in frame:
        raise ValueError(
            f"{frame.attrs.get('source', 'records')}: the run was trained with translations, but there is no field "
            "translated_query: give a table with --translation TABLE, or --translation none to go without"
        )
    return add_all(frame, options["lowercase"], options["language_fix"], chosen)


def make_template(arguments: DataArguments, prompt: Prompt | None = None) -> Template:
    """Return the template that the arguments describe, around a prompt where there is one."""
    return Template(
        task=arguments.task,
        input_style=arguments.input_style,
        language_tag=arguments.language_tag,
        language_fix=arguments.language_fix if arguments.language_tag else "none",
        path_style=arguments.path_style,
        lowercase=arguments.lowercase,
        prompt=prompt,
    )


def make_taxonomy(frame: pd.DataFrame) -> Taxonomy | None:
    """Return the tree of the category paths of QC records, None for QI."""
    return Taxonomy.from_paths(frame["target"]) if (frame["task"] == "QC").all() else None


def render(frame: pd.DataFrame, template: Template, known: Taxonomy | None) -> tuple[list[str], list[str]]:
    """Render the pairs of a frame that has the columns; `known` as in `Template.render`."""
    return template.render(
        frame["origin_query"].tolist(),
        frame["target"].tolist(),
        languages=frame["given_language"].tolist(),
        translations=frame["translated_query"].tolist(),
        known=known,
    )


def describe(frame: pd.DataFrame) -> str:
    """Return a line on what was read: rows, share of positives, languages, corrected rows, speed."""
    counts = frame["language"].value_counts()
    moved = int((frame["language"] != frame["given_language"]).sum())
    found = ", ".join(f"{code} {n}" for code, n in counts.items())
    speed = frame.attrs.get("rows_per_second")
    return (
        f"{frame.attrs.get('source')}: {len(frame)} rows, {frame['label'].mean():.1%} positive; {found}; "
        f"{moved} rows labelled en are not English" + (f"; {speed:,.0f} rows/s" if speed else "")
    )
