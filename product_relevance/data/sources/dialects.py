"""Find the delimiter and the quoting of a CSV or TSV by its first rows."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from product_relevance.data.sources.encodings import UTF_8, raw_lines

NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "vertical bar"}
WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "bar": "|"}
SAMPLE_LINES = 500
# How a quote inside a quoted text is written: twice, or behind a backslash; or no text is quoted at all.
DOUBLED, BACKSLASH, NONE = "doubled", "backslash", "none"


@dataclass(frozen=True)
class Dialect:
    """How the rows of a CSV or TSV are written.

    Attributes:
        delimiter: One character.
        quoting: DOUBLED, BACKSLASH or NONE.
        encoding: Of the file.
    """

    delimiter: str
    quoting: str = DOUBLED
    encoding: str = UTF_8

    @property
    def name(self) -> str:
        """The delimiter in words."""
        return NAMES.get(self.delimiter, f"{self.delimiter!r}")

    def reader(self, lines: Iterator[str], strict: bool = True) -> Any:
        """Return a csv reader of these lines that, if strict, stops at what it cannot parse."""
        if self.quoting == NONE:
            return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE)
        escape: dict[str, Any] = {"escapechar": "\\", "doublequote": False} if self.quoting == BACKSLASH else {}
        return csv.reader(lines, delimiter=self.delimiter, strict=strict, **escape)


def find_dialect(name: str, default: str, encoding: str = UTF_8, delimiter: str | None = None) -> Dialect:
    """Find how a CSV or TSV is written, by the first 500 lines.

    A delimiter is one that the header has. Of several, the one that gives most rows the header's number of columns.

    Args:
        name: The file.
        default: Delimiter that its name stands for.
        encoding: Of the file.
        delimiter: The one that was asked for; None finds it.
    """
    lines = _sample(name, encoding)
    tried = [delimiter] if delimiter else [default, *(other for other in NAMES if other != default)]
    scores = [(_score(lines, Dialect(one, DOUBLED, encoding)), one) for one in tried]
    (share, _), best = max(scores, key=lambda scored: scored[0]) if lines else ((1.0, 0), tried[0])
    if not any(width > 1 for (_, width), _ in scores):
        best, share = tried[0], 1.0
    return Dialect(best, DOUBLED if share == 1 else _find_quoting(lines, best, share), encoding)


def _find_quoting(lines: Sequence[str], delimiter: str, share: float) -> str:
    """Return another quoting where every row of the sample fits that one, and not all fit doubled quotes."""
    if any('\\"' in line for line in lines) and _score(lines, Dialect(delimiter, BACKSLASH))[0] == 1:
        return BACKSLASH
    texts = [text for line in lines for text in line.rstrip("\r\n").split(delimiter)]
    if any(len(text) > 1 and text.startswith('"') and text.endswith('"') for text in texts):
        return DOUBLED
    return NONE if _score(lines, Dialect(delimiter, NONE))[0] == 1 else DOUBLED


def _sample(name: str, encoding: str) -> list[str]:
    raw = islice(raw_lines(name, encoding), SAMPLE_LINES + 1)
    lines = [line.decode(UTF_8, "surrogateescape") for _, line in raw]
    return [line for line in lines[:SAMPLE_LINES] if line.strip()]


def _score(lines: Sequence[str], dialect: Dialect) -> tuple[float, int]:
    """Return the share of the rows that have as many columns as the header, and this number; (0, 0) for one column."""
    reader, header, rows, fitting = dialect.reader(iter(lines)), 0, 0, 0
    while True:
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error:
            if not header:
                return 0.0, 0
            rows += 1
            continue
        header = header or len(row)
        # A text with a newline and a delimiter in it is nearly always a quote that belongs to a text.
        swallowed = any("\n" in text and dialect.delimiter in text for text in row)
        rows, fitting = rows + 1, fitting + (len(row) == header and not swallowed)
    return (fitting / rows, header) if header > 1 else (0.0, 0)


def parse_delimiter(given: str | None) -> str | None:
    """Read a delimiter as flags have it: one character, or a word such as tab.

    Raises:
        ValueError: Anything else.
    """
    found = WORDS.get(given, given) if given else given
    if found is not None and (len(found) != 1 or re.fullmatch(r'["\r\n\0]', found)):
        raise ValueError(f"--delimiter {given}: expected one character, or one of {', '.join(WORDS)}")
    return found
