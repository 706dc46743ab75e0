"""Labels as files write them (0 and 1, words, grades), read as whole numbers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from product_relevance.data.sources.column_map import pairs_of

MAX_GRADES = 20
WORDS = {
    **{word: 1 for word in ("true", "yes", "relevant")},
    **{word: 0 for word in ("false", "no", "irrelevant", "not relevant", "not_relevant")},
}


@dataclass(frozen=True)
class LabelScale:
    """How a label is read.

    Attributes:
        grades: How many there are: labels are whole numbers from 0 to grades - 1.
        names: What the file writes, and the label that it stands for; empty where the file writes numbers.
    """

    grades: int = 2
    names: tuple[tuple[str, int], ...] = ()

    @classmethod
    def parse(cls, label_map: Iterable[str] | Mapping[str, Any] = (), grades: int = 2) -> "LabelScale":
        """Read a label map as flags and recipes have it.

        Args:
            label_map: `E=3` and so on, or a mapping of what the file writes to numbers.
            grades: How many there are.

        Raises:
            ValueError: A value that is no whole number below `grades`.
        """
        names = []
        for name, value in pairs_of(label_map, "--label_map", "E=3,S=2,C=1,I=0"):
            if not value.isascii() or not value.isdigit() or int(value) >= grades:
                expected = "0 or 1" if grades == 2 else f"a whole number from 0 to {grades - 1}"
                raise ValueError(f"--label_map {name}={value}: found {value!r}, expected {expected}")
            names.append((name, int(value)))
        return cls(grades, tuple(names))

    @property
    def expected(self) -> str:
        """What a label may be, for messages."""
        if self.names:
            return f"one of {', '.join(name for name, _ in self.names)}"
        return "0 or 1" if self.grades == 2 else f"a whole number from 0 to {self.grades - 1}"

    def read_all(self, values: Iterable[Any]) -> list[int | None]:
        """Read labels given as number, text or truth value; None for what is no label of this scale."""
        if not self.names:
            texts = _ParsedTexts(self.grades)
            return [texts[value] if type(value) is str else parse_label(value, self.grades) for value in values]
        exact = dict(self.names)
        loose = {_plain(name): value for name, value in self.names}
        return [exact.get(value) if value in exact else loose.get(_plain(value)) for value in map(_as_text, values)]


class _ParsedTexts(dict[str, int | None]):
    """Labels by their texts, each of which is parsed once."""

    def __init__(self, grades: int) -> None:
        self.grades = grades

    def __missing__(self, text: str) -> int | None:
        self[text] = parse_label(text, self.grades)
        return self[text]


def parse_label(value: Any, grades: int = 2) -> int | None:
    """Read a label given as integer, integral float, text or truth value.

    Args:
        value: As the source had it.
        grades: How many labels there are. Words such as "yes" and "relevant" are read where there are two.

    Returns:
        A whole number from 0 to grades - 1; None for anything else.
    """
    if type(value) is int:
        return value if 0 <= value < grades else None
    if isinstance(value, str):
        return _parse_text(value.strip(), grades)
    if isinstance(value, bool):
        return int(value) if grades == 2 else None
    return int(value) if isinstance(value, float) and value.is_integer() and 0 <= value < grades else None


def _parse_text(text: str, grades: int) -> int | None:
    digits = text.removesuffix(".0")
    if digits.isascii() and digits.isdigit() and len(digits) < 4:
        return int(digits) if int(digits) < grades else None
    return WORDS.get(text.casefold()) if grades == 2 else None


def _as_text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _plain(text: str) -> str:
    """Return a text as names of labels are compared: without case, blanks at its ends and a decimal 0."""
    return text.strip().casefold().removesuffix(".0")
