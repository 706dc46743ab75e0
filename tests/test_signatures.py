"""No function takes more than five parameters, and none has more than sixty lines, in any room."""

import ast

import pytest

from tests.conftest import ROOT

MOST_PARAMETERS = 5
MOST_LINES = 60
ROOMS = sorted(path.parent.name for path in (ROOT / "product_relevance").glob("*/__init__.py"))


def parameters(function: ast.FunctionDef) -> int:
    """Count what a caller may give by name or place, without self and cls."""
    given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return sum(each.arg not in ("self", "cls") for each in given)


def functions_of(room: str):
    """Yield each function of a room with its name."""
    for path in sorted((ROOT / "product_relevance" / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.stem}.{node.name}", node


def test_every_room_is_looked_at():
    assert len(ROOMS) == 12


@pytest.mark.parametrize("room", ROOMS)
def test_a_function_has_five_parameters_at_most(room):
    assert not {name for name, function in functions_of(room) if parameters(function) > MOST_PARAMETERS}


@pytest.mark.parametrize("room", ROOMS)
def test_a_function_has_sixty_lines_at_most(room):
    assert not {name for name, node in functions_of(room) if node.end_lineno - node.lineno + 1 > MOST_LINES}
