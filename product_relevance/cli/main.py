"""The console command: `relevance train | predict | evaluate | decide | stack | export | serve | review | ...`."""

import sys

from product_relevance.cli import (
    comparison,
    decision,
    demonstration,
    info,
    inspection,
    ranking,
    review,
    scoring,
    scripts,
    serving,
    submission,
)
from product_relevance.utils import console
from product_relevance.utils.one_line import errors_in_one_line
from product_relevance.utils.options import Parser

GROUPS = (
    *(scripts, scoring, ranking, comparison, decision, serving, demonstration),
    *(submission, review, info, inspection),
)


def main(argv: list[str] | None = None) -> None:
    """Run one subcommand; bad input ends with one clear line and exit code 1.

    Args:
        argv: Command line without the program's name; `sys.argv[1:]` when None.
    """
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in scripts.SCRIPTS:
        return scripts.run_script(words[0], words[1:])
    arguments = make_parser().parse_args(words)
    console.quiet_libraries()
    try:
        with errors_in_one_line():
            arguments.run(arguments)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on where it stopped")


def make_parser() -> Parser:
    """Build the parser; nothing heavy is imported, so --help is instant."""
    parser = Parser(prog="relevance", description="Multilingual product-search relevance.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in GROUPS:
        group.add_commands(commands)
    return parser


if __name__ == "__main__":
    main()
