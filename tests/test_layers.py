"""Dependencies point one way: a file imports from its own layer or a lower one, and the lower ones need no torch."""

import ast

import pytest
from conftest import ROOT

LAYERS = [
    {"files"},
    {"defects", "arguments", "embedded", "outcomes", "taxonomy"},
    {"sources"},
    {"checks"},
    {"records", "cleaning", "metrics", "figures"},
    {"languages", "translation", "submission", "columns", "report"},
    {"templates", "folds"},
    {"leakage", "data", "run"},
    {"splits"},
    {"distributed", "batching", "pooling"},
    {"modeling"},
    {"adapters", "predictor", "trainer"},
    {"bases"},
    {"training_run", "ensemble"},
    {"prediction"},
    {"evaluation"},
    {"cli"},
]
WITHOUT_TORCH = LAYERS[:9]
PACKAGE = ROOT / "product_relevance"


def imports_of(path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def top_imports_of(path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return {(n.module or "") if isinstance(n, ast.ImportFrom) else n.names[0].name for n in top}


def modules() -> dict:
    return {path.stem: path for path in PACKAGE.glob("*.py") if path.stem != "__init__"}


def test_every_file_has_a_layer():
    assert set(modules()) == set().union(*LAYERS)


@pytest.mark.parametrize("name", sorted(set().union(*LAYERS)))
def test_a_file_imports_nothing_from_above(name):
    height = {module: i for i, layer in enumerate(LAYERS) for module in layer}
    for imported in imports_of(modules()[name]):
        parts = imported.split(".")
        if parts[0] == "product_relevance" and len(parts) > 1 and parts[1] in height:
            assert height[parts[1]] <= height[name], f"{name} imports {parts[1]}, which is above it"
        assert parts[0] not in ("train_relevance", "push_to_hub", "dataset_scripts"), name


@pytest.mark.parametrize("name", sorted(set().union(*WITHOUT_TORCH)))
def test_the_lower_layers_load_without_torch_and_transformers(name):
    heavy = {"torch", "transformers", "peft", "datasets", "evaluate", "deepspeed", "huggingface_hub"}
    assert not {module.split(".")[0] for module in top_imports_of(modules()[name])} & heavy
