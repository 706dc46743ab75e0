"""From a file to rendered pairs: records, then the columns that training and prediction share."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from product_relevance.data import columns
from product_relevance.data import translations as translation
from product_relevance.data.arguments import MAX_MISSING, DataArguments
from product_relevance.data.grades import add_grades
from product_relevance.data.provenance import ORIGINAL
from product_relevance.data.records import read_records
from product_relevance.data.sources.tables import Source
from product_relevance.text import cleaning, languages
from product_relevance.text.path_format import form_of, use_form
from product_relevance.text.prompt import Prompt
from product_relevance.text.taxonomy import Taxonomy
from product_relevance.text.templates import Template
from product_relevance.utils.files import cache_folder
from product_relevance.utils.tasks import BOTH, TARGET_NAMES


def load_columns(
    arguments: DataArguments, rejects: str | os.PathLike[str] | None = None, labelled: bool = True
) -> pd.DataFrame:
    """Read the training records and add the columns.

    Args:
        arguments: of the run.
        rejects: where `--on_bad_rows skip` writes what it left out.
        labelled: records without labels are an error; with them the same rows are kept either way.

    Returns:
        Frame of `read_records` with `query`, `clean_target`, `translated_query`, `language` (corrected) and
        `given_language`; with more than two grades as `add_grades` gives it. Rows of two tasks follow one another;
        `attrs["files"]` then has source, sha256 and rows of each.

    Raises:
        ValueError: bad records or translations.
    """
    if arguments.on_bad_rows == "skip" and rejects:
        os.makedirs(os.path.dirname(rejects) or ".", exist_ok=True)
    parts = {}
    for task, name in arguments.files().items():
        file = Source(name, arguments.split, arguments.data_revision, arguments.reading(arguments.grades))
        own = rejects if arguments.task != BOTH or not rejects else Path(rejects).with_stem(f"rejects_{task}")
        read = partial(read_records, file, task=task, on_bad_rows=arguments.on_bad_rows, rejects_path=own)
        parts[task] = read(role="train" if labelled or _has_labels(read(role="any")) else "any")
        _check_weights(parts[task])
    frame = _together(parts) if arguments.task == BOTH else parts[arguments.task]
    frame = add_grades(frame, arguments.grades, arguments.relevant_from)
    use_form(frame, arguments.path_separator, arguments.level_names)
    made = arguments.lowercase, arguments.language_fix, arguments.translation
    return add_all_columns(frame, *made, arguments.max_missing_translations)


def _has_labels(frame: pd.DataFrame) -> bool:
    return "label" in frame and bool(frame["label"].notna().all())


def _together(parts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Put the records of two tasks under one another; what one file has no column for is as if it were not made."""
    files = {task: {key: part.attrs[key] for key in ("source", "sha256")} for task, part in parts.items()}
    one_type = len({part["id"].dtype for part in parts.values()}) == 1
    frame = pd.concat([p if one_type else p.assign(id=p["id"].astype(str)) for p in parts.values()], ignore_index=True)
    for column, plain in (("weight", 1.0), ("method", ORIGINAL)):
        if column in frame:
            frame[column] = frame[column].fillna(plain)
    frame.attrs = {"source": ",".join(file["source"] for file in files.values()), "files": files}
    hashes = "".join(file["sha256"] for file in files.values())
    frame.attrs["sha256"] = hashlib.sha256(hashes.encode()).hexdigest()
    return frame


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


def add_all_columns(
    frame: pd.DataFrame,
    lowercase: bool,
    language_fix: str,
    translations: "str | translation.Translator",
    max_missing: float = MAX_MISSING,
) -> pd.DataFrame:
    """Add every column, cached on disk by content: clean, then translated (`add_translation`), then the language."""
    source = dict(frame.attrs)
    # Shards of a large source are read once: kept columns would only fill the disk.
    cache = None if frame.attrs.get("read_once") else cache_folder() / "columns"
    frame = columns.add_columns(
        frame, [columns.Step("clean", cleaning.clean_columns, {"lowercase": lowercase})], cache
    )
    frame = translation.add_translation(frame, translations, max_missing)
    frame = columns.add_columns(
        frame, [columns.Step("language", languages.fix_language, {"method": language_fix})], cache
    )
    frame.attrs = source
    return frame


def add_run_columns(frame: pd.DataFrame, trained: Mapping[str, Any], translations: str | None = None) -> pd.DataFrame:
    """Add the columns as a run was trained with; missing translations are counted, see `require_translations`.

    Args:
        frame: records to score.
        trained: `RunRecord.columns`, how the columns of its records were made.
        translations: `none`, `column`, or a table; None takes the run's own way, which for a run trained with a table
            is the column, since the table of the training queries does not know these.

    Raises:
        ValueError: the run was trained with translations, and there are none here.
    """
    chosen = _source_of_translations(trained, translations)
    if chosen == "column" and "translated_query" not in frame:
        raise ValueError(
            f"{frame.attrs.get('source', 'records')}: the run was trained with translations, but there is no field "
            "translated_query: give a table with --translation TABLE, or --translation none to go without"
        )
    return add_all_columns(frame, trained["lowercase"], trained["language_fix"], chosen, max_missing=1)


