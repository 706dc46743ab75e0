"""Dependencies point one way: a file imports from its own layer or a lower one, and the lower ones need no torch."""

import ast

import pytest
from conftest import ROOT

LAYERS = [
    {
        "files",
        "build_locks",
        "console",
        "extras",
        "reading",
        "one_line",
        "nearest",
        "batcher",
        "flags",
        "other_names",
        "tasks",
        "language_codes",
        "pairs",
        "intervals",
    },
    {"defects", "arguments", "recipe", "embedded", "outcomes", "taxonomy", "hub", "prompt"},
    {"tables", "weights", "base_faults", "markdown_tables", "reliability"},
    {"sources", "delimited", "adapter_form"},
    {"checks", "path_forms"},
    {"records", "cleaning", "metrics", "figures", "shaping", "bundle", "calibration", "thresholds", "prompt_tokens"},
    {"checkpoints", "converted", "translation_cache"},
    {"languages", "translation", "submission", "columns", "report", "provenance", "info"},
    {"seq2seq", "few_shot", "translation_checks", "payloads", "openapi"},
    {"templates", "folds", "translators", "translation_quality", "coverage", "noise"},
    {"explore", "drift", "explore_figures", "explore_report", "markdown"},
    {"leakage", "data", "ancestors", "run", "shards", "summary", "candidates", "manifest_form", "nested"},
    {"splits", "negatives", "decisions", "label_noise", "review", "manifest", "locate", "canaries"},
    {"wrapped", "heads"},
    {"distributed", "batching", "pooling", "yes_no", "language_model", "card_facts", "filtering", "parts"},
    {"modeling", "safe_trainer", "path_levels", "card_results", "card_form", "onnx_graph"},
    {"earlier", "objectives", "micro_batches", "memory", "prefixes", "prefix_cache", "prefix_batches"},
    {"checkpoint_record", "attention", "adapter_fit"},
    {"adapters", "predictor", "quantized", "trainer", "encoder", "merging", "scoring", "model_card", "data_card"},
    {"first_stage", "run_base", "trunk", "before_training", "resume", "out_of_fold"},
    {"bases"},
    {"training_run", "ensemble"},
    {"outputs"},
    {"prediction", "language_stage", "export", "handler", "connections", "server", "staging", "steps", "preparation"},
    {"evaluation", "stacking", "teacher", "take"},
    {"shard_runner", "shard_jobs", "unlabelled"},
    {"additions"},
    {"commands"},
    {"cli"},
]
WITHOUT_TORCH = LAYERS[:13]
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
