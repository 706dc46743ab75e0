"""Recipes: YAML files of flag names to values."""

import json
from dataclasses import fields
from pathlib import Path

from product_relevance.utils.options import own_names, require_known, require_no_truth_values, with_lists


def split_recipe(argv: list[str]) -> tuple[Path | None, list[str]]:
    """Take the recipe (the first argument, when it ends in .yaml or .yml) off the flags."""
    # a launcher such as `deepspeed` puts --local_rank first
    for i, word in enumerate(argv):
        if word.startswith("--local_rank=") or word.startswith("--local-rank="):
            continue
        if word.endswith((".yaml", ".yml")):
            return Path(word), argv[:i] + argv[i + 1 :]
        break
    return None, argv


def load_recipe(path: Path, types: tuple) -> dict:
    """Read a recipe; a key that is no flag is an error.

    Raises:
        ValueError: not a YAML mapping, an unknown key (with the nearest known one), or a truth value where none goes.
    """
    import yaml

    if not path.is_file():
        raise ValueError(f"{path}: no such recipe")
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {error}") from None
    if not isinstance(recipe, dict):
        raise ValueError(f"{path}: expected a mapping of flag names to values, found {type(recipe).__name__}")
    known = [f.name for kind in types for f in fields(kind) if f.init]
    for key in recipe:
        require_known(key, known, str(path), "key", own_names(types))
    for kind in types:
        require_no_truth_values(kind, recipe, str(path))
    return with_lists(recipe, types)


def as_flags(settings: dict) -> list[str]:
    """Turn a mapping into command-line words, so that recipes and flags pass the same parser."""
    words = []
    for key, value in settings.items():
        if value is None or value == []:
            continue
        values = value if isinstance(value, list) else [value]
        words += [f"--{key}", *(json.dumps(v) if isinstance(v, dict) else str(v) for v in values)]
    return words
