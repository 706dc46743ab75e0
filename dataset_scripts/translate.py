"""Translate the queries or titles of records into English; train and predict take the table by --translation.

python dataset_scripts/translate.py sample/dev_QC.txt --engine llm --model embedded:gemma-3-270m \\
    --output runs/translations.parquet

What was translated is kept in the user's cache: after an interruption the same command goes on where it stopped.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from product_relevance.utils import console
from product_relevance.utils.one_line import errors_in_one_line
from product_relevance.utils.options import Parser, fields_except

if TYPE_CHECKING:
    import pandas as pd

    from product_relevance.data.translations import Translator


def make_parser() -> Parser:
    """Build the command line's parser."""
    from product_relevance.data.arguments import ColumnArguments
    from product_relevance.data.reading_arguments import add_source_flags
    from product_relevance.preparation.steps.translate import Translate

    hidden = fields_except(ColumnArguments, "lowercase")
    parser = Parser((Translate, ColumnArguments), without=hidden, description=__doc__.split("\n")[0])
    parser.set_defaults(parser=parser)
    parser.add_argument("file", help="records: .txt .jsonl .csv .tsv .parquet, folder or Hub id")
    add_source_flags(parser, "file")
    parser.add_argument(
        "--output", required=True, help="Parquet: query (for targets: text), language, translation, status"
    )
    parser.add_argument("--field", default="query", choices=["query", "target"], help="text to translate")
    parser.add_argument("--task", choices=["QC", "QI"], help="task of the file; by default what most rows name")
    parser.add_argument("--report", help="JSON to write: quality by language, with similarity by embedded:e5-small")
    parser.add_argument(
        "--reverse_model", help="model of the same engine that translates from English, for a round trip in the report"
    )
    parser.add_argument("--samples", type=int, default=0, help="texts with translations to show per language")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    arguments = make_parser().parse_args(argv)
    console.quiet_libraries()
    try:
        with errors_in_one_line():
            translate(arguments)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on where it stopped")


def translate(arguments: argparse.Namespace) -> None:
    """Read records, translate each distinct text once, write the table, and report how good it is.

    Args:
        arguments: Of the command line.

    Raises:
        ValueError: The records or the engine cannot be used.
    """
    from dataclasses import replace

    from product_relevance.preparation.translation.translator import translate_all
    from product_relevance.utils.files import atomic_write

    into_english, columns = arguments.parser.parse_dict(vars(arguments))
    translator, reverse = into_english.load(), None
    if arguments.reverse_model:  # the revision is that of the other model
        reverse = replace(into_english, model=arguments.reverse_model, revision=None).load(from_english=True)
    table = _texts(arguments, columns.lowercase)
    column = table.columns[0]
    outcomes = translate_all(translator, table[column].tolist(), table["language"].tolist())
    table["translation"] = [one.translation or text for one, text in zip(outcomes, table[column], strict=True)]
    table["status"] = [one.status for one in outcomes]
    with atomic_write(arguments.output, "wb") as file:
        table.to_parquet(file, index=False)
    _report(table, arguments, reverse)
    print(
        f"{arguments.output}: {len(table)} texts; train_relevance.py and relevance predict take them with "
        f"--translation {arguments.output}"
    )


def _texts(arguments: argparse.Namespace, lowercase: bool) -> "pd.DataFrame":
    """Return the distinct cleaned texts with their languages, in the order of the file."""
    from product_relevance.data.columns import Step, add_columns
    from product_relevance.data.reading_arguments import source_of
    from product_relevance.data.records import read_records
    from product_relevance.text.cleaning import clean_columns

    # Read as a test file, of any kind: a row without a query or without a label has texts to translate too.
    source = source_of(arguments, arguments.file)
    frame = read_records(source, task=arguments.task, role="test", on_bad_rows="skip")
    frame = add_columns(frame, [Step("clean", clean_columns, {"lowercase": lowercase})])
    if arguments.field == "query":
        table = frame[["query", "language"]]
    else:  # a row's language is the query's: a title counts as English unless it clearly is not
        table = frame[["clean_target"]].rename(columns={"clean_target": "text"}).assign(language="en")
    return table[table.iloc[:, 0] != ""].drop_duplicates(ignore_index=True)


def _report(table: "pd.DataFrame", arguments: argparse.Namespace, reverse: "Translator | None") -> None:
    from product_relevance.preparation.translation import quality
    from product_relevance.utils.run_folder import write_json

    encode = None
    if arguments.report:
        from product_relevance.models.sentence_encoder import load_encoder

        encode = load_encoder()
    report = quality.measure_quality(table, encode, reverse if encode else None, arguments.samples)
    if arguments.report:
        write_json(arguments.report, report)
    print(quality.render_quality(report))


if __name__ == "__main__":
    main()
