"""Dataclasses of options as flags of a program and as mappings of a recipe, both through one parser."""

import argparse
import difflib
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, fields


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise ValueError(f"{self.prog}: {message}")


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
    return vars(parser.parse_args([word for name, value in options.items() for word in _words(name, value, where)]))


def require_known(name: object, known: Iterable[str], where: str, what: str = "name") -> None:
    """Refuse an unknown name and tell the nearest known one.

    Raises:
        ValueError: It is unknown.
    """
    known = list(known)
    if name not in known:
        near = difflib.get_close_matches(str(name), known, 1)
        raise ValueError(f"{where}: unknown {what} {name!r}{f'; did you mean {near[0]}?' if near else ''}")


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
