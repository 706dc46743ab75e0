"""`relevance review`: a local page on which people decide about doubtful labels."""

import argparse

from product_relevance.cli.flags import Commands, add_bad_rows, add_command
from product_relevance.data.reading_arguments import add_source_flags, source_of


def add_commands(commands: Commands) -> None:
    """Add `review`."""
    parser = add_command(
        commands, "review", open_review, "open a local page to keep, flip or drop rows with doubtful labels"
    )
    parser.add_argument("table", help="review table of dataset_scripts/filter.py, or a run folder")
    parser.add_argument("--records", help="the records that the run was trained on; only for a run folder")
    add_source_flags(parser, "--records")
    add_bad_rows(parser, "of --records; error (default): stop; skip: put them aside as rejects")
    parser.add_argument("--decisions", default="decisions.jsonl", help="file to append to (default decisions.jsonl)")
    parser.add_argument("--by", default="reviewer", help="name of who decides; written with each decision")
    parser.add_argument("--port", type=int, help="port on 127.0.0.1 (default: the first free one from 8501 on)")


def open_review(arguments: argparse.Namespace) -> None:
    """Open the page for doubtful labels."""
    from product_relevance.preparation.labels import review_server

    options = review_server.ReviewOptions(arguments.decisions, arguments.by, arguments.port)
    records = source_of(arguments, arguments.records) if arguments.records else None
    review_server.review_labels(arguments.table, options, records, arguments.on_bad_rows)
