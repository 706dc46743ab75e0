"""Dataclasses of options as flags of a program and as mappings of a recipe, both through one parser."""

import argparse
import difflib
import re
import sys
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, fields
from dataclasses import field as dataclass_field

from product_relevance.utils.other_names import explained

CLOSE = 0.6  # likeness from which a name counts as a misspelling, as difflib has it
OURS_FIRST = 0.1  # likeness that one of our names has ahead of one of the Trainer's


class Helpful:
    """Mixin of parsers: lists take commas as well as spaces, and an unknown flag is answered with the nearest one."""

    first: Collection[str] = ()  # names that come first among the near ones

    def parse_known_args(self, args=None, namespace=None):
        """Parse words as argparse does, with lists split and unknown flags refused."""
        words = list(sys.argv[1:] if args is None else args)
        if self._subparsers is not None:  # the flags are those of a subcommand
            return super().parse_known_args(words, namespace)
        return super().parse_known_args(self._checked(words), namespace)

    def _checked(self, words: list[str]) -> list[str]:
        checked, listed = [], False
        for place, word in enumerate(words):
            if word == "--":
                return checked + words[place:]
            if not word.startswith("--"):
                checked += split_list(word, ",") if listed else [word]
                continue
            name, given, value = word.partition("=")
            action = self._action(name)
            numbers = isinstance(action.nargs, int) and action.type in (int, float)
            listed = numbers or action.nargs in ("*", "+")
            checked += [name, *split_list(value, ",")] if listed and given else [word]
        return checked

    def _action(self, flag: str) -> argparse.Action:
        """Return what belongs to a flag, which may be cut short where the parser allows that."""
        known = self._option_string_actions
        begun = [flag] if flag in known or not self.allow_abbrev else [name for name in known if name.startswith(flag)]
        if not begun or begun[0] not in known:
            names = {name.lstrip("-").replace("-", "_") for name in known if name.startswith("--")}
            self.error(f"unknown flag {flag}{hint(flag.lstrip('-'), names, self.first, '--')}")
        return known[begun[0]]


class Parser(Helpful, argparse.ArgumentParser):
    """Parser of a program's flags."""


class _Parser(Parser):
    def error(self, message: str):
        raise ValueError(f"{self.prog}: {message}")


def dataclass_parser(kinds: tuple[type, ...], **options):
    """Return an HfArgumentParser of dataclasses; our fields come first as suggestions, and bad flags are ValueErrors.

    Args:
        kinds: Dataclasses of ours and of transformers.
        **options: Of argparse.ArgumentParser.
    """
    from transformers import HfArgumentParser

    class DataclassParser(Helpful, HfArgumentParser):
        first = own_names(kinds)

        def error(self, message: str):
            raise ValueError(message)

    parser = DataclassParser(kinds, allow_abbrev=False, **options)
    for action in parser._actions:
        if action.dest == "report_to":  # a list or one string, of which HfArgumentParser reads the latter only
            action.nargs = "+"
    return parser


def own_names(kinds: Iterable[type]) -> list[str]:
    """Return the fields of those dataclasses that are no library's."""
    return [field.name for kind in kinds if not kind.__module__.startswith("transformers.") for field in fields(kind)]


def split_list(text: str, separators: str = r",\s") -> list[str]:
    """Split what a user wrote as a list; a text without a separator stays whole."""
    parts = re.split(f"[{separators}]", text)
    return [part.strip() for part in parts if part.strip()] if len(parts) > 1 else parts


def is_list(field) -> bool:
    """Tell whether a field takes a list."""
    return any(typing.get_origin(kind) is list for kind in (field.type, *typing.get_args(field.type)))


def add_flags(parser: argparse.ArgumentParser, kind: type, without: Collection[str] = ()) -> None:
    """Add a flag for each field of a dataclass that has a help text; one that is not given is left to the dataclass.

    Args:
        parser: Of a program.
        kind: Dataclass with fields from `arguments.option`: bool, a plain type, a list, a tuple of fixed length, or
            one of these or None.
        without: Fields that are no flags.
    """
    for field in (field for field in fields(kind) if "help" in field.metadata and field.name not in without):
        options = {"help": _help(field), "default": argparse.SUPPRESS}
        parser.add_argument(f"--{field.name}", **options, **_form(field))


