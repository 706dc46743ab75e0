"""`relevance check`, `compare` and `zip`: the files that are handed in."""

import argparse
import json
import sys

from product_relevance.cli.flags import Commands, add_command, add_records
from product_relevance.data.reading_arguments import source_of


def add_commands(commands: Commands) -> None:
    """Add `check`, `compare` and `zip`."""
    parser = add_command(
        commands, "check", check, "check a submission against the file it answers; exit code 1 on any defect"
    )
    add_records(parser, "the competition's dev or test file")
    parser.add_argument("submission", help="submit_QC.txt or submit_QI.txt")
    parser = add_command(commands, "compare", compare, "share and examples of predictions that differ")
    parser.add_argument("a", help="submission")
    parser.add_argument("b", help="another submission of the same file")
    parser.add_argument("--examples", type=int, default=10, help="examples to show (default 10)")
    parser = add_command(commands, "zip", pack, "pack submit_QC.txt and submit_QI.txt for upload")
    parser.add_argument("files", nargs="+", help="submissions, with the names that the upload needs")
    parser.add_argument("--output", default="submit.zip", help="zip to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the zip")


def check(arguments: argparse.Namespace) -> None:
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


def compare(arguments: argparse.Namespace) -> None:
    """Show where two submissions differ."""
    from product_relevance.data.submission import compare_submissions

    found = compare_submissions(arguments.a, arguments.b, arguments.examples)
    print(f"{found['differing']} of {found['rows']} predictions differ ({found['share']:.2%})")
    for language, part in found["by_language"].items():
        print(f"  {language:<4} {part['differing']:>6} of {part['rows']:>6} ({part['share']:.2%})")
    for example in found["examples"]:
        print("  " + json.dumps(example, ensure_ascii=False))


def pack(arguments: argparse.Namespace) -> None:
    """Pack submissions for upload."""
    from product_relevance.data.submission import zip_submission

    print(zip_submission(arguments.files, arguments.output, overwrite=arguments.overwrite))
