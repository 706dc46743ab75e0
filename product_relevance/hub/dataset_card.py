"""Write cards of prepared data sets: how the rows were made, with counts, and no row itself."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from huggingface_hub import DatasetCardData

from product_relevance.data.provenance import ORIGINAL, read_facts
from product_relevance.hub.card_template import TAGS, CardPlace, checked_repo, common_values, iso_codes, render_card
from product_relevance.hub.markdown import markdown_table
from product_relevance.utils.run_record import PublicRunRecord
from product_relevance.utils.tasks import TARGET_NAMES

TEXT_COLUMNS = {
    "query", "origin_query", "target", "clean_target", "category_path", "item_title", "translated_query", "original",
    "text", "text_pair",
}  # fmt: skip

LABELLED = {"relevant": "labelled relevant", "grade": "mean grade"}  # a table leaves out what no row has


def dataset_card(
    run: PublicRunRecord,
    place: CardPlace,
    columns: list[str],
    ensemble_id: str | None = None,
    prepared: Mapping[str, Any] | None = None,
) -> str:
    """Write the card of the prepared data set.

    Args:
        run: public part of a run (`manifest.public_run`).
        place: of the data set, with the path of its file.
        columns: names of the published columns; the card says whether texts are among them.
        ensemble_id: repository of the ensemble trained on it.
        prepared: how the file was made (`prepared_values`), where the file says so.

    Returns:
        Markdown with metadata, for README.md.

    Raises:
        ValueError: a malformed id, rows prepared for another task, or no templates.
    """
    if prepared and prepared["task"] != run.task:
        raise ValueError(
            f"the data set was prepared for {prepared['task']}, expected {run.task}, the task of the run: give the "
            "file that its models were trained on"
        )
    rows = prepared["rows"] if prepared else run.data["rows"]
    metadata = _metadata(run.task, iso_codes(run.data["languages"]), rows, place.path)
    values = common_values(run, place) | {
        "prepared": prepared,
        "columns": columns,
        "texts": [name for name in columns if name in TEXT_COLUMNS],
        "ensemble_id": ensemble_id and checked_repo(ensemble_id),
    }
    return render_card("dataset.md", metadata, values)


def prepared_card(path: str | os.PathLike) -> str:
    """Write the card of a file of dataset_scripts/prepare.py, to lie beside it.

    Args:
        path: The file.

    Returns:
        Markdown with metadata; the same file gives the same card.

    Raises:
        ValueError: A file that does not say how it was made, or no templates.
    """
    prepared = prepared_values(path)
    if prepared is None:
        raise ValueError(f"{path}: does not say how it was made, expected a file of dataset_scripts/prepare.py")
    columns = pq.read_schema(path).names
    values = {
        "file": Path(path).name,
        "columns": columns,
        "prepared": prepared,
        "target": TARGET_NAMES[prepared["task"]],
    }
    codes = iso_codes(prepared["languages"])
    return render_card("prepared.md", _metadata(prepared["task"], codes, prepared["rows"], Path(path).name), values)


def prepared_values(path: str | os.PathLike) -> dict[str, Any] | None:
    """Gather what a card says about a file of dataset_scripts/prepare.py.

    Args:
        path: The file.

    Returns:
        Values for the templates: task, source, its sha256, the table of steps, and rows counted by method, fold and
        language; None for a file that does not say how it was made.

    Raises:
        ValueError: The file holds another number of rows than its facts say.
    """
    facts = read_facts(path)
    if facts.get("format") != 1:
        return None
    names = [name for name in ("method", "fold", "language", "label") if name in pq.read_schema(path).names]
    frame = pd.read_parquet(path, columns=names)
    stated = facts["steps"][-1]["rows"]
    if stated != len(frame):
        raise ValueError(
            f"{path}: holds {len(frame):,} rows, but its facts say {stated:,}; expected those of "
            "dataset_scripts/prepare.py: its rows were changed since; prepare it again"
        )
    found = {key: facts[key] for key in ("task", "role", "source", "sha256", "version")}
    methods = frame["method"] if "method" in frame else pd.Series(ORIGINAL, index=frame.index)
    return found | {
        "rows": len(frame),
        "languages": sorted(frame["language"].unique()),
        "filtered": any(step["step"] == "filter" for step in facts["steps"]),
        "steps": _steps(facts["steps"]),
        "by_method": _by_method(frame, methods),
        "by_language": _by_language(frame, methods),
    }


def _steps(steps: list[dict]) -> Any:
    rows = [
        {
            "step": step["step"],
            "options": _told(step["options"]),
            "read": _told({name: value[:12] for name, value in step["contents"].items()}),
            "rows": step["rows"],
            "counts": _told(step["counts"]),
        }
        for step in steps
    ]
    headings = {"step": "step", "options": "options", "read": "read, by its sha256 or commit"}
    return markdown_table(rows, headings | {"rows": "rows after it", "counts": "counts"})


def _told(values: Mapping[str, Any]) -> str | None:
    pairs = []
    for name, value in values.items():
        if isinstance(value, dict):
            value = f"({_told(value)})"
        elif isinstance(value, list):
            value = " ".join(map(str, value))
        if value is not None and value is not False and value != "":
            pairs.append(f"{name} {value}")
    return "; ".join(pairs) or None


def _by_method(frame: pd.DataFrame, methods: pd.Series) -> Any:
    folds = sorted(frame["fold"].unique()) if "fold" in frame else []
    rows = []
    for method in [ORIGINAL, *sorted(set(methods) - {ORIGINAL})]:
        chosen = frame[methods == method]
        spread = {f"fold {fold}": int((chosen["fold"] == fold).sum()) for fold in folds}
        rows.append({"method": method, "rows": len(chosen)} | _labelled(frame, chosen) | spread)
    return markdown_table(
        rows, {"method": "method", "rows": "rows"} | LABELLED | {f"fold {fold}": f"fold {fold}" for fold in folds}
    )


def _by_language(frame: pd.DataFrame, methods: pd.Series) -> Any:
    made = (methods != ORIGINAL).groupby(frame["language"]).sum()
    rows = [
        {"language": code, "rows": len(part), "made": int(made[code])} | _labelled(frame, part)
        for code, part in frame.groupby("language")
    ]
    return markdown_table(rows, {"language": "language", "rows": "rows", "made": "of them made"} | LABELLED)


def _labelled(frame: pd.DataFrame, part: pd.DataFrame) -> dict[str, str | float]:
    """Return the share of relevant rows in a part of a file, or their mean grade; nothing without labels."""
    labels = part["label"].dropna() if "label" in part else pd.Series(dtype=float)
    if not len(labels):
        return {}
    if frame["label"].max() > 1:
        return {"grade": float(labels.mean())}
    return {"relevant": f"{100 * (labels == 1).mean():.1f}%"}


def _metadata(task: str, codes: list[str], rows: int, file: str) -> DatasetCardData:
    return DatasetCardData(
        language=codes or None,
        license="unknown",
        multilinguality=("multilingual" if len(codes) > 1 else "monolingual") if codes else None,
        size_categories=_size(rows),
        task_categories=["text-classification"],
        pretty_name=f"{task} relevance with folds",
        tags=TAGS,
        configs=[{"config_name": "default", "data_files": file}],
    )


def _size(rows: int) -> str:
    limits = {1e3: "n<1K", 1e4: "1K<n<10K", 1e5: "10K<n<100K", 1e6: "100K<n<1M", 1e7: "1M<n<10M"}
    return next((name for limit, name in limits.items() if rows < limit), "10M<n<100M")
