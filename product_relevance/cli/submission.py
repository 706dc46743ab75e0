"""`relevance check` and `zip`: the files that are handed in."""

import argparse
import sys

from product_relevance.cli.flags import Commands, add_command, add_records
from product_relevance.data.reading_arguments import source_of


def add_commands(commands: Commands) -> None:
    """Add `check` and `zip`."""
    parser = add_command(
        commands, "check", print_defects, "check a submission against the file it answers; exit code 1 on any defect"
    )
    add_records(parser, "the competition's dev or test file")
    parser.add_argument("submission", help="submit_QC.txt or submit_QI.txt")
    parser = add_command(commands, "zip", zip_files, "pack submit_QC.txt and submit_QI.txt for upload")
    parser.add_argument("files", nargs="+", help="submissions, with the names that the upload needs")
    parser.add_argument("--output", default="submit.zip", help="zip to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the zip")


def print_defects(arguments: argparse.Namespace) -> None:
    """Check a submission; exit code 1 on any defect."""
    from product_relevance.data.sources.defects import SHOWN_DEFECTS
    from product_relevance.data.submission import check_submission

    defects = check_submission(source_of(arguments, arguments.file), arguments.submission)
    for defect in defects[:SHOWN_DEFECTS]:
        print(defect)
    if defects:
        first = f", of which the first {SHOWN_DEFECTS} are above" if len(defects) > SHOWN_DEFECTS else ""
        sys.exit(f"{arguments.submission}: {len(defects):,} defects{first}")
    print(f"{arguments.submission}: passed")


def zip_files(arguments: argparse.Namespace) -> None:
    """Pack submissions for upload."""
    from product_relevance.data.submission import zip_submission

    print(zip_submission(arguments.files, arguments.output, overwrite=arguments.overwrite))
