"""`relevance compare`: two runs on one labelled file, or two submissions."""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from product_relevance.cli.flags import (
    Commands,
    add_bad_rows,
    add_command,
    add_device,
    add_translation,
    reading_of,
    require_files,
)
from product_relevance.data.reading_arguments import add_source_flags, source_of
from product_relevance.data.sources.labels import MAX_GRADES

if TYPE_CHECKING:
    from product_relevance.evaluation.comparison import Comparison

NOT_ENOUGH = 3  # exit code of a comparison that B does not pass; 1 is an error, 2 a wrong command line


def add_commands(commands: Commands) -> None:
    """Add `compare`."""
    text = "measure two runs on one labelled file and list the rows that changed; without a file compare submissions"
    parser = add_command(commands, "compare", compare_runs, text)
    parser.add_argument("a", help="run A, as last month's: folder or Hub id; without a file: a submission")
    parser.add_argument("b", help="run B, as this month's; without a file: another submission of the same records")
    parser.add_argument("file", nargs="?", help="labelled records")
    add_source_flags(parser, "file")
    parser.add_argument(
        "--measure", default="auc", choices=["auc", "f1", "macro_f1"], help="what decides (default auc)"
    )
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument(
        "--better_by",
        type=_margin,
        metavar="D",
        help=f"exit code {NOT_ENOUGH} unless B is surely better by D (0: any)",
    )
    asked.add_argument(
        "--no_worse_by", type=_margin, metavar="D", help=f"exit code {NOT_ENOUGH} unless B is surely no worse by D"
    )
    parser.add_argument(
        "--threshold", default="f1", help="of each run: f1 (default), macro_f1, expected_f1, or a number"
    )
    parser.add_argument("--changed", metavar="CSV", help="write the rows whose decision changed, with their texts")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print all figures as JSON only")
    parser.add_argument("--examples", type=int, default=10, help="of two submissions: examples to show (default 10)")
    add_device(parser)
    add_translation(parser)
    add_bad_rows(parser, "error (default): stop; skip: put them aside as rejects, and compare on the others")


def _margin(value: str) -> float:
    number = float(value)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"found {value}, expected a difference from 0 up to 1, as 0.005")
    return number


def compare_runs(arguments: argparse.Namespace) -> None:
    """Compare runs, or submissions where no labelled file is named."""
    if arguments.file is None:
        return _compare_submissions(arguments)
    require_files(arguments.file, arguments.translation)
    from product_relevance.ensemble.files.compare_file import compare_on_file, write_changed
    from product_relevance.ensemble.scoring_arguments import ScoringArguments
    from product_relevance.evaluation.comparison import comparison_table

    given = {"device": arguments.device, "dtype": arguments.dtype, "threshold": arguments.threshold}
    a, b = (ScoringArguments(model=name, **given, **reading_of(arguments)) for name in (arguments.a, arguments.b))
    found, changed = compare_on_file(a, b, source_of(arguments, arguments.file, MAX_GRADES))
    if arguments.changed:
        write_changed(changed, arguments.changed)
    if arguments.as_json:
        print(json.dumps(found.to_json()))
    else:
        print(f"A: {arguments.a}\nB: {arguments.b}\n\n{comparison_table(found)}")
    _exit_unless(arguments, found)


def _exit_unless(arguments: argparse.Namespace, found: "Comparison") -> None:
    if arguments.better_by is None and arguments.no_worse_by is None:
        return
    better = arguments.better_by is not None
    margin = arguments.better_by if better else -arguments.no_worse_by
    asked = f"better by more than {margin:g}" if better else f"no worse by {-margin:g}"
    passed = found.is_at_least(arguments.measure, margin)
    begins = f"the interval of B - A begins at {found.measures[arguments.measure].low:+.4f}"
    verdict = f"{arguments.measure}: B is {'' if passed else 'not '}surely {asked}: {begins}"
    print(verdict, file=sys.stderr if arguments.as_json else sys.stdout)
    if not passed:
        sys.exit(NOT_ENOUGH)


def _compare_submissions(arguments: argparse.Namespace) -> None:
    """Show where two submissions differ."""
    from product_relevance.data.submission import compare_submissions

    if arguments.better_by is not None or arguments.no_worse_by is not None or arguments.changed:
        raise ValueError("--better_by, --no_worse_by, --changed: name a labelled file too: relevance compare A B FILE")
    found = compare_submissions(arguments.a, arguments.b, arguments.examples)
    print(f"{found['differing']} of {found['rows']} predictions differ ({found['share']:.2%})")
    for language, part in found["by_language"].items():
        print(f"  {language:<4} {part['differing']:>6} of {part['rows']:>6} ({part['share']:.2%})")
    for example in found["examples"]:
        print("  " + json.dumps(example, ensure_ascii=False))
