"""How a source is read: its columns, labels, duplicates, encoding and delimiter."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from product_relevance.data.sources.column_map import ColumnMap
from product_relevance.data.sources.labels import LabelScale

# What happens to rows of the same query and target, see `duplicates.resolve_duplicates`.
DUPLICATES = ("error", "keep", "drop", "majority", "mean")


@dataclass(frozen=True)
class ReadingOptions:
    """How the rows of a source become records. The defaults read the competition's files.

    Attributes:
        columns: Which column holds which field.
        scale: How labels are read, and how many grades there are.
        on_duplicates: One of `DUPLICATES`.
        encoding: Of a text file; None finds it.
        delimiter: Of a CSV or TSV; None finds it.
        number_rows: Whether rows of a file without ids get their numbers.
    """

    columns: ColumnMap = field(default_factory=ColumnMap)
    scale: LabelScale = field(default_factory=LabelScale)
    on_duplicates: str = "error"
    encoding: str | None = None
    delimiter: str | None = None
    number_rows: bool = True

    def with_grades(self, grades: int) -> "ReadingOptions":
        """Return the same options for labels from 0 to grades - 1.

        Raises:
            ValueError: The label map has a larger one.
        """
        return replace(self, scale=LabelScale.parse(dict(self.scale.names), grades))

    def to_json(self) -> dict[str, Any]:
        """Return what differs from the defaults."""
        found = asdict(self) | {"columns": self.columns.given()}
        found["scale"] = {"grades": self.scale.grades, "names": dict(self.scale.names)}
        plain = {"columns": {}, "scale": {"grades": 2, "names": {}}, "on_duplicates": "error", "number_rows": True}
        return {name: value for name, value in found.items() if value != plain.get(name)}
