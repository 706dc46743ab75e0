"""Fill the marks `<!-- generated: NAME -->` of the reference pages from the code when mkdocs builds them."""

import argparse
import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path

ROOT = Path(__file__).parents[2]
MARK = re.compile(r"<!-- generated: ([\w-]+) -->")
LONGEST = 200  # characters of a line of a schema: the pattern of all language codes is longer, and says nothing
PLACES = [str(ROOT), str(ROOT / "dataset_scripts")]


def on_page_markdown(markdown: str, **_) -> str:
    """Replace each mark of a page by what its function makes of the code; mkdocs calls this for each page."""
    return MARK.sub(lambda mark: generated(mark.group(1)), markdown)


def generated(name: str) -> str:
    """Return the Markdown of a mark.

    Raises:
        KeyError: no function makes a part of this name.
    """
    sys.path[:0] = [place for place in PLACES if place not in sys.path]
    return MAKERS[name]()


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def training_arguments() -> str:
    """Return a table for each class of arguments of a training."""
    from product_relevance.training import arguments

    return "\n\n".join(f"## {kind.__name__}\n\n{kind.__doc__}\n\n{dataclass_table(kind)}" for kind in arguments.KINDS)


def training_defaults() -> str:
    """Return the table of transformers' own arguments whose default differs here."""
    from product_relevance.training.arguments import TRAINING_DEFAULTS

    return table(("flag", "default here"), [(f"`--{k}`", f"`{_value(v)}`") for k, v in TRAINING_DEFAULTS.items()])


def publish_arguments() -> str:
    """Return the table of the flags of `push_to_hub.py`."""
    return dataclass_table(importlib.import_module("push_to_hub").PublishArguments)


def dataclass_table(kind: type) -> str:
    """Return a table of the fields of a dataclass that are flags: name, default, values, help."""
    flags = [field for field in fields(kind) if "help" in field.metadata]
    flags.sort(key=lambda field: not field.default is field.default_factory is MISSING)  # what is required comes first
    return table(("flag", "default", "what it is"), [_field(field) for field in flags])


def _field(field: Field) -> tuple[str, str, str]:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    shown = "required" if default is MISSING else f"`{_value(default)}`" if default not in (None, []) else ""
    return f"`--{field.name}`", shown, field.metadata["help"] + _choices(field.metadata.get("choices"))


def _choices(choices) -> str:
    return f" ({', '.join(f'`{choice}`' for choice in choices)})" if choices else ""


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def commands() -> str:
    """Return a section for each subcommand of `relevance`."""
    from product_relevance.cli.main import make_parser

    return "\n\n".join(section("relevance", parser) + _link_to_flags(parser) for parser in subparsers(make_parser()))


def _link_to_flags(parser: argparse.ArgumentParser) -> str:
    """Link a subcommand that is a script to the table of its flags; return nothing for the others."""
    from product_relevance.cli.scripts import SCRIPTS

    name = parser.prog.split()[-1]
    if name not in SCRIPTS:
        return ""
    script = Path(SCRIPTS[name][0])
    anchor = f"#{script.stem}py"  # what mkdocs makes of the heading `script.py`
    page = {"train": "arguments.md", "push": anchor}.get(name, f"programs.md{anchor}")
    return f"\n\nIts flags: [`{script.name}`]({page})."


def subparsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Give the parsers of all subcommands, in the order of --help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def programs() -> str:
    """Return a section for each program of dataset_scripts/."""
    names = [
        path.stem for path in sorted((ROOT / "dataset_scripts").glob("*.py")) if "def make_parser" in path.read_text()
    ]
    return "\n\n".join(section(f"{name}.py", importlib.import_module(name).make_parser(), name) for name in names)


def section(program: str, parser: argparse.ArgumentParser, name: str = "") -> str:
    """Return heading, purpose and flags of a program, and of its own subcommands below it."""
    title = name or parser.prog.split()[-1]
    whole = program if name else f"{program} {title}"
    text = [f"## {whole}", (parser.description or "").strip()]
    if rows := [_action(action) for action in parser._actions if _is_shown(action)]:
        text.append(table(("argument", "what it is"), rows))
    for child in subparsers(parser):
        text.append("#" + section(whole, child))
    return "\n\n".join(part for part in text if part)


def _is_shown(action: argparse.Action) -> bool:
    hidden = isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    return not hidden and action.help is not argparse.SUPPRESS


def _action(action: argparse.Action) -> tuple[str, str]:
    name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
    text = (action.help or "").replace("%%", "%")
    default = action.default
    shown = default not in (None, False, argparse.SUPPRESS, []) and "default" not in text
    return f"`{name}`", text + _choices(action.choices) + (f" (default {_value(default)})" if shown else "")


def http_api() -> str:
    """Return the endpoints of the server with the JSON schema of what they take and give."""
    from product_relevance.serving.http.openapi import describe_endpoints
    from product_relevance.serving.protocol import Limits

    named = {"f1": 0.5, "macro_f1": 0.5}
    text = []
    for name, endpoint in describe_endpoints(Limits(), named, "QC").items():
        if name == "metrics":
            continue
        responses = endpoint["responses"]
        text.append(f"### {'GET' if name == 'health' else 'POST'} /{name}")
        if "openapi_extra" in endpoint:
            body = endpoint["openapi_extra"]["requestBody"]["content"]["application/json"]["schema"]
            text.append(_schema("Request", body))
        text.append(_schema("Answer", responses[200]["content"]["application/json"]["schema"]))
    return "\n\n".join(text)


def http_errors() -> str:
    """Return the table of the statuses of failed requests."""
    from product_relevance.serving.http.openapi import ERRORS

    return table(("status", "what it means"), [(str(code), text) for code, text in ERRORS.items()])


def _schema(title: str, schema: dict) -> str:
    lines = json.dumps(schema, indent=2, ensure_ascii=False).splitlines()
    lines = [line for line in lines if len(line) < LONGEST]
    return "\n".join([f'??? note "{title}: JSON schema"', "", "    ```json", *(f"    {x}" for x in lines), "    ```"])


MAKERS: dict[str, Callable[[], str]] = {
    "training-arguments": training_arguments,
    "training-defaults": training_defaults,
    "publish-arguments": publish_arguments,
    "commands": commands,
    "programs": programs,
    "http-api": http_api,
    "http-errors": http_errors,
}
