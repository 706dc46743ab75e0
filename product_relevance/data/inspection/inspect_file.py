"""Read a file as it is, and say what was understood and what is doubtful."""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from product_relevance.data.inspection.column_guess import guess_map
from product_relevance.data.sources.column_map import ColumnMap
from product_relevance.data.sources.duplicates import group_pairs
from product_relevance.data.sources.labels import MAX_GRADES, LabelScale, parse_label
from product_relevance.data.sources.options import ReadingOptions
from product_relevance.data.sources.readers import read_table
from product_relevance.data.sources.record_fields import require_fields, to_record_fields
from product_relevance.data.sources.scales import count_values, order_values, suggest_map
from product_relevance.data.sources.tables import RawTable, Source
from product_relevance.data.sources.validation import find_defects
from product_relevance.text.language_codes import is_code, normal_code
from product_relevance.text.path_format import path_separators
from product_relevance.utils.tasks import TARGET_FIELD

FEW_ROWS = 200


@dataclass(frozen=True)
class Inspection:
    """What a file holds.

    Attributes:
        table: Its rows with the fields of a record; `given` has its own columns.
        columns: Which column holds which field.
        task: QC or QI.
        labels: Its labels as they are written, with their rows, worst first where their order is known.
        label_map: The number of each label; empty where labels are such numbers already.
        grades: How many labels there are; 0 where they cannot be read.
        separators: Of the levels of category paths, with the share of the paths that each one splits.
        languages: Codes with their rows.
        codes: Language of each row.
        pairs: Rows of each query and target that stand in several rows with a label.
        repeated: Rows beyond the first of each query and target.
        contradictory: Rows of a query and target with several labels.
        defective: Rows with a defect, and lines that are no row.
        doubts: What a person should look at.
        obstacles: Why no recipe can be written as yet.
    """

    table: RawTable
    columns: ColumnMap
    task: str
    labels: dict[str, int] = field(default_factory=dict)
    label_map: dict[str, int] = field(default_factory=dict)
    grades: int = 0
    separators: dict[str, float] = field(default_factory=dict)
    languages: dict[str, int] = field(default_factory=dict)
    codes: tuple[str, ...] = ()
    pairs: tuple[tuple[int, ...], ...] = ()
    repeated: int = 0
    contradictory: int = 0
    defective: int = 0
    doubts: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()


def inspect_file(source: Source, task: str | None = None) -> Inspection:
    """Read a file, guess what nobody said of it, and count.

    Args:
        source: The file; what its `reading` says of columns and labels is kept.
        task: QC or QI; None finds it.

    Raises:
        RecordError: It cannot be read, or no column can be the query or the target.
    """
    raw = read_table(source)
    columns = guess_map(raw, source.reading.columns)
    with _quiet():
        table, task = to_record_fields(raw, ReadingOptions(columns), task)
    require_fields(table, columns, task, "any")
    labels, label_map, grades = _read_labels(table, source.reading.scale)
    table = replace(table, scale=LabelScale.parse(label_map, max(grades, 2)))
    defects = table.defects + list(find_defects(table, task, TARGET_FIELD[task], "any" if grades else "test"))
    bad = {defect.row for defect in defects if defect.row >= 0}
    pairs = tuple(map(tuple, group_pairs(table, TARGET_FIELD[task], bad))) if grades else ()
    codes = tuple(map(_code_of, table.columns["language"]))
    targets = [text for text in table.columns[TARGET_FIELD[task]] if isinstance(text, str)]
    found = Inspection(
        table,
        columns,
        task,
        labels,
        label_map,
        grades,
        separators=path_separators(targets) if task == "QC" else {},
        languages=dict(Counter(codes).most_common()),
        codes=codes,
        pairs=pairs,
        repeated=sum(len(rows) - 1 for rows in pairs),
        contradictory=sum(len(rows) for rows in pairs if len({table.labels[row] for row in rows}) > 1),
        defective=len(bad) + sum(defect.row < 0 for defect in defects),
    )
    return replace(found, doubts=tuple(_doubts(found)), obstacles=tuple(_obstacles(found)))


def _code_of(value: object) -> str:
    return normal_code(value) if isinstance(value, str) else "none"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what is made of missing columns out of the log: the inspection says it in its own place."""
    logger = logging.getLogger("product_relevance.data.sources.record_fields")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _read_labels(table: RawTable, given: LabelScale) -> tuple[dict[str, int], dict[str, int], int]:
    """Return labels, label map and number of grades, see `Inspection`."""
    counts = count_values(table)
    if given.names:
        return dict(counts), dict(given.names), max(value for _, value in given.names) + 1
    if not 2 <= len(counts) <= MAX_GRADES or (ordered := order_values(counts)) is None:
        return dict(counts), {}, 0
    labels = {value: counts[value] for value in ordered}
    grades = len({parse_label(value) for value in ordered}) if None not in map(parse_label, ordered) else len(ordered)
    plain = all(parse_label(value, grades) is not None for value in ordered)
    return labels, {} if plain else suggest_map(labels, grades), grades


def _doubts(found: Inspection) -> Iterator[str]:
    given = found.table.given or {}
    if found.columns.id == "" or "id" not in {*given, *found.columns.given()}:
        yield "no column has distinct ids: each row gets its number"
    if found.columns.language == "" or "language" not in {*given, *found.columns.given()}:
        yield "no column has languages: they are identified among the 13 of the competition"
    if odd := [code for code in found.languages if not is_code(code)]:
        yield f"languages that are no codes of ISO 639, each kept as a language of its own: {', '.join(odd[:10])}"
    if len(found.separators) > 1:
        shares = ", ".join(f"{name!r} {share:.0%}" for name, share in found.separators.items())
        yield f"several separators split the category paths ({shares}): the first one is taken"
    if found.task == "QC" and not found.separators:
        yield "no separator splits the category paths"
    if found.contradictory:
        yield f"{found.contradictory:,} rows contradict another of their pair: the most frequent label counts"
    if found.defective:
        yield f"{found.defective:,} rows have a defect and are left out"
    if found.grades > 2:
        yield f"{found.grades} grades: check their order, worst first: {', '.join(found.labels)}"
    if len(found.table.lines) < FEW_ROWS:
        yield f"{len(found.table.lines):,} rows are few: figures will be rough"


def _obstacles(found: Inspection) -> Iterator[str]:
    if not found.labels:
        yield "there is no column of labels: the file can be predicted, not trained on"
    elif len(found.labels) == 1:
        yield f"all labels are {next(iter(found.labels))!r}: a training needs both relevant and irrelevant rows"
    elif not found.grades and len(found.labels) > MAX_GRADES:
        yield (
            f"labels have {len(found.labels):,} values, expected {MAX_GRADES} at most: name the column of the labels "
            "with --columns label=COLUMN"
        )
    elif not found.grades:
        example = ",".join(f"{name}={value}" for name, value in suggest_map(found.labels, 2).items())
        yield f"the order of the labels is not known: say what each stands for, as in --label_map {example}"
