"""Rooms stand in one order: a file imports from its own room or one before it, in no circle; none is too large."""

import ast
from collections import Counter
from graphlib import TopologicalSorter

from tests.conftest import ROOT

# A dataset card is written where data is prepared, from the templates of the Hub's cards: so hub stands before it.
ROOMS = (
    *("utils", "text", "data", "evaluation", "models", "ensemble"),
    *("hub", "preparation", "training", "serving", "sharding", "cli"),
)
WITHOUT_TORCH = ("utils", "text", "data", "evaluation", "cli")
HEAVY = {"torch", "transformers", "peft", "datasets", "evaluate", "deepspeed", "huggingface_hub"}
PACKAGE = ROOT / "product_relevance"
MOST_FILES = 16  # of a room or a sub-room, beside its __init__
MOST_LINES = 300
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports_of(path, top: bool = False) -> set[str]:
    """Modules that a file imports, and names of them; with `top` only what loads with the file itself."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), set()
    for node in tree.body if top else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def own(path, top: bool = False) -> set[str]:
    return imports_of(path, top) & FILES.keys()


def test_rooms_import_in_one_order_and_files_in_no_circle():
    upward = [
        f"{name} imports {other}"
        for name, path in FILES.items()
        if "." in name
        for other in own(path)
        if "." in other and ROOMS.index(other.split(".")[1]) > ROOMS.index(name.split(".")[1])
    ]
    scripts = {"train_relevance", "push_to_hub", "dataset_scripts"}
    upward += [f"{name} imports a script" for name, path in FILES.items() if imports_of(path) & scripts]
    assert upward == []
    assert {path.relative_to(PACKAGE).parts[0] for path in FILES.values()} == {*ROOMS, "__init__.py"}
    graph = {name: own(path) - {name, "product_relevance"} for name, path in FILES.items() if "." in name}
    TopologicalSorter(graph).prepare()  # CycleError names the circle


def test_rooms_without_torch_load_nothing_heavy():
    found = {
        name: heavy
        for name, path in FILES.items()
        if name.split(".")[1:2] and name.split(".")[1] in WITHOUT_TORCH and "relevance_f1" not in name
        if (heavy := {module.split(".")[0] for module in imports_of(path, top=True)} & HEAVY)
    }
    assert found == {}


def test_rooms_and_files_stay_small():
    sizes = {
        path.relative_to(PACKAGE).as_posix(): len(path.read_text("utf-8").splitlines()) for path in FILES.values()
    }
    assert {name: lines for name, lines in sizes.items() if lines > MOST_LINES} == {}
    rooms = Counter(name.rpartition("/")[0] for name in sizes if not name.endswith("__init__.py"))
    assert {room: files for room, files in rooms.items() if files > MOST_FILES} == {}
