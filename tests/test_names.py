"""A public function says what it does where it is imported: no name of a module is one bare common verb."""

import ast

import pytest

from tests.conftest import ROOT

VERBS = "accept add answer append apply build calculate call check choose claim clean close collect compare compute"
VERBS += " convert copy count create decide delete derive describe divide draw encode evaluate explain export fetch"
VERBS += (
    " fill filter find fit format gather get give hash identify join list load look lookup make measure merge move"
)
VERBS += " normalise open pack parse pick prepare print publish put read refuse remove render require review run"
VERBS += " save score scrub serve set share show sort split start stop take tell tokenise train translate update"
VERBS += " fingerprint quantize use vary wait watch write zip predict rank stack stage"
# A bare verb that says enough, with its reason.
ALLOWED = {
    "training.train.train": "the public name of a training in Python: `from product_relevance import train`",
    "preparation.pipeline.prepare": "the counterpart of `train` for a data recipe",
}


def bare_verbs(room: str) -> set[str]:
    """Return the public functions of a room's modules whose name is one verb without a noun."""
    found = set()
    for path in sorted((ROOT / "product_relevance" / room).rglob("*.py")):
        module = ".".join(path.relative_to(ROOT / "product_relevance").with_suffix("").parts)
        functions = ast.parse(path.read_text(encoding="utf-8")).body
        names = {node.name for node in functions if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        found |= {f"{module}.{name}" for name in names & set(VERBS.split())}
    return found


ROOMS = sorted(path.parent.name for path in (ROOT / "product_relevance").glob("*/__init__.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_a_public_function_is_a_verb_with_a_noun(room):
    excused = {name for name in ALLOWED if name.startswith(f"{room}.")}
    assert bare_verbs(room) == excused, f"give a name that says what it does where it is imported, beside {excused}"