def add_source_flags(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the flags --split and --data_revision, which belong to the records that the argument `what` names."""
    parser.add_argument("--split", help=f"of {what}, if it has several: a saved data set, or one of the Hub")
    parser.add_argument("--data_revision", help=f"commit, tag or branch of {what} on the Hub")


def build(kind: type, values: Mapping[str, object], where: str):
    """Make a dataclass of what a program's parser or `parse` gave; other names are left out.

    Raises:
        ValueError: A required field is missing, or a value out of its range.
    """
    found = {field.name: values[field.name] for field in fields(kind) if field.name in values}
    needed = [field.name for field in fields(kind) if field.default is field.default_factory is MISSING]
    if missing := [name for name in needed if name not in found]:
        raise ValueError(f"{where}: found no {', '.join(missing)}, expected each of {', '.join(needed)}")
    return kind(**found)


def parse(kind: type, options: Mapping[str, object], where: str) -> dict[str, object]:
    """Check the names and types of a recipe's options.

    Args:
        kind: Dataclass that has them as fields.
        options: Names to values, as YAML has them.
        where: For error messages.

    Returns:
        Names to values of the field's types, without options that are null.

    Raises:
        ValueError: An unknown name (with the nearest known one), or a value of another type.
    """
    if not isinstance(options, dict):
        raise ValueError(f"{where}: found {options!r}, expected a mapping of options to values")
    known = [field.name for field in fields(kind)]
    for name in options:
        require_known(name, known, where)
    require_no_truth_values(kind, options, where)
    parser = _Parser(prog=where, add_help=False, allow_abbrev=False)
    add_flags(parser, kind)
    options = with_lists(options, (kind,))
    return vars(parser.parse_args([word for name, value in options.items() for word in _words(name, value, where)]))


def with_lists(options: Mapping[str, object], kinds: Iterable[type]) -> dict[str, object]:
    """Split the texts of a recipe that stand for lists, at commas and spaces."""
    lists = {field.name for kind in kinds for field in fields(kind) if is_list(field)}
    return {
        name: split_list(value) if name in lists and isinstance(value, str) else value
        for name, value in options.items()
    }


def require_known(
    name: object, known: Iterable[str], where: str, what: str = "name", first: Collection[str] = ()
) -> None:
    """Refuse an unknown name and tell the nearest known one, of those in `first` rather than of the others.

    Raises:
        ValueError: It is unknown.
    """
    known = list(known)
    if name not in known:
        raise ValueError(f"{where}: unknown {what} {name!r}{hint(str(name), known, first)}")


def hint(name: str, known: Collection[str], first: Collection[str] = (), dash: str = "") -> str:
    """Say what an unknown name may mean: a name of another tool, or a misspelt one; "" where nothing is near."""
    name = name.replace("-", "_")
    if told := explained(name, known, dash):
        return f"; {told}"

    def likeness(other: str) -> float:
        return difflib.SequenceMatcher(None, other, name).ratio()

    near = [other for other in sorted(known) if likeness(other) >= CLOSE]
    best = max(near, key=lambda other: likeness(other) + OURS_FIRST * (other in first), default=None)
    return f"; did you mean {dash}{best}?" if best else ""


def require_no_truth_values(kind: type, options: Mapping[str, object], where: str) -> None:
    """Refuse a truth value where a field has none: YAML reads no, off, yes and on, unless quoted, as False and True.

    Raises:
        ValueError: There is one, such as the language `no`.
    """
    for field in (field for field in fields(kind) if field.name in options and "bool" not in str(field.type)):
        value = options[field.name]
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, bool):
                words = "'yes' or 'on'" if part else "'no' or 'off'"
                raise ValueError(
                    f"{where}: {field.name}: found {part}, expected a text or a number; YAML reads {words} without "
                    "quotes as a truth value: write it in quotes, or leave the key out"
                )


def _words(name: str, value: object, where: str) -> list[str]:
    if value is None or value is False:
        return []
    if value is True:
        return [f"--{name}"]
    if isinstance(value, dict):
        raise ValueError(f"{where}: {name}: found a mapping, expected a value or a list")
    return [f"--{name}", *map(str, value)] if isinstance(value, list) else [f"--{name}={value}"]


def _form(field) -> dict[str, object]:
    """Return how argparse reads a field."""
    kind = field.type
    if isinstance(kind, types.UnionType):
        kind = next(part for part in typing.get_args(kind) if part is not types.NoneType)
    if kind is bool:
        return {"action": "store_true"}
    form = {"choices": field.metadata["choices"]} if "choices" in field.metadata else {}
    parts = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return form | {"type": parts[0], "nargs": len(parts)}
    return form | ({"type": parts[0], "nargs": "*", "action": "extend"} if parts else {"type": kind})


def _help(field) -> str:
    default = field.default if field.default_factory is MISSING else " ".join(field.default_factory())
    told = "" if default in (MISSING, None, False, "") else f" (default {default})"
    return f"{field.metadata['help']}{told}".replace("%", "%%")


def option(default, help, choices=None):
    """Make a dataclass field with a default, for HfArgumentParser and `help_line`."""
    metadata = {"help": help} | ({"choices": choices} if choices else {})
    if isinstance(default, list):
        return dataclass_field(default_factory=lambda: list(default), metadata=metadata)
    return dataclass_field(default=default, metadata=metadata)


def help_line(f) -> str:
    """Return the line of --help on one dataclass field."""
    default = f.default if f.default_factory is MISSING else f.default_factory()
    state = "required" if default is MISSING else f"default {default}"
    choices = f" [{'|'.join(f.metadata['choices'])}]" if "choices" in f.metadata else ""
    return f"  --{f.name:<26}{f.metadata['help']}{choices} ({state})"
