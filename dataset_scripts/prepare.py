"""Add columns and folds to a file of records, run the steps of a recipe, and write Parquet for train_relevance.py.

python dataset_scripts/prepare.py sample/train_QC.txt --task QC --output prepared.parquet
python dataset_scripts/prepare.py recipes/data/noise-and-easy-qc.yaml
python dataset_scripts/prepare.py recipes/data/third-team-qc.yaml train_QC.txt --output qc.parquet

Each finished step is kept in OUTPUT.parts: after an interruption the same command goes on where it stopped.
"""

import argparse
import sys

from product_relevance.utils import console
from product_relevance.utils.one_line import errors_in_one_line
from product_relevance.utils.options import Parser


def make_parser() -> Parser:
    """Build the command line's parser."""
    from product_relevance.preparation.arguments import PreparationArguments

    parser = Parser(
        (PreparationArguments,),
        without=("file",),
        description=__doc__.split("\n")[0],
        usage="%(prog)s [RECIPE] [FILE] [--flag value ...]",
        epilog="RECIPE, a .yaml file or a shipped name, has these flags and steps: docs/how-to/prepare-data.md",
    )
    records = "records: .txt .jsonl .csv .tsv .parquet, folder or Hub id"
    parser.add_argument("file", nargs="?", default=argparse.SUPPRESS, help=records)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    from product_relevance.preparation.pipeline import prepare, read_arguments

    console.quiet_libraries()
    try:
        with errors_in_one_line():
            arguments = read_arguments(list(sys.argv[1:] if argv is None else argv), make_parser())
            if arguments.shards:
                from product_relevance.sharding.jobs import prepare_shards

                return print(prepare_shards(arguments))
            prepare(arguments)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on where it stopped")


if __name__ == "__main__":
    main()
