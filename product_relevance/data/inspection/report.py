"""An inspection in lines for a terminal."""

from collections.abc import Iterable, Mapping

from product_relevance.data.inspection.inspect_file import Inspection
from product_relevance.data.sources.column_map import FIELDS, quoted
from product_relevance.data.sources.defects import show_value
from product_relevance.data.sources.validation import is_missing
from product_relevance.utils.tasks import TARGET_FIELD, TARGET_NAMES

SHOWN = 12


def inspection_lines(found: Inspection) -> list[str]:
    """Return what was understood of a file: columns, rows, task, languages, labels, pairs, doubts."""
    table = found.table
    lines = [f"file        {table.name}: {len(table.lines):,} rows, {table.form}"]
    lines += [f"{'columns' if not place else '':<12}{line}" for place, line in enumerate(_columns(found))]
    lines.append(f"task        {found.task} ({TARGET_NAMES[found.task]})")
    if found.task == "QC":
        lines.append(f"levels      {_counts_of_shares(found.separators) or 'no separator found'}")
    lines.append(f"languages   {_counts(found.languages)}")
    if found.labels:
        lines.append(f"labels      {_counts(found.labels)}")
    if found.grades:
        lines.append(
            f"pairs       {found.repeated:,} rows repeat one, {found.contradictory:,} rows contradict another"
        )
    lines += [f"doubt       {doubt}" for doubt in found.doubts]
    lines += [f"obstacle    {obstacle}" for obstacle in found.obstacles]
    labels = ",".join(quoted(f"{name}={value}") for name, value in found.label_map.items())
    flags = [f"--columns {found.columns.flag()}" if found.columns.flag() else "", labels and f"--label_map {labels}"]
    return [*lines, f"flags       {' '.join(filter(None, flags)) or 'none needed'}"]


def _columns(found: Inspection) -> Iterable[str]:
    given = found.table.given or found.table.columns
    fields = FIELDS | {"target": TARGET_FIELD[found.task]}
    used = {}
    for word, field in fields.items():
        column = found.columns.given().get(word, field)
        if column in given:
            used[column] = word
            yield f"{word:<12}{column:<20} {_example(given[column])}"
    if rest := [column for column in given if column not in used]:
        yield f"{'not read':<12}{', '.join(rest[:SHOWN])}{', ...' if len(rest) > SHOWN else ''}"


def _example(values: Iterable[object]) -> str:
    return next((show_value(value) for value in values if not is_missing(value)), "nothing")


def _counts(counts: Mapping[str, int]) -> str:
    shown = ", ".join(f"{name} {n:,}" for name, n in list(counts.items())[:SHOWN])
    return shown + (f" and {len(counts) - SHOWN:,} more" if len(counts) > SHOWN else "")


def _counts_of_shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name!r} splits {share:.0%} of the paths" for name, share in shares.items())
