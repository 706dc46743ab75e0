"""Add negatives to prepared records: targets near to a positive's query in meaning (hard), or far from it (easy).

python dataset_scripts/prepare.py sample/train_QC.txt --task QC --output prepared.parquet
python dataset_scripts/mine_negatives.py hard prepared.parquet --task QC --output with_hard.parquet
python dataset_scripts/mine_negatives.py easy with_hard.parquet --task QC --negative_share 0.5 --output all.parquet
"""

import argparse
from typing import TYPE_CHECKING

from product_relevance.utils import console
from product_relevance.utils.one_line import errors_in_one_line
from product_relevance.utils.options import Parser, fields_except

if TYPE_CHECKING:
    from product_relevance.preparation.arguments import Step, StepArguments

FLAGS = ("task", "output", "split", "data_revision", "on_bad_rows")
FOLD_FLAGS = ("group_by", "prefix_levels", "path_separator", "level_names")


def make_parser() -> Parser:
    """Build the command line's parser."""
    from product_relevance.preparation.arguments import StepArguments

    parser = Parser(description=__doc__.split("\n")[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    hidden = fields_except(StepArguments, *FLAGS, *FOLD_FLAGS)
    for name, kind in _kinds().items():
        one = kinds.add_parser(
            name, kinds=(kind, StepArguments), without=hidden, help=kind.__doc__, description=kind.__doc__
        )
        one.set_defaults(parser=one)
        one.add_argument("file", help="records that prepare.py wrote")
    return parser


def _kinds() -> dict[str, type["Step"]]:
    from product_relevance.preparation.steps.negatives import EasyNegatives, HardNegatives

    return {"hard": HardNegatives, "easy": EasyNegatives}


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    found: argparse.Namespace = make_parser().parse_args(argv)
    console.quiet_libraries()
    with errors_in_one_line():
        step, arguments = found.parser.parse_dict(vars(found))
        mine_negatives(step, arguments, found.kind)


def mine_negatives(step: "Step", arguments: "StepArguments", kind: str) -> None:
    """Read records, find negatives for their positives, write both, and report the shares of label 0.

    Args:
        step: What finds the negatives.
        arguments: The records, how their folds were made, and the file to write.
        kind: The negatives are called so in the report.

    Raises:
        ValueError: The records are not prepared, or an option is out of its range.
    """
    from product_relevance.data.provenance import read_prepared, write_rows
    from product_relevance.text.path_format import use_form

    frame = read_prepared(arguments.source, arguments.task, arguments.on_bad_rows)
    use_form(frame, arguments.path_separator, arguments.level_names)
    made = step(frame, arguments)
    write_rows(made, arguments.output)
    shares = made.groupby("language")["label"].apply(lambda labels: (labels == 0).mean())
    print(f"{arguments.output}: {len(made)} rows, {len(made) - len(frame)} of them new {kind} negatives")
    print("label 0: " + ", ".join(f"{code} {share:.1%}" for code, share in shares.items()))


if __name__ == "__main__":
    main()
