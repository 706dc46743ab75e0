"""`relevance train`, `push`, `prepare` and others: the scripts that ship with the package; `path` says where."""

import argparse
import importlib.util
import sys

from product_relevance.cli.flags import Commands, add_command
from product_relevance.utils.shipped import NAMES, shipped_path

SCRIPTS = {
    "train": ("train_relevance.py", "fine-tune a base by a recipe, flags, or both"),
    "push": ("push_to_hub.py", "publish a run on the Hub"),
    "prepare": ("dataset_scripts/prepare.py", "add columns and folds to records, and run the steps of a data recipe"),
    "translate": ("dataset_scripts/translate.py", "translate the queries or titles of records into English"),
    "augment": ("dataset_scripts/augment.py", "add variants of queries to prepared records"),
    "mine-negatives": ("dataset_scripts/mine_negatives.py", "add hard or easy negatives to prepared records"),
    "taxonomy-pairs": ("dataset_scripts/taxonomy_pairs.py", "make QC rows for a warm start from a tree of categories"),
    "filter": ("dataset_scripts/filter.py", "list rows whose label a run's scores contradict"),
    "explore": ("dataset_scripts/explore.py", "write a report with pictures about records"),
}


def add_commands(commands: Commands) -> None:
    """Add a subcommand for each script, for the list of --help, and `path`."""
    for name, (script, text) in SCRIPTS.items():
        add_command(commands, name, run_named, f"{text}; the same as {script}")
    parser = add_command(commands, "path", print_path, "print where a script, recipe or sample file lies")
    parser.add_argument("name", help=f"as in a clone: one of {', '.join(NAMES)}, or a path below one")


def print_path(arguments: argparse.Namespace) -> None:
    """Print the path of a shipped file or folder, for launchers and for `$(relevance path ...)`."""
    print(shipped_path(arguments.name))


def run_named(arguments: argparse.Namespace) -> None:
    """Stand in for a script in the list of --help: `main` runs it before the words are parsed."""
    raise RuntimeError(f"expected `main` to run the script: {arguments}")


def run_script(name: str, words: list[str]) -> None:
    """Run the `main` of a shipped script; all words are its own.

    Args:
        name: Key of `SCRIPTS`.
        words: Arguments and flags of the script.
    """
    path = shipped_path(SCRIPTS[name][0])
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path}: no Python file")
    script = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = script  # dataclasses look up their module by name
    spec.loader.exec_module(script)
    sys.argv[0] = f"relevance {name}"  # what --help calls the program
    script.main(words)
