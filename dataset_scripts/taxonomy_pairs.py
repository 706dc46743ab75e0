"""Make QC rows for a warm start from a multilingual tree of categories, without a human label.

python dataset_scripts/taxonomy_pairs.py shopify_taxonomy.tsv.xz --languages en es fr --like sample/train_QC.txt \\
    --output pairs.txt
python dataset_scripts/taxonomy_pairs.py taxonomy-with-ids.en-US.txt de=taxonomy-with-ids.de-DE.txt \\
    --languages en de --output pairs.txt
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from product_relevance.utils import console
from product_relevance.utils.one_line import errors_in_one_line
from product_relevance.utils.options import Parser

if TYPE_CHECKING:
    from product_relevance.preparation.augmentation.taxonomy_pairs import PairOptions

KINDS_OF_FILE = (".txt", ".jsonl")


def make_parser() -> Parser:
    """Build the command line's parser."""
    from product_relevance.data.reading_arguments import add_source_flags
    from product_relevance.preparation.augmentation.taxonomy_pairs import PairOptions

    parser = Parser((PairOptions,), description=__doc__.split("\n")[0])
    parser.set_defaults(parser=parser)
    tree = "the tree: a table (.csv .tsv .parquet), or a published text file; more files of other languages as fr=FILE"
    parser.add_argument("tree", nargs="+", help=tree)
    parser.add_argument("--output", required=True, help="records to write, JSON lines (.txt .jsonl)")
    parser.add_argument(
        "--path_column", help="column of the paths in a table (default: path, category_path or en_path)"
    )
    parser.add_argument("--path_separator", help="text between the levels of a path in a table (default: found)")
    add_source_flags(parser, "--like")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    found = make_parser().parse_args(argv)
    console.quiet_libraries()
    with errors_in_one_line():
        (options,) = found.parser.parse_dict(vars(found))
        write_pairs(found, options)


def write_pairs(found: argparse.Namespace, options: "PairOptions") -> None:
    """Read the tree, make the rows, write them, and report how many there are.

    Args:
        found: Of the command line: the tree, how it is read, and the file to write.
        options: Which rows are made.

    Raises:
        ValueError: The tree or the records of --like cannot be used, or the output has another ending.
    """
    from product_relevance.data.reading_arguments import source_of
    from product_relevance.data.records import read_records
    from product_relevance.preparation.augmentation.category_tree import TreeReading, read_tree
    from product_relevance.preparation.augmentation.taxonomy_pairs import PathStyle, make_pairs
    from product_relevance.utils.files import atomic_write, json_line

    if Path(found.output).suffix not in KINDS_OF_FILE:
        raise ValueError(f"--output {found.output}: expected a name that ends in {' or '.join(KINDS_OF_FILE)}")
    source, style = source_of(found, options.like or ""), options.style
    if options.like:
        style = PathStyle.from_records(read_records(source, task="QC", role="test", on_bad_rows="skip"))
    reading = TreeReading(found.path_column, found.path_separator, source.reading)
    categories = read_tree(found.tree, options.languages, reading)
    rows = make_pairs(categories, options, style)
    with atomic_write(found.output, "wb") as file:
        file.writelines(map(json_line, rows))
    labels, languages = Counter(row["label"] for row in rows), Counter(row["language"] for row in rows)
    shown = ", ".join(f"{code} {count:,}" for code, count in sorted(languages.items()))
    print(f"{found.output}: {len(rows):,} rows from {len(categories):,} categories; {shown}")
    print(f"label 1: {labels[1]:,}, label 0: {labels[0]:,}; such as {rows[0]['category_path']!r}")


if __name__ == "__main__":
    main()
