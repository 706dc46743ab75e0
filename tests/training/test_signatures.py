"""No function takes more than five parameters; where a room still has some, they are listed."""

import ast

import pytest

from tests.conftest import ROOT

MOST = 5
# Still over it: these lists only get shorter.
OVER: dict[str, set[str]] = {
    "training": set(),
    "ensemble": set(),
    "data": set(),
    "evaluation": set(),
    "preparation": set(),
    "sharding": set(),
    "text": set(),
}


def parameters(function: ast.FunctionDef) -> int:
    """Count what a caller may give by name or place, without self and cls."""
    given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return sum(each.arg not in ("self", "cls") for each in given)


def too_long(room: str) -> set[str]:
    found = set()
    for path in sorted((ROOT / "product_relevance" / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and parameters(node) > MOST:
                found.add(f"{path.stem}.{node.name}")
    return found


@pytest.mark.parametrize("room", OVER)
def test_a_function_has_five_parameters_at_most(room):
    assert too_long(room) == OVER[room]
