"""List rows whose label a run's out-of-fold scores contradict; drop, flip or down-weight them only when asked.

python dataset_scripts/filter.py runs/qc train_QC.txt --output review.parquet
relevance review review.parquet --decisions decisions.jsonl
python dataset_scripts/filter.py runs/qc train_QC.txt --output review.parquet --apply decisions.jsonl \
    --filtered filtered.parquet
"""

import argparse
from typing import TYPE_CHECKING

from product_relevance.utils import console
from product_relevance.utils.one_line import errors_in_one_line
from product_relevance.utils.options import Parser, fields_except

if TYPE_CHECKING:
    import pandas as pd

    from product_relevance.preparation.steps.filter import Filter


def make_parser() -> Parser:
    """Build the command line's parser."""
    from product_relevance.data.arguments import ColumnArguments
    from product_relevance.data.reading_arguments import add_source_flags
    from product_relevance.preparation.steps.filter import Filter

    hidden = ["run", "output", *fields_except(ColumnArguments, "on_bad_rows")]
    parser = Parser((Filter, ColumnArguments), without=hidden, description=__doc__.split("\n")[0])
    parser.set_defaults(parser=parser)
    parser.add_argument("run", help="run folder with trained folds")
    parser.add_argument("records", help="the records that the run was trained on, raw or prepared")
    add_source_flags(parser, "records")
    parser.add_argument("--output", required=True, help="review table to write (Parquet)")
    parser.add_argument("--filtered", help="with --apply: records to write (Parquet), with a column weight")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    arguments = make_parser().parse_args(argv)
    console.quiet_libraries()
    with errors_in_one_line():
        filter_rows(arguments)


def filter_rows(arguments: argparse.Namespace) -> None:
    """Read the records, list doubtful rows, write the table of them, and apply what was asked for.

    Args:
        arguments: Of the command line.

    Raises:
        ValueError: The records, the run, an option or the decisions cannot be used.
    """
    from product_relevance.data.reading_arguments import source_of
    from product_relevance.data.records import read_records
    from product_relevance.utils.files import write_table

    step, columns = arguments.parser.parse_dict(vars(arguments))
    if bool(step.apply) != bool(arguments.filtered):
        raise ValueError("--apply and --filtered go together: what to do, and the file for the result")
    source = source_of(arguments, arguments.records)
    frame = read_records(source, role="train", on_bad_rows=columns.on_bad_rows)
    scored = step.scored(frame)
    table = step.listed(scored)
    write_table(table, arguments.output)
    print(f"{len(frame):,} rows, {len(scored):,} of them with an out-of-fold score\n{_summary(table, scored)}")
    print(f"{arguments.output}: {len(table):,} rows to review")
    if step.apply:
        _write_filtered(frame, table, step, arguments.filtered)


def _summary(table: "pd.DataFrame", scored: "pd.DataFrame") -> str:
    from product_relevance.preparation.labels import label_errors

    if table.empty:
        most = label_errors.contradiction(scored).max()
        return f"no row is listed; the most contradicted one has {most:.3f} for the other label"
    counts = label_errors.count_flagged(table, scored)
    counts["share"] = counts["share"].map("{:.2%}".format)
    return counts.to_string(index=False)


def _write_filtered(frame: "pd.DataFrame", table: "pd.DataFrame", step: "Filter", path: str) -> None:
    from product_relevance.data.provenance import write_rows
    from product_relevance.preparation.labels import corrections

    made = step.decided(table)
    changed, counts = corrections.apply_decisions(frame, made)
    write_rows(changed, path)
    print(", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items()))
    undecided = len(table) - int(table["id"].astype(str).isin(made).sum())
    print(f"listed rows without a decision: {undecided:,}, kept as they are")
    print(f"positive: {frame['label'].mean():.2%} before, {changed['label'].mean():.2%} after")
    print(f"{path}: {len(changed):,} rows")


if __name__ == "__main__":
    main()
