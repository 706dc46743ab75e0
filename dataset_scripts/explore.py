"""Write one HTML report with pictures about files of records: languages, labels, lengths, words, drift, noise.

python dataset_scripts/explore.py train_QC.txt dev_QC.txt --output report
"""

import argparse
from typing import TYPE_CHECKING

from product_relevance.utils import console
from product_relevance.utils.one_line import errors_in_one_line
from product_relevance.utils.options import Parser, fields_except

if TYPE_CHECKING:
    import pandas as pd

    from product_relevance.data.arguments import FoldArguments


def make_parser() -> Parser:
    """Build the command line's parser."""
    from product_relevance.data.arguments import FoldArguments
    from product_relevance.data.reading_arguments import add_source_flags

    hidden = fields_except(FoldArguments, "path_separator", "level_names")
    parser = Parser((FoldArguments,), without=hidden, description=__doc__.split("\n")[0])
    parser.set_defaults(parser=parser)
    parser.add_argument("files", nargs="+", help="records; the others of a task are compared with its first file")
    add_source_flags(parser, "files")
    parser.add_argument("--output", required=True, help="folder for report.html and figures/")
    parser.add_argument("--language_fix", default="identify", choices=["none", "identify"], help="as in prepare.py")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    arguments = make_parser().parse_args(argv)
    console.quiet_libraries()
    with errors_in_one_line():
        explore_files(arguments, *arguments.parser.parse_dict(vars(arguments)))


def explore_files(arguments: argparse.Namespace, paths: "FoldArguments") -> None:
    """Read the files and write the report, one task at a time.

    Args:
        arguments: Of the command line.
        paths: How category paths are divided into levels.

    Raises:
        ValueError: A file cannot be read at all.
    """
    from pathlib import Path

    from product_relevance.data import loading
    from product_relevance.data.reading_arguments import source_of
    from product_relevance.data.records import read_records
    from product_relevance.preparation.exploration import report, statistics
    from product_relevance.text.path_format import use_form

    folder = Path(arguments.output)
    tasks: dict[str, dict[str, pd.DataFrame]] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(arguments.files):
        rejects = folder / f"{Path(file).stem}.rejects.jsonl"
        source = source_of(arguments, file)
        frame = read_records(source, role="any", on_bad_rows="skip", rejects_path=rejects)
        print(f"{file}: {len(frame):,} rows, {frame.attrs['rejected']:,} left out")
        use_form(frame, paths.path_separator, paths.level_names)
        frame = statistics.add_measures(loading.add_all_columns(frame, False, arguments.language_fix, "none"))
        files = tasks.setdefault(frame.attrs["task"], {})
        name = Path(file).name
        files[name if name not in files else f"{name} ({number + 1})"] = frame
    print(f"{report.write_report(folder, tasks)}: written, pictures in {folder / 'figures'}")


if __name__ == "__main__":
    main()
