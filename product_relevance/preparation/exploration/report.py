"""Write the picture of a data set: one HTML page that needs nothing else, and its pictures as PNGs beside it."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from product_relevance.preparation.exploration import drift, figures, statistics
from product_relevance.utils import console
from product_relevance.utils.html_page import Section, write_page
from product_relevance.utils.tasks import LABELS

Frames = Mapping[str, pd.DataFrame]  # name of a file to its rows, as `statistics.add_measures` returns them


def write_report(folder: str | os.PathLike, tasks: Mapping[str, Frames]) -> Path:
    """Write `report.html` and `figures/*.png`.

    Args:
        folder: Made if need be.
        tasks: Task to its files, the first of which the others are compared with; from `statistics.add_measures`.

    Returns:
        The page's path.
    """
    return write_page(Path(folder), "Data report", _sections(tasks))


def _sections(tasks: Mapping[str, Frames]) -> Iterator[tuple[str, Section]]:
    makers = [(task, frames, make) for task, frames in tasks.items() for make in _makers(task, frames)]
    for task, frames, make in console.progress_bar(makers, desc="tables and pictures"):
        section = make(frames)
        yield f"{task}_{make.__name__.strip('_')}", replace(section, title=f"{task}: {section.title}")


def _makers(task: str, frames: Frames) -> list[Callable[[Frames], Section]]:
    labelled = any(statistics.labels_of(frame).notna().any() for frame in frames.values())
    makers: list[Callable[[Frames], Section]] = [_overview, _languages]
    makers += [_labels] if labelled else []
    makers += [_lengths, _lengths_by_language, _words]
    makers += [_overlap] if statistics.labels_of(_first(frames)).notna().any() else []
    makers += [_rows_per_query, _contradictions, _repeats, _noise]
    makers += [_taxonomy] if task == "QC" else []
    makers += [_unseen] if task == "QC" and len(frames) > 1 else []
    return makers + ([_drift] if len(frames) > 1 else [])


def _overview(frames: Frames) -> Section:
    table = _stacked(frames, statistics.summarise_rows)
    rows = int(table["rows"].sum())
    return Section("files", f"{rows:,} rows in {len(frames)} files; texts count as one when normalised.", {"": table})


def _languages(frames: Frames) -> Section:
    tables = {name: statistics.count_languages(frame) for name, frame in frames.items()}
    moved = {f"corrections in {name}": statistics.count_language_moves(frame) for name, frame in frames.items()}
    count = sum(int(table["rows"].sum()) for table in moved.values())
    text = f"{count:,} rows are given as one language and are another by identification."
    return Section("languages", text, {**tables, **_some(moved)}, lambda path: figures.draw_languages(tables, path))


def _labels(frames: Frames) -> Section:
    tables = {name: statistics.count_languages(frame) for name, frame in frames.items()}
    tables = {name: table for name, table in tables.items() if table["relevant"].notna().any()}
    shares = ", ".join(f"{statistics.labels_of(frames[name]).mean():.1%} in {name}" for name in tables)
    return Section("labels", f"Relevant: {shares}.", {}, lambda path: figures.draw_relevant_shares(tables, path))


def _lengths(frames: Frames) -> Section:
    tables = {name: statistics.bin_lengths(frame) for name, frame in frames.items()}
    first = _first(frames)
    text = f"Half of the queries have up to {first['query_characters'].median():.0f} characters, half of the targets "
    text += f"up to {first['target_characters'].median():.0f} (first file)."
    return Section("lengths", text, {}, lambda path: figures.draw_lengths(tables, path))


def _lengths_by_language(frames: Frames) -> Section:
    table = statistics.measure_lengths(_first(frames))
    text = "Characters of queries and targets in the first file, cleaned."
    draw = lambda path: figures.draw_lengths_by_language(table, path)  # noqa: E731
    return Section("lengths by language", text, {"quantiles": table}, draw)


def _words(frames: Frames) -> Section:
    text = "The words in most distinct queries and targets. Words end at blanks and punctuation: Thai and Japanese "
    text += "texts without blanks count as one word."
    return Section("top words", text, {name: statistics.list_top_words(frame) for name, frame in frames.items()})


def _overlap(frames: Frames) -> Section:
    frame = _first(frames)
    shares, table = statistics.bin_overlaps(frame), statistics.compare_overlaps(frame)
    means = frame["overlap"].groupby(statistics.labels_of(frame)).mean()
    text = "Mean Jaccard overlap of the words of query and target (first file): "
    text += ", ".join(f"{means[label]:.3f} where {name}" for label, name in LABELS.items() if label in means) + "."
    return Section("overlap of words", text, {"": table}, lambda path: figures.draw_overlaps(shares, table, path))


def _rows_per_query(frames: Frames) -> Section:
    tables = {name: statistics.count_rows_per_query(frame) for name, frame in frames.items()}
    means = ", ".join(f"{table['rows'].sum() / table['queries'].sum():.2f} in {n}" for n, table in tables.items())
    text = f"Rows per query: {means}. A query with both labels teaches what a target changes."
    return Section("rows per query", text, tables, lambda path: figures.draw_rows_per_query(tables, path))


def _contradictions(frames: Frames) -> Section:
    tables = _some({name: statistics.list_contradictions(frame) for name, frame in frames.items()})
    text = f"Pairs with both labels, at most {statistics.EXAMPLES} per file." if tables else "No pair has both labels."
    return Section("contradictory labels", text, tables)


def _repeats(frames: Frames) -> Section:
    tables = _some({name: statistics.list_repeats(frame) for name, frame in frames.items()})
    text = (
        f"Pairs that occur more than once, at most {statistics.EXAMPLES} per file."
        if tables
        else "No pair is repeated."
    )
    return Section("duplicates", text, tables)


def _noise(frames: Frames) -> Section:
    tables = {name: statistics.measure_noise(frame) for name, frame in frames.items()}
    first = next(iter(tables.values()))
    text = f"Cleaning changes {first['query changed by cleaning'].iloc[0]:.1%} of the queries of the first file. "
    others = dict(list(tables.items())[1:])
    return Section("noise", text, others, lambda path: figures.draw_noise(first, path))


def _taxonomy(frames: Frames) -> Section:
    table, branches = statistics.describe_taxonomy(_first(frames)), statistics.list_branches(_first(frames))
    text = f"{table['paths that end here'].sum():,} paths on {len(table)} levels in the first file."
    tables = {"levels": table, f"first levels (at most {statistics.EXAMPLES})": branches}
    return Section("taxonomy", text, tables, lambda path: figures.draw_taxonomy(table, path))


def _unseen(frames: Frames) -> Section:
    first, *others = frames
    found = {name: drift.find_unseen_paths(frames[first], frames[name]) for name in others}
    counts = {name: table for name, (table, _) in found.items()}
    examples = _some({f"paths of {name} that {first} has not": paths for name, (_, paths) in found.items()})
    text = "complete: the path is known as a whole; partial: only its first levels are; none: not even the first."
    return Section("unseen paths", text, {**counts, **examples}, lambda path: figures.draw_unseen_paths(counts, path))


def _drift(frames: Frames) -> Section:
    first, second, *_ = frames
    others = list(frames)[1:]
    shared = "; ".join(f"{name}: {drift.describe_shared_queries(frames[first], frames[name])}" for name in others)
    text = f"Queries of {first} in the other files: {shared}. A model trained on {first} is not tested by these rows. "
    text += f"How far each file is from {first}: languages by total variation, lengths and overlap by the "
    text += "Kolmogorov-Smirnov statistic, the rest by the difference."
    languages = {name: drift.compare_languages(frames[first], frames[name]) for name in others}
    tables = {f"{first} and {name}": drift.measure_drift(frames[first], frames[name]) for name in languages}
    tables |= {f"languages of {first} and {name}": table for name, table in languages.items()}
    draw = lambda path: figures.draw_drift(languages[second], (first, second), path)  # noqa: E731
    return Section("drift", text, tables, draw)


def _first(frames: Frames) -> pd.DataFrame:
    return next(iter(frames.values()))


def _some(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return {name: table for name, table in tables.items() if len(table)}


def _stacked(frames: Frames, table_of: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    tables = [table_of(frame) for frame in frames.values()]
    table = pd.concat(tables, ignore_index=True)
    table.insert(0, "file", list(frames))
    return table
