"""Add variants of queries to prepared records: in other languages, translated there and back, or with noise.

python dataset_scripts/prepare.py sample/train_QC.txt --task QC --output prepared.parquet
python dataset_scripts/augment.py noise prepared.parquet --task QC --rate 0.1 --output noisy.parquet
python dataset_scripts/augment.py languages prepared.parquet --task QC --like sample/dev_QC.txt --share 0.1 \\
    --engine table --model translations.csv --output languages.parquet
"""

import argparse
from typing import TYPE_CHECKING

from product_relevance.utils import console
from product_relevance.utils.one_line import errors_in_one_line
from product_relevance.utils.options import Parser, fields_except

if TYPE_CHECKING:
    from product_relevance.preparation.arguments import Step, StepArguments


def make_parser() -> Parser:
    """Build the command line's parser."""
    from product_relevance.preparation.arguments import StepArguments

    parser = Parser(description=__doc__.split("\n")[0])
    methods = parser.add_subparsers(dest="method", required=True)
    hidden = fields_except(StepArguments, "task", "output", "split", "data_revision", "on_bad_rows", "lowercase")
    for name, kind in _kinds().items():
        one = methods.add_parser(
            name, kinds=(kind, StepArguments), without=hidden, help=kind.__doc__, description=kind.__doc__
        )
        one.set_defaults(parser=one)
        one.add_argument("file", help="records that prepare.py wrote")
    return parser


def _kinds() -> dict[str, type["Step"]]:
    from product_relevance.preparation.steps.noise import Noise
    from product_relevance.preparation.steps.translated_rows import Back, Languages

    return {"languages": Languages, "back": Back, "noise": Noise}


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    found: argparse.Namespace = make_parser().parse_args(argv)
    console.quiet_libraries()
    with errors_in_one_line():
        augment(*found.parser.parse_dict(vars(found)))


def augment(step: "Step", arguments: "StepArguments") -> None:
    """Read records, make their variants, write both, and report how many there are.

    Args:
        step: What makes the variants.
        arguments: The records and the file to write.

    Raises:
        ValueError: The records are not prepared, an option is out of its range, or an engine cannot be used.
    """
    from product_relevance.data.provenance import read_prepared, write_rows

    made = step(read_prepared(arguments.source, arguments.task, arguments.on_bad_rows), arguments)
    write_rows(made, arguments.output)
    counts = ", ".join(f"{n} {what}" for found in made.attrs["made"].values() for what, n in found.items())
    print(f"{arguments.output}: {len(made)} rows; new: {counts}")


if __name__ == "__main__":
    main()
