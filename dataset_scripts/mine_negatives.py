"""Add negatives to prepared records: targets near to a positive's query in meaning (hard), or far from it (easy).

python dataset_scripts/prepare.py sample/train_QC.txt --task QC --output prepared.parquet
python dataset_scripts/mine_negatives.py hard prepared.parquet --task QC --output with_hard.parquet
python dataset_scripts/mine_negatives.py easy with_hard.parquet --task QC --negative_share 0.5 --output all.parquet
"""

from product_relevance.utils import console
from product_relevance.utils.one_line import errors_in_one_line
from product_relevance.utils.options import Parser, add_source_flags


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__.split("\n")[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    for name, kind in _kinds().items():
        one = kinds.add_parser(name, kinds=(kind,), help=kind.__doc__, description=kind.__doc__)
        one.set_defaults(parser=one)
        one.add_argument("file", help="records that prepare.py wrote")
        one.add_argument("--task", required=True, choices=["QC", "QI"], help="task of the records")
        one.add_argument("--output", required=True, help="Parquet to write: the records, then the negatives")
        add_source_flags(one, "file")
        one.add_argument("--on_bad_rows", default="error", choices=["error", "skip"], help="as in prepare.py")
        one.add_argument(
            "--group_by", default="query", choices=["query", "prefix", "query+prefix"], help="as in prepare.py"
        )
        one.add_argument("--prefix_levels", type=int, default=2, help="as in prepare.py")
        one.add_argument("--path_separator", default="auto", help="as in prepare.py")
        one.add_argument("--level_names", help="as in prepare.py")
    return parser


def _kinds() -> dict[str, type]:
    from product_relevance.preparation.steps import EasyNegatives, HardNegatives

    return {"hard": HardNegatives, "easy": EasyNegatives}


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    arguments = make_parser().parse_args(argv)
    console.quiet_libraries()
    with errors_in_one_line():
        mine(arguments)


def mine(arguments) -> None:
    """Read, mine, write, report.

    Raises:
        ValueError: records that are not prepared, or an option out of its range.
    """
    from product_relevance.data.provenance import read_prepared, write_rows
    from product_relevance.data.sources.tables import Source
    from product_relevance.text.path_format import use_form

    (step,) = arguments.parser.parse_dict(vars(arguments))
    source = Source(arguments.file, arguments.split, arguments.data_revision)
    frame = read_prepared(source, arguments.task, arguments.on_bad_rows)
    use_form(frame, arguments.path_separator, arguments.level_names)
    made = step(frame, arguments)
    write_rows(made, arguments.output)
    shares = made.groupby("language")["label"].apply(lambda labels: (labels == 0).mean())
    print(f"{arguments.output}: {len(made)} rows, {len(made) - len(frame)} of them new {arguments.kind} negatives")
    print("label 0: " + ", ".join(f"{code} {share:.1%}" for code, share in shares.items()))


if __name__ == "__main__":
    main()
