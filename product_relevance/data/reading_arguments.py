"""Arguments that say how records are read, the same for every program that reads records."""

import argparse
import codecs
from dataclasses import dataclass, fields

from product_relevance.data.sources.column_map import ColumnMap
from product_relevance.data.sources.dialects import parse_delimiter
from product_relevance.data.sources.labels import MAX_GRADES, LabelScale
from product_relevance.data.sources.options import DUPLICATES, ReadingOptions
from product_relevance.data.sources.tables import Source
from product_relevance.utils.options import Parser, option, pairs_option

COLUMNS_HELP = (
    "columns of the file by what they hold: query=search_term target=product_title label=grade language=locale "
    "id=sku; an empty name (id=) says that there is none"
)
DUPLICATES_HELP = (
    "rows of the same query and target: error where labels contradict, keep all, drop (one row if they agree, else "
    "none), majority, or the mean of the labels"
)


@dataclass(kw_only=True)
class ReadingArguments:
    """How records are read: which column holds what, how labels are written, what happens to duplicates."""

    columns: list[str] = pairs_option(COLUMNS_HELP)
    label_map: list[str] = pairs_option("the number of each label of the file: E=1,S=1,C=0,I=0")
    on_duplicates: str = option("error", DUPLICATES_HELP, [*DUPLICATES])
    encoding: str | None = option(None, "of text files; by default found: UTF-8, UTF-16 or Windows-1252")
    delimiter: str | None = option(None, "of CSV and TSV; by default found among comma, tab, semicolon and bar")

    def __post_init__(self) -> None:
        self.reading(MAX_GRADES)  # how many there are is known later

    def reading(self, grades: int = 2) -> ReadingOptions:
        """Return how records are read.

        Args:
            grades: How many labels there are.

        Raises:
            ValueError: An option cannot be used.
        """
        return ReadingOptions(
            ColumnMap.parse(self.columns),
            LabelScale.parse(self.label_map, grades),
            self.on_duplicates,
            _known_encoding(self.encoding),
            parse_delimiter(self.delimiter),
        )


def _known_encoding(name: str | None) -> str | None:
    try:
        return codecs.lookup(name).name if name else None
    except LookupError:
        raise ValueError(f"--encoding {name}: expected a name such as utf-8, windows-1254 or shift_jis") from None


def add_source_flags(parser: Parser, what: str) -> None:
    """Add the flags that say how the records are read that the argument `what` names: --split, --columns and so on."""
    parser.add_argument(
        "--split", help=f"split of {what} to read, if there are several (saved data sets, or those of the Hub)"
    )
    parser.add_argument("--data_revision", help=f"commit, tag or branch of {what} on the Hub")
    parser.add_fields(ReadingArguments)


def source_of(arguments: argparse.Namespace, name: str, grades: int = 2) -> Source:
    """Return the records `name`, read as the flags of `add_source_flags` say.

    Args:
        arguments: What the parser returned.
        name: Of a file, folder or data set.
        grades: How many labels there are; the most where the run says it later.

    Raises:
        ValueError: An option cannot be used.
    """
    given = vars(arguments)
    names = [field.name for field in fields(ReadingArguments)]
    asked = ReadingArguments(**{name: given[name] for name in names if name in given})
    return Source(name, arguments.split, arguments.data_revision, asked.reading(grades))
