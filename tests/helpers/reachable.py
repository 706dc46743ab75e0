"""Which functions a program can reach, read from the sources: what is named in a reached body is reached too.

A class is one unit with all its methods, so more is reached than runs: a claim about all that is reached is safe.
"""

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tests.conftest import ROOT

PACKAGE = "product_relevance"


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def file_of(module: str) -> Path | None:
    """The file of a module of this project; None for a foreign one."""
    place = ROOT / (module.replace(".", "/") + ".py")
    package = ROOT / module.replace(".", "/") / "__init__.py"
    return place if place.is_file() else package if package.is_file() and module.startswith(PACKAGE) else None


@cache
def units(module: str) -> dict[str, ast.stmt]:
    """Functions, classes and assigned names of a module's top level."""
    found = {}
    for node in parsed(file_of(module)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        for name in ast.walk(node) if isinstance(node, ast.Assign | ast.AnnAssign) else ():
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                found[name.id] = node
    return found


def imports(tree: ast.AST, deep: bool) -> dict[str, tuple[str, str | None]]:
    """Local name to (module, name in it or None) of the imports of this project's modules."""
    found = {}
    nodes = ast.walk(tree) if deep else ast.iter_child_nodes(tree)
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and file_of(node.module):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found[alias.asname or alias.name] = (inner, None) if file_of(inner) else (node.module, alias.name)
    return found


def named_in(module: str, unit: ast.AST) -> Iterable[tuple[str, str]]:
    """(module, name) of all units of this project that a body names."""
    known = imports(parsed(file_of(module)), deep=False) | imports(unit, deep=True)
    for node in ast.walk(unit):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            place, name = known[node.value.id]
            yield (place, node.attr) if name is None else (place, name)
        elif isinstance(node, ast.Name):
            place, name = known.get(node.id, (module, node.id))
            if name is not None:
                yield place, name


def reached(start: Iterable[tuple[str, str]]) -> dict[tuple[str, str], ast.stmt]:
    """Return all units that are reached from some, with their syntax trees."""
    todo, found = list(start), {}
    while todo:
        module, name = todo.pop()
        if (module, name) in found or name not in units(module):
            continue
        found[module, name] = units(module)[name]
        todo += named_in(module, found[module, name])
    return found


def texts(unit: ast.AST) -> list[str]:
    """The string literals of a body, an f-string as one with {} for each value; no docstrings."""
    docs = set()
    for node in ast.walk(unit):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node, clean=False) is not None:
            docs.add(node.body[0].value)
    inner = {part for node in ast.walk(unit) if isinstance(node, ast.JoinedStr) for part in node.values}
    found = []
    for node in ast.walk(unit):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docs | inner:
            found.append(node.value)
    return found
