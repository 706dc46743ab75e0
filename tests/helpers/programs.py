"""Every program with its real parser: the flags that it knows, and the function that it begins with."""

import argparse
import importlib
import sys
from functools import cache

from product_relevance.cli import main
from product_relevance.cli.scripts import SCRIPTS
from tests.conftest import ROOT


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    """All flags of a parser and of its subcommands."""
    found = set()
    for action in parser._actions:
        found |= {word for word in action.option_strings if word.startswith("--")}
        if isinstance(action, argparse._SubParsersAction):
            found = found.union(*map(flags_of, action.choices.values()))
    return found


def subcommands() -> dict[str, argparse.ArgumentParser]:
    """The parsers of `relevance predict` and the others, without the scripts: these have parsers of their own."""
    (found,) = (a for a in main.make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return {name: parser for name, parser in found.choices.items() if name not in SCRIPTS}


def scripts(folder: str) -> list[str]:
    """Names of the scripts with a parser in a folder."""
    return [path.stem for path in sorted((ROOT / folder).glob("*.py")) if "def make_parser" in path.read_text("utf-8")]


def module_of(folder: str, name: str):
    """Import a script as Python does that runs it: with its folder first on the path."""
    if (place := str(ROOT / folder)) not in sys.path:
        sys.path.insert(0, place)
    return importlib.import_module(name)


@cache
def programs() -> dict[str, tuple[set[str], tuple[str, str]]]:
    """Name as one types it, to its flags and (module, function) that runs."""
    from transformers import TrainingArguments

    import push_to_hub
    from product_relevance.training.arguments import KINDS
    from product_relevance.utils.options import Parser

    trained = flags_of(Parser((*KINDS, TrainingArguments)))
    found = {
        "train_relevance.py": (trained | {"--help_all"}, ("train_relevance", "main")),
        "push_to_hub.py": (flags_of(push_to_hub.make_parser()), ("push_to_hub", "main")),
    }
    for name, parser in subcommands().items():
        run = parser.get_default("run")
        found[f"relevance {name}"] = (flags_of(parser), (run.__module__, run.__name__))
    for folder in ("dataset_scripts", "benchmarks/speed", "benchmarks/ablation"):
        for name in scripts(folder):
            flags = flags_of(module_of(folder, name).make_parser())
            found[f"{name}.py"] = (flags, (f"{folder.replace('/', '.')}.{name}", "main"))
    return found
