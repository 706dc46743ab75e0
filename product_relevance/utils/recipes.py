"""Recipes: YAML files of flag names to values."""

from pathlib import Path


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


def load_recipe(path: Path) -> dict[str, object]:
    """Read a recipe; `read_options` checks its keys and values.

    Raises:
        ValueError: no such file, or not a YAML mapping.
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
    return recipe
