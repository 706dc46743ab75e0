"""Flags that several subcommands share, and what a command takes from them."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from product_relevance.data.arguments import MAX_MISSING, MISSING_HELP
from product_relevance.data.reading_arguments import add_source_flags
from product_relevance.data.sources.readers import require_source
from product_relevance.utils.options import Parser

Commands = Any  # what argparse's add_subparsers returns has no public name


def add_command(commands: Commands, name: str, run: Callable[[argparse.Namespace], None], text: str) -> Parser:
    """Add a subcommand.

    Args:
        commands: What `add_subparsers` returned.
        name: As one types it.
        run: What it does with its arguments.
        text: One line for the list of commands, and for its own help.

    Returns:
        Its parser, still without flags.
    """
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the run, as `model` and --revision."""
    parser.add_argument("model", help="run folder, downloaded folder, or Hub id")
    parser.add_argument("--revision", help="commit, tag or branch of the ensemble on the Hub")


def add_limit(parser: argparse.ArgumentParser) -> None:
    """Add --max_disagreement."""
    parser.add_argument(
        "--max_disagreement",
        type=float,
        default=0.02,
        help="how far mean weights or --dtype fp8 may move the probabilities of the canary pairs (default 0.02)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add --device and --dtype."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: a GPU if there is one)")
    parser.add_argument("--dtype", default="auto", help="precision of the base: auto, bfloat16, float32, nf4, fp8")


def add_translation(parser: argparse.ArgumentParser) -> None:
    """Add --translation and --max_missing_translations."""
    parser.add_argument("--translation", help="translations: none, column, or a table (default: as in training)")
    allowed = f"{MISSING_HELP} (default {MAX_MISSING})"
    parser.add_argument("--max_missing_translations", type=float, default=MAX_MISSING, help=allowed)


def add_records(parser: Parser, text: str) -> None:
    """Add the records as `file`, with the flags that say how they are read."""
    parser.add_argument("file", help=text)
    add_source_flags(parser, "file")


def add_bad_rows(parser: argparse.ArgumentParser, text: str) -> None:
    """Add --on_bad_rows."""
    parser.add_argument("--on_bad_rows", default="error", choices=["error", "skip"], help=text)


def reading_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return how records are read, as keyword arguments."""
    names = ("translation", "max_missing_translations", "on_bad_rows")
    return {name: getattr(arguments, name) for name in names}


def require_files(source: str, translation: str | None = None) -> None:
    """Check that files are there before a model is loaded, which takes long.

    Raises:
        ValueError: There is no such source, or no such table of translations.
    """
    require_source(source)
    if translation not in (None, "none", "column") and not Path(translation).is_file():
        raise ValueError(f"--translation {translation}: found no such file, expected none, column, or a table")
