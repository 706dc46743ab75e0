"""Add variants of queries to prepared records: in other languages, translated there and back, or with noise.

python dataset_scripts/prepare.py sample/train_QC.txt --task QC --output prepared.parquet
python dataset_scripts/augment.py noise prepared.parquet --task QC --rate 0.1 --output noisy.parquet
python dataset_scripts/augment.py languages prepared.parquet --task QC --like sample/dev_QC.txt --share 0.1 \\
    --engine table --model translations.csv --output languages.parquet
"""

from product_relevance.utils import console
from product_relevance.utils.one_line import errors_in_one_line
from product_relevance.utils.options import Parser, add_source_flags


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__.split("\n")[0])
    methods = parser.add_subparsers(dest="method", required=True)
    for name, kind in _kinds().items():
        one = methods.add_parser(name, kinds=(kind,), help=kind.__doc__, description=kind.__doc__)
        one.set_defaults(parser=one)
        one.add_argument("file", help="records that prepare.py wrote")
        one.add_argument("--task", required=True, choices=["QC", "QI"], help="task of the records")
        one.add_argument("--output", required=True, help="Parquet to write: the records, then the variants")
        add_source_flags(one, "file")
        one.add_argument("--on_bad_rows", default="error", choices=["error", "skip"], help="as in prepare.py")
        one.add_argument("--lowercase", action="store_true", help="as in prepare.py")
    return parser


def _kinds() -> dict[str, type]:
    from product_relevance.preparation.steps import Back, Languages, Noise

    return {"languages": Languages, "back": Back, "noise": Noise}


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    arguments = make_parser().parse_args(argv)
    console.quiet_libraries()
    with errors_in_one_line():
        augment(arguments)


def augment(arguments) -> None:
    """Read, make variants, write, report.

    Raises:
        ValueError: records that are not prepared, an option out of its range, or an engine that cannot be used.
    """
    from product_relevance.data.provenance import read_prepared, write_rows
    from product_relevance.data.sources.tables import Source

    (step,) = arguments.parser.parse_dict(vars(arguments))
    source = Source(arguments.file, arguments.split, arguments.data_revision)
    made = step(read_prepared(source, arguments.task, arguments.on_bad_rows), arguments)
    write_rows(made, arguments.output)
    counts = ", ".join(f"{n} {what}" for found in made.attrs["made"].values() for what, n in found.items())
    print(f"{arguments.output}: {len(made)} rows; new: {counts}")


if __name__ == "__main__":
    main()
