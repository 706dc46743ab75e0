"""How a source is read: its columns, labels, duplicates, encoding and delimiter."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
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
        remembered: Which of "columns" and "label_map" are those of another file, which this one may lack.
    """

    columns: ColumnMap = field(default_factory=ColumnMap)
    scale: LabelScale = field(default_factory=LabelScale)
    on_duplicates: str = "error"
    encoding: str | None = None
    delimiter: str | None = None
    number_rows: bool = True
    remembered: tuple[str, ...] = ()

    def with_grades(self, grades: int) -> "ReadingOptions":
        """Return the same options for labels from 0 to grades - 1.

        Raises:
            ValueError: The label map has a larger one.
        """
        return replace(self, scale=LabelScale.parse(dict(self.scale.names), grades))

    def fitting(self, names: Collection[str]) -> "ReadingOptions":
        """Return the options for a file with columns of these names: what was remembered holds where they are there.

        A remembered label map holds only where the labels are in the same column as they were.
        """
        if not self.remembered:
            return self
        given = self.columns.given()
        kept = {name: column for name, column in given.items() if not column or column in names}
        same_labels = kept.get("label", "label") in names and given.get("label") == kept.get("label")
        fits = same_labels or "label_map" not in self.remembered
        scale = self.scale if fits else LabelScale(self.scale.grades)
        return replace(self, columns=ColumnMap.parse(kept), scale=scale)

    def to_json(self) -> dict[str, Any]:
        """Return what differs from the defaults."""
        plain = ReadingOptions()
        kept = ("on_duplicates", "encoding", "delimiter", "number_rows", "remembered")
        found = {name: getattr(self, name) for name in kept if getattr(self, name) != getattr(plain, name)}
        if self.columns != plain.columns:
            found["columns"] = self.columns.given()
        if self.scale != plain.scale:
            found["labels"] = {"grades": self.scale.grades, "names": dict(self.scale.names)}
        return found
