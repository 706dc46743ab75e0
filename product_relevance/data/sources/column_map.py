"""Which column of a file holds which field of a record."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace

from product_relevance.utils.other_names import require_known

# The words of a map, and the field of a record that each stands for; the target's field depends on the task.
FIELDS = {
    "query": "origin_query",
    "target": "target",
    "label": "label",
    "language": "language",
    "id": "id",
    "task": "task",
    "translation": "translated_query",
    "weight": "weight",
}
# What else people call them in a map.
ALIASES = {
    "grade": "label",
    "origin_query": "query",
    "category_path": "target",
    "item_title": "target",
    "translated_query": "translation",
}


@dataclass(frozen=True)
class ColumnMap:
    """The columns of a file by what they hold.

    None takes the column that has the field's own name. An empty name says that the file has no such column, whatever
    its columns are called.

    Attributes:
        query: Column of the query.
        target: Column of the category path or item title.
        label: Column of the label or grade.
        language: Column of the query's language.
        id: Column of a number or text that is distinct in the file.
        task: Column with QC or QI.
        translation: Column of the query's English translation.
        weight: Column that multiplies the loss of a row.
    """

    query: str | None = None
    target: str | None = None
    label: str | None = None
    language: str | None = None
    id: str | None = None
    task: str | None = None
    translation: str | None = None
    weight: str | None = None

    @classmethod
    def parse(cls, given: "Iterable[str] | Mapping[str, str] | ColumnMap") -> "ColumnMap":
        """Read a map as flags and recipes have it.

        Args:
            given: `query=search_term` and so on, or a mapping of these words to columns.

        Raises:
            ValueError: A word that is none of a map, or one without a column.
        """
        if isinstance(given, ColumnMap):
            return given
        found: dict[str, str] = {}
        for name, column in pairs_of(given, "--columns", "query=search_term"):
            require_known(name, [*FIELDS, *ALIASES], "--columns", "field")
            found[ALIASES.get(name, name)] = column
        return replace(cls(), **found)

    def given(self) -> dict[str, str]:
        """Return what differs from a record's own names."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: column for name, column in values.items() if column is not None}

    def flag(self) -> str:
        """Return the map as the words of `--columns`."""
        return " ".join(quoted(f"{name}={column}") for name, column in self.given().items())


def pairs_of(given: Iterable[str] | Mapping[str, str], flag: str, example: str) -> list[tuple[str, str]]:
    """Return the names and values of a list of NAME=VALUE, or of a mapping.

    Args:
        given: As flags (`query=search_term`), recipes and Python (a mapping) have it.
        flag: For error messages.
        example: One pair as it is written.

    Raises:
        ValueError: A part without `=`.
    """
    if isinstance(given, Mapping):
        return [(str(name), str(value)) for name, value in given.items()]
    pairs: list[tuple[str, str]] = []
    for part in given:
        if part.startswith("{"):  # a recipe's mapping on its way through the words of a command line
            pairs += pairs_of(json.loads(part), flag, example)
            continue
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"{flag} {part}: found no '=', expected NAME=VALUE as in {example}")
        pairs.append((name.strip(), value.strip()))
    return pairs


def quoted(word: str) -> str:
    """Return a word as a shell takes it: in quotes where it holds a blank or another sign."""
    return (
        word if all(sign.isalnum() or sign in "_-=.:/" for sign in word) else "'{}'".format(word.replace("'", "'\\''"))
    )
