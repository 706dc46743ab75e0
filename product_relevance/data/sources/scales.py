"""Recognise the scale of a file's labels, and say how labels of another scale are given a number."""

from collections import Counter
from collections.abc import Mapping

from product_relevance.data.sources.column_map import quoted
from product_relevance.data.sources.defects import RecordError, show_value
from product_relevance.data.sources.labels import MAX_GRADES, parse_label
from product_relevance.data.sources.tables import RawTable
from product_relevance.data.sources.validation import is_missing

MIN_ROWS, MIN_SHARE = 20, 0.1  # from here on it is the scale that differs, and no single row
# Words of the usual scales, from the worst grade to the best.
WORD_SCALES = (
    ("i", "c", "s", "e"),
    ("irrelevant", "complement", "substitute", "exact"),
    ("bad", "fair", "good", "excellent", "perfect"),
    ("bad", "fair", "good", "excellent"),
    ("bad", "fair", "good"),
    ("irrelevant", "partial", "exact"),
    ("irrelevant", "partially relevant", "relevant"),
    ("irrelevant", "partially relevant", "highly relevant"),
    ("not relevant", "somewhat relevant", "relevant", "highly relevant"),
    ("low", "medium", "high"),
)


def require_scale(table: RawTable) -> None:
    """Raise one error for a file whose labels are of another scale, in place of a defect in each row.

    Raises:
        RecordError: With the values that are there, and the flag that gives them numbers.
    """
    if None not in table.labels:
        return
    counts = count_values(table)
    unread = sum(n for value, n in counts.items() if table.scale.read_all([value]) == [None])
    rows = sum(counts.values())
    if rows < MIN_ROWS or unread < MIN_SHARE * rows or len(counts) > MAX_GRADES:
        return
    grades = table.scale.grades
    example = ",".join(quoted(f"{name}={value}") for name, value in suggest_map(counts, grades).items())
    found = ", ".join(f"{show_value(value)} ({n:,} rows)" for value, n in counts.most_common(MAX_GRADES))
    more = (
        f", or keep {len(counts)} grades: train_relevance.py --grades {len(counts)}"
        if 2 == grades < len(counts)
        else ""
    )
    raise RecordError(
        f"{table.name}: field 'label': found {found}, expected {table.scale.expected}; say what each stands "
        f"for, as in --label_map {example}{more}",
        table.defects,
    )


def count_values(table: RawTable) -> Counter[str]:
    """Return the distinct labels as texts with their rows, without missing ones."""
    values = table.columns.get("label", ())
    counts = Counter(str(value).strip() for value in values if not is_missing(value))
    return Counter({value: n for value, n in counts.items() if value})


def order_values(values: Mapping[str, int]) -> list[str] | None:
    """Return labels from the worst grade to the best, where they are numbers or words of a usual scale; else None."""
    try:
        return sorted(values, key=float)
    except ValueError:
        pass
    if all(parse_label(value) is not None for value in values):
        return sorted(values, key=lambda value: (parse_label(value), value))
    plain = {value.casefold().replace("_", " "): value for value in values}
    for scale in WORD_SCALES:
        if set(plain) <= set(scale):
            return [plain[word] for word in scale if word in plain]
    return None


def suggest_map(values: Mapping[str, int], grades: int = 2) -> dict[str, int]:
    """Return a label map for these values.

    Args:
        values: Labels as the file writes them, with their rows.
        grades: How many grades there are; with two the better half counts as relevant.

    Returns:
        Best grade first. The order of unknown words is that of their rows: it is an example to correct.
    """
    ordered = order_values(values) or sorted(values, key=lambda value: values[value])
    last = max(len(ordered) - 1, 1)
    numbers = {value: round(place / last * (grades - 1) + 1e-9) for place, value in enumerate(ordered)}
    if grades >= len(ordered):
        numbers = {value: place for place, value in enumerate(ordered)}
    return dict(reversed(numbers.items()))
