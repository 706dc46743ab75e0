"""Dataclasses of options as flags of a program and as keys of a recipe, read by transformers' HfArgumentParser."""

import argparse
import importlib.util
import json
import re
import sys
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from dataclasses import field as dataclass_field
from typing import Any, NoReturn

from product_relevance.utils.other_names import require_known, suggest_name

PAIRS = "NAME=VALUE"  # what --help shows of a field whose value in a recipe is a mapping
TRUTHS = {"yes", "true", "t", "y", "1", "no", "false", "f", "n", "0"}  # words that HfArgumentParser takes for a bool


def _hf_argument_parser() -> Any:
    """Load transformers' HfArgumentParser from its file alone.

    The file needs nothing else of transformers, whose import takes half a second: too long for an answer to --help.
    """
    package = importlib.util.find_spec("transformers")
    folders = package.submodule_search_locations if package else None
    spec = importlib.util.spec_from_file_location("hf_argparser", f"{folders[0]}/hf_argparser.py") if folders else None
    if spec is None or spec.loader is None:
        raise ImportError("found no package transformers, expected it beside this one: pip install transformers")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.HfArgumentParser


if typing.TYPE_CHECKING:
    from transformers import HfArgumentParser
else:
    HfArgumentParser = _hf_argument_parser()


class Parser(HfArgumentParser):
    """HfArgumentParser whose lists take commas as well as spaces, and that answers an unknown flag with the nearest.

    A namespace holds only those fields of the dataclasses that were given: the dataclasses know their defaults.
    Dashes may stand for underscores, and a flag of a truth value may stand alone before an argument without a flag.

    Args:
        kinds: Dataclasses of ours and of transformers; more arguments may be added as to any parser.
        without: Fields that are no flags.
        **options: Of argparse.ArgumentParser.
    """

    def __init__(self, kinds: Collection[type] = (), without: Collection[str] = (), **options: Any) -> None:
        self.without, self.first = without, own_names(kinds)
        dataclass_types: list[Any] = list(kinds)
        super().__init__(dataclass_types, **{"formatter_class": argparse.HelpFormatter} | options)
        for group in self._action_groups:
            group._group_actions.sort(key=lambda action: not action.required and action.dest != "help")
        names = {field.name for kind in kinds for field in fields(kind)}
        for action in (action for action in self._actions if action.dest in names):
            action.required = False  # a recipe may have it; `parse_dict` asks for it

    def add_fields(self, kind: Any) -> None:
        """Add the fields of a dataclass as flags, those left out so far; `parse_dict` makes no object of them."""
        self.without = [name for name in self.without if name not in {field.name for field in fields(kind)}]
        self._add_dataclass_arguments(kind)

    # There it is a static method, which knows no fields to leave out.
    def _parse_dataclass_field(self, parser: argparse.ArgumentParser, field: Field[Any]) -> None:  # type: ignore[override]
        if field.name in self.without or "help" not in field.metadata:
            return
        super()._parse_dataclass_field(parser, field)
        for action in (action for action in self._actions if action.dest == field.name):
            *_, alias = action.option_strings
            if alias != action.option_strings[0]:  # `_checked` takes dashes in every name
                action.option_strings = action.option_strings[:-1]
                del self._option_string_actions[alias]
            if typing.get_origin(action.type) is tuple:
                action.type, action.nargs = typing.get_args(action.type)[0], len(typing.get_args(action.type))
            if action.nargs == "+" or field.name == "report_to":  # a list or one string, which is all that is read
                action.nargs = "*"
            action.default, action.help = argparse.SUPPRESS, f"{action.help}{_default_of(field)}"

    def parse_known_args(  # type: ignore[override]  # argparse overloads it by the kind of namespace
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse words as argparse does, with lists split and unknown flags refused."""
        words = list(sys.argv[1:] if args is None else args)
        if self._subparsers is not None:  # the flags are those of a subcommand
            return super().parse_known_args(words, namespace)
        return super().parse_known_args(self._checked(words), namespace)

    def parse_dict(self, args: Mapping[str, object], allow_extra_keys: bool = True) -> tuple[Any, ...]:
        """Make the dataclasses of names to values of the fields' types.

        Raises:
            ValueError: A field without a default is missing, or a value out of its range.
        """
        for kind in self.dataclass_types:
            needed = [field.name for field in fields(kind) if field.default is field.default_factory is MISSING]
            if missing := [name for name in needed if name not in args]:
                place = f"{self.prog}: found no {', '.join(missing)}"
                raise ValueError(f"{place}, expected each of {', '.join(needed)}")
        return super().parse_dict(dict(args), allow_extra_keys)

    def _checked(self, words: list[str]) -> list[str]:
        checked: list[str] = []
        listed = False
        for place, word in enumerate(words):
            if word == "--":
                return checked + words[place:]
            if not word.startswith("--"):
                checked += split_list(word, ",") if listed else [word]
                continue
            name, given, value = word.partition("=")
            action, name = self._action(name)
            numbers = isinstance(action.nargs, int) and action.type in (int, float)
            listed = numbers or action.nargs in ("*", "+")
            following = [word.lower() for word in words[place + 1 : place + 2]]
            if action.nargs == "?" and action.const is True and not given and TRUTHS.isdisjoint(following):
                checked.append(f"{name}=true")  # else what follows without a flag would be its value
            elif listed and given:
                checked += [name, *([value] if value.startswith("{") else split_list(value, ","))]
            else:
                checked.append(f"{name}{given}{value}")
        return checked

    def _action(self, flag: str) -> tuple[argparse.Action, str]:
        """Return what belongs to a flag, which may be cut short where the parser allows that, and its name."""
        known = self._option_string_actions
        name = flag if flag in known else f"--{flag[2:].replace('-', '_')}"
        begun = [name] if name in known or not self.allow_abbrev else [one for one in known if one.startswith(name)]
        if not begun or begun[0] not in known:
            names = {one.lstrip("-").replace("-", "_") for one in known if one.startswith("--")}
            self.error(f"unknown flag {flag}{suggest_name(flag.lstrip('-'), names, self.first, '--')}")
        return known[begun[0]], name


class RaisingParser(Parser):
    """Parser whose errors are ValueErrors: for programs that say more about them, and for recipes."""

    def error(self, message: str) -> NoReturn:
        """Raise ValueError with the message."""
        raise ValueError(message)


def read_options(
    kinds: Collection[type], options: Mapping[str, object], where: str, what: str = "name"
) -> dict[str, object]:
    """Check the names and types of a recipe's options; `parse_dict` takes what is returned.

    Args:
        kinds: Dataclasses that have them as fields.
        options: Names to values, as YAML has them.
        where: For error messages.
        what: A name is called so in error messages.

    Returns:
        Names to values of the fields' types, without options that are null.

    Raises:
        ValueError: An unknown name (with the nearest known one), or a value of another type.
    """
    if not isinstance(options, dict):
        raise ValueError(f"{where}: found {options!r}, expected a mapping of options to values")
    known = {field.name: field for kind in kinds for field in fields(kind) if field.init}
    parser, words = RaisingParser(kinds, prog=where, add_help=False, allow_abbrev=False), []
    for name, value in options.items():
        require_known(name, known, where, what, parser.first)
        _require_no_truth_value(known[name], value, where)
        if isinstance(value, dict) and name in parser.first and known[name].metadata.get("metavar") != PAIRS:
            raise ValueError(f"{where}: {name}: found a mapping, expected a value or a list")
        words += as_flag(name, split_list(value) if is_list(known[name]) and isinstance(value, str) else value)
    try:
        return vars(parser.parse_args(words))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def as_flag(name: str, value: object) -> list[str]:
    """Write a value of a recipe as words of a command line; none for null."""
    if value is None:
        return []
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    return [f"--{name}={json.dumps(value) if isinstance(value, dict) else value}"]


def own_names(kinds: Iterable[type]) -> list[str]:
    """Return the fields of those dataclasses that are no library's."""
    return [field.name for kind in kinds if not kind.__module__.startswith("transformers.") for field in fields(kind)]


def fields_except(kind: type, *kept: str) -> list[str]:
    """Return the fields of a dataclass other than those kept: a parser without them has the flags of those alone."""
    return [field.name for field in fields(kind) if field.name not in kept]


def split_list(text: str, separators: str = r",\s") -> list[str]:
    """Split what a user wrote as a list; a text without a separator stays whole."""
    parts = re.split(f"[{separators}]", text)
    return [part.strip() for part in parts if part.strip()] if len(parts) > 1 else parts


def is_list(field: Field[Any]) -> bool:
    """Return whether a field takes a list."""
    return any(typing.get_origin(kind) is list for kind in (field.type, *typing.get_args(field.type)))


def option(default: Any, help: str, choices: list[str] | None = None) -> Any:
    """Make a dataclass field with a default, for HfArgumentParser."""
    metadata = {"help": help} | ({"choices": choices} if choices else {})
    if isinstance(default, list):
        return dataclass_field(default_factory=lambda: list(default), metadata=metadata)
    return dataclass_field(default=default, metadata=metadata)


def pairs_option(help: str) -> Any:
    """Make a dataclass field of NAME=VALUE pairs, which a recipe has as a mapping; the words of one are its JSON."""
    return dataclass_field(default_factory=list, metadata={"help": help, "metavar": PAIRS})


def required(help: str, choices: list[str] | None = None) -> Any:
    """Make a dataclass field that has to be given, for HfArgumentParser."""
    return dataclass_field(metadata={"help": help} | ({"choices": choices} if choices else {}))


def _require_no_truth_value(field: Field[Any], value: object, where: str) -> None:
    """Raise ValueError at a truth value where a field has none: YAML reads no, off, yes, on without quotes as one.

    Raises:
        ValueError: There is one, such as the language `no`.
    """
    if "bool" in str(field.type):
        return
    parts = value if isinstance(value, list | dict) else [value]
    for part in [*parts, *parts.values()] if isinstance(parts, dict) else parts:
        if isinstance(part, bool):
            words = "'yes' or 'on'" if part else "'no' or 'off'"
            raise ValueError(
                f"{where}: {field.name}: found {part}, expected a text or a number; YAML reads {words} without "
                "quotes as a truth value: write it in quotes, or leave the key out"
            )


def _default_of(field: Field[Any]) -> str:
    """Return the end of a line of help."""
    default = field.default if field.default_factory is MISSING else field.default_factory()
    if default is MISSING:
        return " (required)"
    shown = " ".join(default) if isinstance(default, list) else default
    return "" if shown in (None, False, "") else f" (default {shown})".replace("%", "%%")