def require_translations(
    frame: pd.DataFrame, trained: Mapping[str, Any], translations: str | None, max_missing: float
) -> None:
    """Raise ValueError if too many of the records to score have no translation, before any is scored.

    Args:
        frame: records to score.
        trained: as in `add_run_columns`; empty of a stack, whose runs have columns of their own.
        translations: as in `add_run_columns`.
        max_missing: see `translation.add_translation`.

    Raises:
        ValueError: more missing than allowed, with examples.
    """
    chosen = _source_of_translations(trained, translations)
    if chosen == "none" or (chosen == "column" and "translated_query" not in frame):
        return
    translation.add_translation(frame, chosen, max_missing)


def _source_of_translations(trained: Mapping[str, Any], given: str | None) -> str:
    source: str = trained.get("translation", "none")
    return given or (source if source in ("none", "column") else "column")


def make_template(
    arguments: DataArguments, prompt: Prompt | None = None, frame: pd.DataFrame | None = None
) -> Template:
    """Return the template that the arguments describe, around a prompt where there is one.

    Args:
        arguments: of the run.
        prompt: of yes/no scoring.
        frame: training records, which show how category paths are written.
    """
    both = arguments.task == BOTH
    if both and prompt:  # a tokenizer holds one prompt for all rows; their tag says which of the two it is
        prompt = replace(prompt, text=prompt.text.replace("{target_kind}", TARGET_NAMES[BOTH]))
    return Template(
        task=arguments.task,
        input_style=arguments.input_style,
        language_tag=arguments.language_tag,
        language_fix=arguments.language_fix if arguments.language_tag else "none",
        path_style=arguments.path_style,
        lowercase=arguments.lowercase,
        prompt=prompt,
        task_tag=both if arguments.task_tag is None else arguments.task_tag,
        paths=form_of(frame) if frame is not None and (frame["task"] == "QC").any() else None,
    )


def make_taxonomy(frame: pd.DataFrame) -> Taxonomy | None:
    """Return the tree of the category paths of the QC records, None where there are none."""
    paths = frame.loc[frame["task"] == "QC", "target"]
    return Taxonomy.from_paths(paths, form_of(frame)) if len(paths) else None


def render_frame(frame: pd.DataFrame, template: Template, known: Taxonomy | None) -> tuple[list[str], list[str]]:
    """Render the pairs of a frame that has the columns of `add_all_columns`; arguments as in `Template.render_clean`.

    Where `clean_target` is left out, since the targets were written anew, they are cleaned.
    """
    names = ("target", "query", "translated_query", "language", "task", *({"clean_target"} & set(frame)))
    return template.render_clean({name: frame[name].tolist() for name in names}, known)


def describe_data(frame: pd.DataFrame, held_out_languages: list[str], grades: int = 2) -> dict[str, Any]:
    """Return what run.json says of the training records; of two tasks `tasks` has the same for each."""
    files = frame.attrs.get("files") or {None: {key: frame.attrs[key] for key in ("source", "sha256")}}
    names = [Path(file["source"]).name for file in files.values()]
    found = {
        "source": ",".join(names),
        "sha256": frame.attrs["sha256"],
        "rows": len(frame),
        "methods": _counts(frame["method"]) if "method" in frame else None,
        "positive": float(frame["label"].mean()) if "label" in frame else None,
        "languages": sorted(set(frame["given_language"]) - set(held_out_languages)),
        "handled": _count_handled(frame),
    }
    if "grade" in frame:  # the share of each, from grade 0 up
        found["grades"] = frame["grade"].value_counts(normalize=True).reindex(range(grades), fill_value=0.0).tolist()
    if "files" not in frame.attrs:
        return found
    parts = {task: frame[frame["task"] == task] for task in files}
    for task, part in parts.items():
        part.attrs = files[task]
    return found | {"tasks": {task: describe_data(part, held_out_languages) for task, part in parts.items()}}


def _count_handled(frame: pd.DataFrame) -> dict[str, int]:
    """Count the rows that were not taken as they stand; of two tasks only the languages are known here."""
    known = {
        name: frame.attrs[name] for name in ("rejected", "duplicates", "contradictory_rows") if name in frame.attrs
    }
    return known | {"languages_corrected": int((frame["language"] != frame["given_language"]).sum())}


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(value): int(n) for value, n in values.value_counts().sort_index().items()}


def describe_records(frame: pd.DataFrame) -> str:
    """Return a line on what was read: rows, share of positives, languages, corrected rows, speed."""
    counts = frame["language"].value_counts()
    moved = int((frame["language"] != frame["given_language"]).sum())
    found = ", ".join(f"{code} {n}" for code, n in counts.items())
    speed, tasks = frame.attrs.get("rows_per_second"), _counts(frame["task"])
    found = ", ".join([found, *(f"{task} {n}" for task, n in tasks.items() if len(tasks) > 1)])
    return (
        f"{frame.attrs.get('source')}: {len(frame)} rows, {frame['label'].mean():.1%} positive; {found}; "
        f"{moved} rows labelled en are not English" + (f"; {speed:,.0f} rows/s" if speed else "")
    )
